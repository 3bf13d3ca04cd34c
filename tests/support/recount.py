"""The evidence of a rollout counted from all of its windows at once, by what each number is said to be.

It keeps every window and goes over all of them: what `gathering.py` adds up is held against it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from edge_fleet.clumping import scatters
from edge_fleet.drifts import DeviceDrift, drifts_of
from edge_fleet.evidence import BundleFacts, Group, Laid, Member, StageEvidence
from edge_fleet.panel import Histogram, Panel
from edge_fleet.reading import Reading, sum_up
from edge_fleet.sums import Whole
from edge_fleet.tally import COUNTED, HISTOGRAMS, Floats


def recount(
    members: Sequence[Member],
    readings: Iterable[Reading],
    facts: Mapping[str, BundleFacts],
    stage: int,
    started_s: float,
    bundles: int = 1,
) -> StageEvidence:
    """As `gathering.gather`."""
    in_order = sorted(readings, key=lambda r: r.received_s)
    groups = tuple(
        _group(bundle, members, in_order, facts, started_s) for bundle in sorted({m.bundle for m in members})
    )
    own = {m.device: m for m in members}
    new = [r for r in in_order if r.device in own and r.received_s >= own[r.device].assigned_s]
    reporting = {r.device for r in new if r.inferences and r.bundle == own[r.device].bundle}
    comparing = {r.device for r in new if r.compared and r.shadow == own[r.device].bundle}
    return StageEvidence(stage, tuple(members), groups, reporting, max(bundles, len(groups)), comparing)


def _group(
    bundle: str,
    members: Sequence[Member],
    readings: Sequence[Reading],
    facts: Mapping[str, BundleFacts],
    started_s: float,
) -> Group:
    own = {m.device: m for m in members if m.bundle == bundle}
    until = {m.device: m.assigned_s for m in members}
    previous = {m.previous for m in own.values() if m.previous} - {bundle}
    stages = sorted({m.stage for m in own.values()})
    first = {stage: min(m.assigned_s for m in own.values() if m.stage == stage) for stage in stages}
    new = [
        r
        for r in readings
        if r.device in own and r.bundle == bundle and r.received_s >= own[r.device].assigned_s
    ]
    earlier = [r for r in readings if r.device in own and r.bundle in previous]
    beside = [
        r
        for r in readings
        if r.device not in own
        and r.bundle in previous
        and started_s <= r.received_s < until.get(r.device, math.inf)
    ]
    of_stage = {stage: {m.device for m in own.values() if m.stage == stage} for stage in stages}
    laid = Laid(
        new=sum_up(new),
        earlier=sum_up(earlier),
        others=sum_up(beside),
        live=_live({"new": new, "earlier": earlier, "others": beside}),
        scatter={
            (whose, *key): part
            for whose, found in (("new", new), ("earlier", earlier))
            for key, part in scatters((r.bundle, r.scalars) for r in found).items()
        },
        per_device=tuple(
            DeviceDrift(
                device,
                drifts_of(facts[bundle].baseline, _of(device, new), _of(device, earlier)),
                tuple(
                    drift
                    for name in sorted({r.bundle for r in _of(device, earlier)} & facts.keys())
                    for drift in drifts_of(
                        facts[name].baseline, [r for r in _of(device, earlier) if r.bundle == name], ()
                    )
                ),
            )
            for device in sorted({r.device for r in new})
        ),
        panel=panel(new),
        before=panel(earlier),
        by_stage=tuple(panel(r for r in new if r.device in of_stage[stage]) for stage in stages),
        beside=tuple(panel(r for r in beside if r.received_s >= first[stage]) for stage in stages),
        shadow=panel(r for r in readings if r.compared and bundle in (r.shadow, r.bundle)),
    )
    fact = facts[bundle]
    return Group(bundle, fact.profile, tuple(own.values()), fact.latency_p95_ms, Whole(laid), facts)


def _of(device: str, readings: Iterable[Reading]) -> list[Reading]:
    return [r for r in readings if r.device == device]


def _live(windows: Mapping[str, Iterable[Reading]]) -> dict[tuple[str, str, str, int], Floats]:
    found: dict[tuple[str, str, str, int], Floats] = {}
    for whose, readings in windows.items():
        for r in readings:
            for name, counts in r.scalars.items():
                key = whose, r.bundle, name, len(counts)
                found[key] = found.get(key, 0.0) + np.array((1.0, *counts))
    return found


def panel(readings: Iterable[Reading]) -> Panel:
    """The panel of some windows, which are in the order of their arrival."""
    kept = list(readings)
    exact = [r for r in kept if not r.noisy]
    devices = tuple(sorted({r.device for r in exact}))
    noisy = len(kept) - len(exact)
    if not devices:
        return Panel(noisy=noisy)
    reached = {device: _marks(_of(device, exact)) for device in devices}
    columns = max(len(found) for found in reached.values())

    def laid(of: Callable[[Reading], float]) -> Floats:
        """Devices by marks, and now: sums of the windows up to each."""
        rows = np.full((len(devices), columns + 1), np.nan)
        for row, device in enumerate(devices):
            for mark, upto in enumerate(reached[device]):
                rows[row, mark] = sum(of(r) for r in upto)
            rows[row, -1] = sum(of(r) for r in exact if r.device == device)
        return rows

    def histogram(name: str) -> Histogram:
        of = HISTOGRAMS[name]
        bins = sorted({index for r in exact for index in of(r)})
        counts = [laid(lambda r, index=index: of(r).get(index, 0)) for index in bins]  # type: ignore[misc]
        empty = np.where(np.isnan(laid(lambda _: 0.0)), np.nan, 0.0)[:, :, None][:, :, :0]
        return Histogram(np.array(bins, np.float64), np.stack(counts, axis=2) if counts else empty)

    return Panel(devices, {name: laid(of) for name, of in COUNTED.items()}, histogram, noisy)


def _marks(readings: Sequence[Reading]) -> list[list[Reading]]:
    """The windows up to that with which 1, 2, 4, ... were reached."""
    found: list[list[Reading]] = []
    seen = 0
    for place, reading in enumerate(readings):
        seen += reading.merged
        while seen >= 2 ** len(found):
            found.append(list(readings[: place + 1]))
    return found
