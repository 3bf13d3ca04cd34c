"""Windows summed up by minute, hour and day, for each device and bundle and for the whole fleet.

A worker takes windows in the order of arrival and remembers, in the transaction that adds them, up to
which it has come: each is counted once, whatever happens in between. Time is the server's, by arrival.
A device has no sums by minute: its windows are about a minute long, and are there themselves.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import Connection, Row, Text, cast, func, select

from edge_fleet.schema import meta, rollups, windows
from edge_fleet.storage.bulk import insert_many, json_text, rows_of, update_many
from edge_fleet.store import upsert

MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
STEPS_S = (MINUTE_S, HOUR_S, DAY_S)
FLEET = ""
WINDOWS_PER_STEP = 1_000

_POSITION = "rolled_up"  # in `meta`: id of the last window that was added
_KEY = ("step_s", "start_ms", "device", "bundle")
# columns that add up, with what they come from in `windows`, and in its column `lineup`
_FROM_WINDOWS = {
    "windows": "merged",
    **{name: name for name in ("duration_ms", "inferences", "errors", "refused", "golden_total")},
    **{name: name for name in ("golden_agree", "cpu_s")},
}
_FROM_LINEUP = ("labelled", "correct", "uncertain")
_SUMS = (*_FROM_WINDOWS, *_FROM_LINEUP, "drifting")
_COLUMNS = (*_SUMS, "rss_bytes", "temperature_c", "latency", "scalars")

# JSON as text: parsed by orjson, and only where it is needed
_OTHERS = ("device", "bundle", "received_ms", "epsilon", "temperature_c")
_WINDOWS = select(
    windows.c.id,
    *(windows.c[name] for name in _OTHERS),
    *(cast(windows.c[name], Text).label(name) for name in ("lineup", "drifting", "latency", "scalars")),
    windows.c.rss_bytes + windows.c.child_rss_bytes,
    *(windows.c[name] for name in _FROM_WINDOWS.values()),
)

Key = tuple[int, int, str, str]  # step_s, start_ms, device, bundle


@dataclass
class Sum:
    """What some windows add up to.

    Args:
        sums: In the order of _SUMS.
        rss_bytes, temperature_c: The largest.
    """

    sums: Sequence[float] = (0,) * len(_SUMS)
    rss_bytes: int = 0
    temperature_c: float | None = None
    latency: dict[str, int] = field(default_factory=dict)
    scalars: dict[str, Sequence[int]] = field(default_factory=dict)

    def add(
        self,
        sums: Sequence[float],
        rss_bytes: int,
        temperature_c: float | None,
        latency: Mapping[str, int],
        scalars: Mapping[str, Sequence[int]],
    ) -> None:
        """Take more in."""
        self.sums = list(map(operator.add, self.sums, sums))
        self.rss_bytes = max(self.rss_bytes, rss_bytes)
        if temperature_c is not None:
            before = self.temperature_c
            self.temperature_c = temperature_c if before is None else max(before, temperature_c)
        kept = self.latency
        for index, count in latency.items():
            kept[index] = kept.get(index, 0) + count
        for name, counts in scalars.items():
            found = self.scalars.get(name)
            if found is None:
                self.scalars[name] = counts
            elif len(found) == len(counts):
                self.scalars[name] = list(map(operator.add, found, counts))

    def values(self) -> tuple[Any, ...]:
        """Of _COLUMNS."""
        rounded = (
            value if name == "cpu_s" else int(value) for name, value in zip(_SUMS, self.sums, strict=True)
        )
        return (
            *rounded,
            self.rss_bytes,
            self.temperature_c,
            json_text(self.latency),
            json_text(self.scalars),
        )


def roll_up(connection: Connection, most: int = WINDOWS_PER_STEP) -> int:
    """Add the next windows to their sums; returns how many: 0 when none is left."""
    position = rolled_up_to(connection)
    rows = _after(connection, position, most)
    if not rows and position and _numbers_began_anew(connection, position):
        rows = _after(connection, 0, most)
    if not rows:
        return 0
    found = _sums(rows)
    kept = rows_of(connection, rollups, _KEY, list(found), (*_KEY, *_COLUMNS))
    for row in kept:
        found[row[0], row[1], row[2], row[3]].add(*_stored(row[4:]))
    there = {tuple(row[:4]) for row in kept}
    update_many(
        connection,
        rollups,
        _KEY,
        _COLUMNS,
        [(*one.values(), *key) for key, one in found.items() if key in there],
    )
    insert_many(
        connection,
        rollups,
        (*_KEY, *_COLUMNS),
        [(*key, *one.values()) for key, one in found.items() if key not in there],
    )
    upsert(connection, meta, {"key": _POSITION, "value": str(rows[-1].id)}, ["key"])
    return len(rows)


def _after(connection: Connection, position: int, most: int) -> Sequence[Row[Any]]:
    wanted = _WINDOWS.where(windows.c.id > position).order_by(windows.c.id).limit(most)
    return list(connection.execute(wanted))


def _numbers_began_anew(connection: Connection, position: int) -> bool:
    """Whether all windows that are there came after the table had been emptied.

    Releases of before emptied it where every window was past its time, and SQLite began at 1 again.
    """
    newest = connection.execute(select(func.max(windows.c.id))).scalar()
    return newest is not None and newest < position


def rolled_up_to(connection: Connection) -> int:
    """Id of the last window that is in the sums."""
    found = connection.execute(select(meta.c.value).where(meta.c.key == _POSITION)).scalar()
    return int(found or 0)


def series(connection: Connection, step_s: int, since_ms: int, device: str = FLEET) -> Sequence[Row[Any]]:
    """Sums of a device, or of the fleet, oldest first.

    Args:
        step_s: One of STEPS_S; a device has no minutes.
    """
    own = rollups.c
    query = select(rollups).where(
        own.step_s == step_s, own.device == device, own.start_ms >= since_ms - step_s * 1000
    )
    return connection.execute(query.order_by(own.start_ms, own.bundle)).all()


def _sums(rows: Iterable[Sequence[Any]]) -> dict[Key, Sum]:
    """First by minute, device and bundle: each window is taken up once, all the rest comes from those."""
    finest: dict[tuple[int, str, str], Sum] = {}
    for row in rows:
        _, device, bundle, received_ms, epsilon, temperature_c, lineup, drifting, latency, scalars = row[:10]
        counts = orjson.loads(lineup) if lineup else {}
        if counts.get("role") == "second":  # it sees only what another model was unsure of
            continue
        where = received_ms // 60_000, device, bundle
        one = finest.get(where)
        if one is None:
            one = finest[where] = Sum()
        one.add(
            (*row[11:], *(counts.get(name, 0) for name in _FROM_LINEUP), int(drifting != "[]")),
            row[10],
            temperature_c,
            orjson.loads(latency),
            orjson.loads(scalars) if epsilon is None and scalars != "{}" else {},
        )
    found: dict[Key, Sum] = {}
    for (minute, own, bundle), part in finest.items():
        fleet = [(step_s, FLEET) for step_s in STEPS_S]
        for step_s, device in (*fleet, (HOUR_S, own), (DAY_S, own)):
            start_ms = minute * 60_000 // (step_s * 1000) * (step_s * 1000)
            key = step_s, start_ms, device, bundle
            if key not in found:
                found[key] = Sum()
            found[key].add(part.sums, part.rss_bytes, part.temperature_c, part.latency, part.scalars)
    return found


def _stored(values: Sequence[Any]) -> tuple[Sequence[float], int, float | None, Any, Any]:
    """Values of _COLUMNS as `Sum.add` takes them."""
    *sums, rss_bytes, temperature_c, latency, scalars = values
    return sums, rss_bytes, temperature_c, _parsed(latency), _parsed(scalars)


def _parsed(value: Any) -> Any:
    """The drivers differ: SQLite's gives JSON as text, PostgreSQL's has parsed it."""
    return orjson.loads(value) if isinstance(value, str) else value
