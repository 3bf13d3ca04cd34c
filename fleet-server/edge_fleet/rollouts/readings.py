"""Telemetry as a rollout's gates read it: windows of the database, and what manifests promise."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby, islice
from sys import intern
from typing import Any

from sqlalchemy import Connection, Row, exists, func, select

from edge_contracts.manifest import Manifest
from edge_contracts.sketch import QuantileSketch
from edge_fleet.evidence import BundleFacts, Member
from edge_fleet.gathering import Gathering
from edge_fleet.reading import Reading
from edge_fleet.schema import bundles, devices, windows

# How far back windows of the release before are looked at: a day has every hour's light and load.
LOOKBACK_MS = 86_400_000
# Of that day so many are read at most, drawn from all of it: a fleet of a thousand that reports every minute
# has 1.4 million, which take minutes to read. What they say is a comparison, and no surer for being more.
MOST_BEFORE = 100_000
DEVICES_AT_ONCE = 200  # below every SQLite's limit of variables
WINDOWS_AT_ONCE = 500
_PRIME, _STRIDE = 1_000_003, 618_035
_NONE = QuantileSketch()


def load_facts(connection: Connection, digests: Iterable[str]) -> dict[str, BundleFacts]:
    """What the gates need of some bundles' manifests."""
    facts = {}
    for row in connection.execute(select(bundles).where(bundles.c.digest.in_(list(digests)))):
        manifest = Manifest.model_validate_json(row.manifest)
        facts[row.digest] = BundleFacts(
            row.digest, row.profile, manifest.baseline, manifest.gates.latency_p95_ms
        )
    return facts


@dataclass(frozen=True)
class Wanted:
    """Which windows may be evidence: of the new bundles, and of the previous ones for a day before.

    Those of a second model are left out: it sees only what another model was unsure of.

    Args:
        new, old: Bundles: those that devices were assigned, and those before them.
        started_ms: Of the rollout.
        drawn: Of the day before so many in _PRIME are read.
    """

    new: tuple[str, ...]
    old: tuple[str, ...]
    started_ms: int
    drawn: int = _PRIME

    @cached_property
    def since_ms(self) -> Mapping[str, int]:
        """From when on windows of each bundle count."""
        return dict.fromkeys(self.old, self.started_ms - LOOKBACK_MS) | dict.fromkeys(
            self.new, self.started_ms
        )

    def takes(self, row: Row[Any]) -> bool:
        """Whether a row of `windows` is one of these."""
        since_ms = self.since_ms.get(row.bundle)
        if since_ms is None or row.received_ms < since_ms:
            return False
        if row.received_ms < self.started_ms and _spread(row.id) >= self.drawn:
            return False
        return bool((row.lineup or {}).get("role") != "second")


