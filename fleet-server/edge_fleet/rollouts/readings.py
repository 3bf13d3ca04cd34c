"""Telemetry as a rollout's gates read it: windows of the database, and what manifests promise."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from sys import intern
from typing import Any

from sqlalchemy import Connection, Row, and_, func, or_, select

from edge_contracts.manifest import Manifest
from edge_contracts.sketch import QuantileSketch
from edge_fleet.evidence import BundleFacts, Member
from edge_fleet.gathering import Gathering
from edge_fleet.reading import Reading
from edge_fleet.schema import bundles, windows

# How far back windows of the release before are looked at: a day has every hour's light and load.
LOOKBACK_MS = 86_400_000
# Of that day so many are read at most, drawn from all of it: a fleet of a thousand that reports every minute
# has 1.4 million, and each takes two kilobytes. What they say is a comparison, and no surer for being more.
MOST_BEFORE = 100_000
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


def load_readings(
    connection: Connection, members: Sequence[Member], started_ms: int, most_before: int = MOST_BEFORE
) -> list[Reading]:
    """Windows that may be evidence: of the new bundles, and of the previous ones for a day before.

    Those of a second model are left out: it sees only what another model was unsure of.

    Args:
        most_before: Of the day before, about so many are drawn where there are more.
    """
    new, old = _bundles(members)
    of_old = windows.c.bundle.in_(old)
    before = and_(of_old, windows.c.received_ms.between(started_ms - LOOKBACK_MS, started_ms - 1))
    count = connection.execute(select(func.count()).where(before)).scalar_one() if old else 0
    if count > most_before:
        # devices report in turns: by every so-many-th row some would be left out, by squares none is
        spread = windows.c.id % _PRIME * (windows.c.id % _PRIME) % _PRIME * _STRIDE % _PRIME
        before = and_(before, spread < _PRIME * most_before // count)
    rows = connection.execute(
        select(windows).where(
            or_(and_(or_(windows.c.bundle.in_(new), of_old), windows.c.received_ms >= started_ms), before)
        )
    )
    return [reading_of(row) for row in rows if (row.lineup or {}).get("role") != "second"]


class SeenReadings:
    """The windows of one rollout by device, and what was worked out of each device's, kept between looks.

    Each look takes in the windows that arrived since the one before; where other bundles, or another
    beginning, are asked for, everything is loaded anew. It is in memory only: a server that starts again
    loads everything once.
    """

    def __init__(self) -> None:
        """Nothing was seen."""
        self.by_device: dict[str, list[Reading]] = {}
        self.gathering = Gathering()
        self._members: Sequence[Member] | None = None
        self._bundles: tuple[list[str], list[str]] = [], []
        self._asked: object = None
        self._last_id = 0

    @property
    def bundles(self) -> list[str]:
        """Those that the last look asked for: new ones, and those before them."""
        return [*self._bundles[0], *self._bundles[1]]

    def look(self, connection: Connection, members: Sequence[Member], started_ms: int) -> set[str]:
        """Take in what arrived since the last look; returns whose it is."""
        if members is not self._members:
            self._members, self._bundles = members, _bundles(members)
        asked = *self._bundles, started_ms
        newest = connection.execute(select(func.max(windows.c.id))).scalar() or 0
        if asked != self._asked:
            found = load_readings(connection, members, started_ms)
            self.by_device, self.gathering, self._asked = {}, Gathering(), asked
        else:
            found = self._since(connection, started_ms)
        for reading in found:
            self.by_device.setdefault(reading.device, []).append(reading)
        self._last_id = newest
        return {reading.device for reading in found}

    def _since(self, connection: Connection, started_ms: int) -> list[Reading]:
        """By row ids alone: an index of bundles would lead through all that is known already."""
        new, old = self._bundles
        rows = connection.execute(select(windows).where(windows.c.id > self._last_id))
        since_ms = {bundle: started_ms - LOOKBACK_MS for bundle in old} | {
            bundle: started_ms for bundle in new
        }
        return [
            reading_of(row)
            for row in rows
            if row.received_ms >= since_ms.get(row.bundle, math.inf)
            and (row.lineup or {}).get("role") != "second"
        ]


def _bundles(members: Sequence[Member]) -> tuple[list[str], list[str]]:
    """What they were assigned, and what they had before."""
    new = sorted({member.bundle for member in members})
    return new, sorted({member.previous for member in members if member.previous} - set(new))


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
