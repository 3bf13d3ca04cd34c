"""Windows summed up by minute, hour and day, for each device and bundle and for the whole fleet.

A worker takes windows in the order of arrival and remembers, in the transaction that adds them, up to
which it has come: each is counted once, whatever happens in between. Time is the server's, by arrival.
A device has no sums by minute: its windows are about a minute long, and are there themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import Connection, Row, Text, cast, select

from edge_fleet.schema import meta, rollups, windows
from edge_fleet.storage.bulk import insert_many, json_text, rows_of, update_many
from edge_fleet.store import upsert

MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
STEPS_S = (MINUTE_S, HOUR_S, DAY_S)
FLEET = ""
WINDOWS_PER_STEP = 1_000

_POSITION = "rolled_up"  # in `meta`: id of the last window that was added
_KEY = ("step_s", "start_ms", "device", "bundle")
_SUMS = (
    *("windows", "duration_ms", "inferences", "errors", "refused", "golden_total", "golden_agree"),
    *("labelled", "correct", "uncertain", "drifting", "cpu_s"),
)
_LARGEST = ("rss_bytes", "temperature_c")
_COLUMNS = (*_SUMS, *_LARGEST, "latency", "scalars")

# JSON as text: parsed by orjson, and only where it is needed
_WINDOWS = select(
    *(windows.c[name] for name in ("id", "device", "bundle", "received_ms", "merged", "duration_ms")),
    *(windows.c[name] for name in ("inferences", "errors", "refused", "golden_total", "golden_agree")),
    *(windows.c[name] for name in ("cpu_s", "rss_bytes", "child_rss_bytes", "temperature_c", "epsilon")),
    *(cast(windows.c[name], Text).label(name) for name in ("lineup", "drifting", "latency", "scalars")),
)

Key = tuple[int, int, str, str]  # step_s, start_ms, device, bundle


@dataclass
class Sum:
    """What some windows add up to."""

    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_SUMS, 0))
    largest: dict[str, float | None] = field(default_factory=lambda: dict.fromkeys(_LARGEST))
    latency: dict[str, int] = field(default_factory=dict)
    scalars: dict[str, list[int]] = field(default_factory=dict)

    def add(
        self,
        sums: Mapping[str, float],
        largest: Mapping[str, float | None],
        latency: Mapping[str, int],
        scalars: Mapping[str, Sequence[int]],
    ) -> None:
        """Take more in."""
        for name, value in sums.items():
            self.sums[name] += value
        for name, found in largest.items():
            before = self.largest[name]
            self.largest[name] = found if before is None else before if found is None else max(before, found)
        for index, count in latency.items():
            self.latency[index] = self.latency.get(index, 0) + count
        for name, counts in scalars.items():
            kept = self.scalars.get(name)
            if kept is None:
                self.scalars[name] = list(counts)
            elif len(kept) == len(counts):
                self.scalars[name] = [a + b for a, b in zip(kept, counts, strict=True)]

    def values(self) -> tuple[Any, ...]:
        """Of _COLUMNS."""
        return (
            *(int(self.sums[name]) if name != "cpu_s" else self.sums[name] for name in _SUMS),
            int(self.largest["rss_bytes"] or 0),
            self.largest["temperature_c"],
            json_text(self.latency),
            json_text(self.scalars),
        )


def roll_up(connection: Connection, most: int = WINDOWS_PER_STEP) -> int:
    """Add the next windows to their sums; returns how many: 0 when none is left."""
    position = rolled_up_to(connection)
    rows = connection.execute(
        _WINDOWS.where(windows.c.id > position).order_by(windows.c.id).limit(most)
    ).all()
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


def rolled_up_to(connection: Connection) -> int:
    """Id of the last window that is in the sums."""
    found = connection.execute(select(meta.c.value).where(meta.c.key == _POSITION)).scalar()
    return int(found or 0)


def series(
    connection: Connection,
    step_s: int,
    since_ms: int,
    device: str = FLEET,
    bundle: str | None = None,
) -> Sequence[Row[Any]]:
    """Sums of a device, or of the fleet, oldest first.

    Args:
        step_s: One of STEPS_S; a device has no minutes.
    """
    own = rollups.c
    query = select(rollups).where(
        own.step_s == step_s, own.device == device, own.start_ms >= since_ms - step_s * 1000
    )
    if bundle is not None:
        query = query.where(own.bundle == bundle)
    return connection.execute(query.order_by(own.start_ms, own.bundle)).all()


def _sums(rows: Iterable[Row[Any]]) -> dict[Key, Sum]:
    """First by minute, device and bundle: each window is taken up once, all the rest comes from those."""
    finest: dict[tuple[int, str, str], Sum] = {}
    for row in rows:
        lineup = orjson.loads(row.lineup) if row.lineup else {}
        if lineup.get("role") == "second":  # it sees only what another model was unsure of
            continue
        sums = {
            "windows": row.merged,
            "duration_ms": row.duration_ms,
            "inferences": row.inferences,
            "errors": row.errors,
            "refused": row.refused,
            "golden_total": row.golden_total,
            "golden_agree": row.golden_agree,
            "labelled": lineup.get("labelled", 0),
            "correct": lineup.get("correct", 0),
            "uncertain": lineup.get("uncertain", 0),
            "drifting": int(row.drifting != "[]"),
            "cpu_s": row.cpu_s,
        }
        largest = {"rss_bytes": row.rss_bytes + row.child_rss_bytes, "temperature_c": row.temperature_c}
        scalars = {} if row.epsilon is not None else orjson.loads(row.scalars)
        one = finest.setdefault((row.received_ms // 60_000, row.device, row.bundle), Sum())
        one.add(sums, largest, orjson.loads(row.latency), scalars)
    found: dict[Key, Sum] = {}
    for (minute, own, bundle), part in finest.items():
        where = [(step_s, FLEET) for step_s in STEPS_S]
        for step_s, device in (*where, (HOUR_S, own), (DAY_S, own)):
            start_ms = minute * 60_000 // (step_s * 1000) * (step_s * 1000)
            one = found.setdefault((step_s, start_ms, device, bundle), Sum())
            one.add(part.sums, part.largest, part.latency, part.scalars)
    return found


def _stored(values: Sequence[Any]) -> tuple[Any, Any, Any, Any]:
    *numbers, latency, scalars = values
    named = dict(zip((*_SUMS, *_LARGEST), numbers, strict=True))
    return (
        {name: named[name] for name in _SUMS},
        {name: named[name] for name in _LARGEST},
        _parsed(latency),
        _parsed(scalars),
    )


def _parsed(value: Any) -> Any:
    """The drivers differ: SQLite's gives JSON as text, PostgreSQL's has parsed it."""
    return orjson.loads(value) if isinstance(value, str) else value