def want(
    connection: Connection, members: Sequence[Member], started_ms: int, most_before: int = MOST_BEFORE
) -> Wanted:
    """The windows that some devices of a rollout ask for.

    Args:
        most_before: Of the day before, about so many are drawn where there are more.
    """
    wanted = Wanted(*_bundles(members), started_ms)
    if not wanted.old:
        return wanted
    own = windows.c
    before = own.received_ms.between(started_ms - LOOKBACK_MS, started_ms - 1)
    query = select(func.count()).where(own.bundle.in_(wanted.old), before)
    count = connection.execute(query).scalar_one()
    # devices report in turns: by every so-many-th row some would be left out, by squares none is
    return replace(wanted, drawn=_PRIME * most_before // count) if count > most_before else wanted


def read(
    connection: Connection, wanted: Wanted, newest: int, since_s: Mapping[str, float] | None = None
) -> Iterator[tuple[str, list[Reading]]]:
    """Windows by device, a portion at a time, in the order of their arrival: never all of them in memory.

    Args:
        newest: Id of the last row that is read.
        since_s: Devices, and from when on each is read, Unix seconds; None: everybody, and all.
    """
    begins_ms = min(wanted.since_ms.values(), default=0)
    names_since: dict[float, list[str]] = {}
    if since_s is None:
        names_since[-math.inf] = _reporting(connection, wanted.since_ms, begins_ms)
    else:
        for name, at_s in since_s.items():
            names_since.setdefault(at_s, []).append(name)
    for at_s, names in names_since.items():
        # a millisecond is more than what is lost of one in seconds
        at_ms = begins_ms if at_s == -math.inf else max(begins_ms, math.floor(at_s * 1000) - 1)
        for start in range(0, len(names), DEVICES_AT_ONCE):
            rows = _rows(connection, names[start : start + DEVICES_AT_ONCE], at_ms, newest)
            taken = (reading_of(row) for row in rows if wanted.takes(row))
            for name, found in groupby((one for one in taken if one.received_s >= at_s), _device_of):
                while portion := list(islice(found, WINDOWS_AT_ONCE)):
                    yield name, portion


def _reporting(connection: Connection, bundles_: Iterable[str], begins_ms: int) -> list[str]:
    """The devices that have told of any of some bundles."""
    own = windows.c
    told = exists().where(
        own.device == devices.c.id, own.bundle.in_(list(bundles_)), own.received_ms >= begins_ms
    )
    return [str(row.id) for row in connection.execute(select(devices.c.id).where(told))]


def _rows(connection: Connection, names: Sequence[str], since_ms: int, newest: int) -> Iterable[Row[Any]]:
    """Some devices' windows one after the other, in the order of the index."""
    own = windows.c
    query = (
        select(windows)
        .where(own.device.in_(names), own.received_ms >= since_ms, own.id <= newest)
        .order_by(own.device, own.received_ms, own.id)
        .execution_options(stream_results=True, yield_per=WINDOWS_AT_ONCE)
    )
    return connection.execute(query)


class SeenReadings:
    """What is kept of one rollout's windows between looks: sums by device (`gathering.py`), and no window.

    Each look takes in the windows that arrived since the one before; where other bundles, or another
    beginning, are asked for, everything is read anew. It is in memory only: a server that starts again
    reads everything once.
    """

    def __init__(self) -> None:
        """Nothing was seen."""
        self.gathering = Gathering()
        self._members: Sequence[Member] | None = None
        self._wanted: Wanted | None = None
        self._last_id = 0

    @property
    def bundles(self) -> list[str]:
        """Those that the last look asked for: new ones, and those before them."""
        return [] if self._wanted is None else [*self._wanted.new, *self._wanted.old]

    @contextmanager
    def look(self, connection: Connection, members: Sequence[Member], started_ms: int) -> Iterator[Since]:
        """What arrived since the last look, to be gathered; where that fails, the next one begins anew."""
        wanted = self._wanted
        if members is not self._members or wanted is None:
            new, old = _bundles(members)
            if wanted is None or (wanted.new, wanted.old, wanted.started_ms) != (new, old, started_ms):
                wanted = want(connection, members, started_ms)
        newest = connection.execute(select(func.max(windows.c.id))).scalar() or 0
        last = self._last_id if wanted is self._wanted else None
        if last is None:
            self.gathering = Gathering()
        self._wanted, self._members, self._last_id = wanted, members, newest
        try:
            yield Since(connection, wanted, last, newest)
        except BaseException:
            self._wanted = None  # some of it was taken in
            raise


@dataclass(frozen=True)
class Since:
    """Windows of the database, as `gathering.py` takes them in.

    Args:
        last: Id of the last row that was taken; None: none was.
        newest: Id of the last row that is there.
    """

    connection: Connection
    wanted: Wanted
    last: int | None
    newest: int

    def fresh(self) -> Iterable[tuple[str, Sequence[Reading]]]:
        """By row ids alone: an index of bundles would lead through all that is known already."""
        if self.last is None:
            return read(self.connection, self.wanted, self.newest)
        own = windows.c
        rows = self.connection.execute(
            select(windows).where(own.id > self.last, own.id <= self.newest).order_by(own.id)
        )
        found = [reading_of(row) for row in rows if self.wanted.takes(row)]
        found.sort(key=lambda one: (one.device, one.received_s))
        return ((name, list(of)) for name, of in groupby(found, _device_of))

    def again(self, since_s: Mapping[str, float], fresh: bool) -> Iterable[tuple[str, Sequence[Reading]]]:
        """Of the index of devices."""
        upto = self.newest if fresh or self.last is None else self.last
        return read(self.connection, self.wanted, upto, since_s)


def _spread(row_id: int) -> int:
    """A number below _PRIME, so that any share of the rows are those below so much."""
    return row_id % _PRIME * (row_id % _PRIME) % _PRIME * _STRIDE % _PRIME


def _device_of(reading: Reading) -> str:
    return reading.device


def _bundles(members: Sequence[Member]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What they were assigned, and what they had before."""
    new = sorted({member.bundle for member in members})
    return tuple(new), tuple(sorted({member.previous for member in members if member.previous} - set(new)))


def _bins(shadow: Mapping[str, Any]) -> dict[int, int]:
    return {int(index): count for index, count in shadow.get("latency_ms", {}).get("bins", {}).items()}


def reading_of(row: Row[Any]) -> Reading:
    """The numbers of a row of `windows`."""
    lineup = row.lineup or {}
    shadow = lineup.get("shadow") or {}
    return Reading(
        device=intern(row.device),  # once, and not with each of its windows
        bundle=intern(row.bundle),
        received_s=row.received_ms / 1000,
        inferences=row.inferences,
        errors=row.errors,
        refused=row.refused,
        latency_ms=QuantileSketch(bins={int(index): count for index, count in row.latency.items()}),
        scalars={intern(name): array("q", counts) for name, counts in row.scalars.items()},
        golden_total=row.golden_total,
        golden_agree=row.golden_agree,
        merged=row.merged,
        noisy=row.epsilon is not None,
        sure=lineup.get("sure", 0),
        second=lineup.get("second", 0),
        uncertain=lineup.get("uncertain", 0),
        labelled=lineup.get("labelled", 0),
        correct=lineup.get("correct", 0),
        confidence=tuple(lineup.get("confidence", ())),
        shadow=shadow.get("bundle"),
        compared=shadow.get("compared", 0),
        agreed=shadow.get("agreed", 0),
        shadow_ms=QuantileSketch(bins=_bins(shadow)) if shadow else _NONE,
        rss_bytes=row.rss_bytes + row.child_rss_bytes,
        temperature_c=row.temperature_c,
    )
