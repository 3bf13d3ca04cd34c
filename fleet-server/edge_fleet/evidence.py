"""What is known about a rollout's devices: telemetry and states, laid out for the gates. Pure.

Only windows of the new bundle that arrived after the device was assigned count for the release; its
baseline to compare with is the release before, on the same devices earlier and on devices that have
not been reached at the same time (the control group). Arrival is by the server's clock: a device's
own clock may be wrong by years.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar, cast

from edge_contracts.sketch import Baseline, Drift, QuantileSketch, compare, merge_quantiles
from edge_fleet.assignment import FAILED, SETTLED, State
from edge_fleet.panel import EMPTY, DeviceRows, Panel, assemble, rows_of

T = TypeVar("T")

DRIFT_SCALARS = 128  # as many as a window carries


@dataclass(frozen=True)
class Reading:
    """The numbers of one verified window.

    Args:
        received_s: When the server stored it, Unix seconds.
        errors, refused: Inferences that failed, and inputs that were not let in.
        scalars: Counts by bin of the bundle's baseline, by name.
        merged: How many windows this one is the sum of.
        noisy: Its counts carry noise for privacy; rates are not judged by it.
        sure, second, uncertain, labelled, correct: As in `lineup.LineupCounts`.
        confidence: Counts in bins of equal width over 0 to 1.
        shadow, compared, agreed: The bundle that ran beside, and how often it answered alike.
        rss_bytes: Of the agent and the process of its runtime.
    """

    device: str
    bundle: str
    received_s: float
    inferences: int
    errors: int = 0
    refused: int = 0
    latency_ms: QuantileSketch = field(default_factory=QuantileSketch)
    scalars: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    golden_total: int = 0
    golden_agree: int = 0
    merged: int = 1
    noisy: bool = False
    sure: int = 0
    second: int = 0
    uncertain: int = 0
    labelled: int = 0
    correct: int = 0
    confidence: tuple[int, ...] = ()
    shadow: str | None = None
    compared: int = 0
    agreed: int = 0
    rss_bytes: int = 0
    temperature_c: float | None = None


@dataclass(frozen=True)
class Member:
    """One device that a rollout has reached.

    Args:
        bundle: What it was assigned.
        previous: What it ran before, or None when that was nothing we know.
        assigned_s: Unix seconds.
        code, detail: The device's own words, when it failed.
    """

    device: str
    stage: int
    bundle: str
    previous: str | None
    state: State
    assigned_s: float
    code: str = ""
    detail: str = ""


@dataclass(frozen=True)
class BundleFacts:
    """What the gates need of a manifest.

    Args:
        latency_p95_ms: What the bundle promises on its profile.
    """

    digest: str
    profile: str
    baseline: Baseline
    latency_p95_ms: float


@dataclass(frozen=True)
class Exposure:
    """The sum of some windows."""

    windows: int = 0
    inferences: int = 0
    errors: int = 0
    refused: int = 0
    latency_ms: QuantileSketch = field(default_factory=QuantileSketch)
    golden_total: int = 0
    golden_agree: int = 0

    @property
    def attempts(self) -> int:
        """Inferences that were asked for: answered, failed or not let in."""
        return self.inferences + self.errors + self.refused


@dataclass(frozen=True)
class DeviceDrift:
    """One device's live numbers against the baseline of the new bundle.

    Args:
        drifts: One per monitored number.
        before: The same under the release before, against its own baseline.
    """

    device: str
    drifts: tuple[Drift, ...]
    before: tuple[Drift, ...]


@dataclass(frozen=True)
class Group:
    """The reached devices that run one bundle: the same model, form and class of device.

    Args:
        new: Under the new bundle, since each device was assigned.
        old: Under the releases before: these devices earlier, and devices not reached.
        latency_p95_ms: What the bundle promises.
        drifts: Pooled over the group, one per monitored number.
        control: Live numbers of devices that have not been reached, at the same time, against the
            baseline of what they run; without such devices, of this group's devices before.
        panel: What `new` is the sum of, device by device.
        before: The same of these devices under the releases before.
        by_stage: `panel` in parts: the devices of each stage.
        beside: For each stage, devices that run the release before, from its beginning until they are
            reached themselves.
        shadow: Windows in which this bundle and another answered the same inputs.
    """

    bundle: str
    profile: str
    members: tuple[Member, ...]
    new: Exposure
    old: Exposure
    latency_p95_ms: float
    drifts: tuple[Drift, ...]
    per_device: tuple[DeviceDrift, ...]
    control: tuple[Drift, ...]
    panel: Panel = field(default=EMPTY, compare=False)
    before: Panel = field(default=EMPTY, compare=False)
    by_stage: tuple[Panel, ...] = field(default=(), compare=False)
    beside: tuple[Panel, ...] = field(default=(), compare=False)
    shadow: Panel = field(default=EMPTY, compare=False)


@dataclass(frozen=True)
class StageEvidence:
    """Everything the gates may look at: this stage and all before it.

    Args:
        stage: Index of the stage that is being judged.
        members: Every device reached.
        reporting: Devices reached that have answered at least one inference with the new bundle.
        bundles: Of the release, reached or not: they share the chance of a false halt.
    """

    stage: int
    members: tuple[Member, ...]
    groups: tuple[Group, ...]
    reporting: frozenset[str]
    bundles: int = 1

    @property
    def of_stage(self) -> tuple[Member, ...]:
        """The devices that this stage added."""
        return tuple(member for member in self.members if member.stage == self.stage)

    @property
    def unsettled(self) -> tuple[Member, ...]:
        """Devices of this stage that are still on their way."""
        return tuple(member for member in self.of_stage if member.state not in SETTLED)

    @property
    def failed(self) -> tuple[Member, ...]:
        """Devices reached that went back or refused."""
        return tuple(member for member in self.members if member.state in FAILED)


class Memory:
    """What was worked out of one device's windows, for as long as these are the same."""

    def __init__(self) -> None:
        """Remember nothing."""
        self._kept: dict[Hashable, tuple[Hashable, Any]] = {}

    def of(self, key: Hashable, state: Hashable, work: Callable[[], T]) -> T:
        """What `work` gave for this key when the state was this one, or gives now."""
        found = self._kept.get(key)
        if found is None or found[0] != state:
            found = self._kept[key] = (state, work())
        return cast("T", found[1])


def gather(
    members: Sequence[Member],
    readings: Iterable[Reading],
    facts: Mapping[str, BundleFacts],
    stage: int,
    started_s: float,
    bundles: int = 1,
) -> StageEvidence:
    """Lay telemetry and states out for the gates.

    Args:
        readings: Windows of the new and of the previous bundles, of any device, in any order.
        facts: Of every bundle that a member was assigned; of previous ones as far as known.
        started_s: When the rollout began, Unix seconds: control windows are from then on.
        bundles: Of the release.
    """
    by_device: dict[str, list[Reading]] = {}
    for reading in readings:
        by_device.setdefault(reading.device, []).append(reading)
    return gather_again(members, by_device, facts, stage, started_s, bundles, Memory())


def gather_again(
    members: Sequence[Member],
    readings: Mapping[str, Sequence[Reading]],
    facts: Mapping[str, BundleFacts],
    stage: int,
    started_s: float,
    bundles: int,
    memory: Memory,
) -> StageEvidence:
    """As `gather`, from windows by device that only grow: what a device contributed before is remembered."""
    groups, reporting = [], set()
    since = {member.device: member.assigned_s for member in members}
    for bundle in sorted({member.bundle for member in members}):
        own = tuple(member for member in members if member.bundle == bundle)
        group, heard = _group(facts[bundle], own, readings, facts, since, started_s, memory)
        groups.append(group)
        reporting |= heard
    bundles = max(bundles, len(groups))
    return StageEvidence(stage, tuple(members), tuple(groups), frozenset(reporting), bundles)


def sum_up(readings: Iterable[Reading]) -> Exposure:
    """The sum of some windows."""
    kept = list(readings)
    return Exposure(
        windows=len(kept),
        inferences=sum(r.inferences for r in kept),
        errors=sum(r.errors for r in kept),
        refused=sum(r.refused for r in kept),
        latency_ms=merge_quantiles(r.latency_ms for r in kept),
        golden_total=sum(r.golden_total for r in kept),
        golden_agree=sum(r.golden_agree for r in kept),
    )


def drifts_of(baseline: Baseline, readings: Iterable[Reading]) -> tuple[Drift, ...]:
    """Compare the pooled counts of some windows with the baseline of the bundle that made them.

    Counts with another number of bins than the baseline are left out: whoever made them does not
    speak of this baseline, and no evidence is better than wrong evidence.
    """
    kept = list(readings)
    drifts = []
    for scalar in baseline.scalars[:DRIFT_SCALARS]:
        bins = len(scalar.counts)
        rows = [r.scalars[scalar.name] for r in kept if len(r.scalars.get(scalar.name, ())) == bins]
        if rows:
            drifts.append(compare(scalar, [sum(column) for column in zip(*rows, strict=True)]))
    return tuple(drifts)


@dataclass(frozen=True)
class _Part:
    """Some windows of one device, worked up.

    Args:
        totals: Sums of their live numbers, as few readings as there are bundles and numbers of bins.
    """

    exposure: Exposure
    totals: tuple[Reading, ...]
    rows: DeviceRows | None


@dataclass(frozen=True)
class _Own:
    """What a reached device contributes to its group; `_Other`: one that is not in the group."""

    new: _Part
    earlier: _Part
    shadow: DeviceRows | None
    drift: DeviceDrift | None
    reporting: bool


@dataclass(frozen=True)
class _Other:
    beside: _Part
    from_stage: tuple[DeviceRows | None, ...]
    shadow: DeviceRows | None


def _group(
    fact: BundleFacts,
    members: tuple[Member, ...],
    readings: Mapping[str, Sequence[Reading]],
    facts: Mapping[str, BundleFacts],
    since: Mapping[str, float],
    started_s: float,
    memory: Memory,
) -> tuple[Group, set[str]]:
    here = {member.device: member for member in members}
    previous = frozenset(member.previous for member in members if member.previous) - {fact.digest}
    stages = sorted({member.stage for member in members})
    begun = tuple(min(m.assigned_s for m in members if m.stage == n) for n in stages)
    own: dict[str, _Own] = {}
    others: list[_Other] = []
    for device in sorted(readings):
        found = readings[device]
        if device in here:
            state: Hashable = (len(found), since[device], previous)
            own[device] = memory.of(
                (fact.digest, device),
                state,
                partial(_own, fact, device, found, facts, since[device], previous),
            )
        else:
            until_s = since.get(device, math.inf)
            others.append(
                memory.of(
                    (fact.digest, device),
                    (len(found), until_s, previous, started_s, begun),
                    partial(_other, fact, device, found, started_s, until_s, previous, begun),
                )
            )
    new, earlier = [one.new for one in own.values()], [one.earlier for one in own.values()]
    beside = [one.beside for one in others]
    control = beside if any(part.exposure.windows for part in beside) else earlier
    in_order = sorted(
        [(device, one.shadow) for device, one in own.items() if one.shadow]
        + [(one.shadow.device, one.shadow) for one in others if one.shadow]
    )
    group = Group(
        bundle=fact.digest,
        profile=fact.profile,
        members=members,
        new=_added(part.exposure for part in new),
        old=_added(part.exposure for part in (*earlier, *beside)),
        latency_p95_ms=fact.latency_p95_ms,
        drifts=drifts_of(fact.baseline, (total for part in new for total in part.totals)),
        per_device=tuple(one.drift for one in own.values() if one.drift is not None),
        control=_by_bundle(facts, (total for part in control for total in part.totals)),
        panel=assemble(part.rows for part in new),
        before=assemble(part.rows for part in earlier),
        by_stage=tuple(
            assemble(one.new.rows for device, one in own.items() if here[device].stage == n) for n in stages
        ),
        shadow=assemble(rows for _, rows in in_order),
        beside=tuple(assemble(one.from_stage[n] for one in others) for n in range(len(stages))),
    )
    return group, {device for device, one in own.items() if one.reporting}


def _own(
    fact: BundleFacts,
    device: str,
    readings: Sequence[Reading],
    facts: Mapping[str, BundleFacts],
    since_s: float,
    previous: frozenset[str],
) -> _Own:
    new = [r for r in readings if r.bundle == fact.digest and r.received_s >= since_s]
    earlier = [r for r in readings if r.bundle in previous]
    drift = DeviceDrift(device, drifts_of(fact.baseline, new), _by_bundle(facts, earlier)) if new else None
    return _Own(
        _part(device, new),
        _part(device, earlier),
        _shadow(fact, device, readings),
        drift,
        any(r.inferences for r in new),
    )


def _other(
    fact: BundleFacts,
    device: str,
    readings: Sequence[Reading],
    started_s: float,
    until_s: float,
    previous: frozenset[str],
    begun: tuple[float, ...],
) -> _Other:
    # a device that is reached later is a control until then
    beside = [r for r in readings if r.bundle in previous and started_s <= r.received_s < until_s]
    return _Other(
        _part(device, beside),
        tuple(rows_of(device, (r for r in beside if r.received_s >= first)) for first in begun),
        _shadow(fact, device, readings),
    )


def _shadow(fact: BundleFacts, device: str, readings: Sequence[Reading]) -> DeviceRows | None:
    return rows_of(device, (r for r in readings if r.compared and fact.digest in (r.shadow, r.bundle)))


def _part(device: str, readings: Sequence[Reading]) -> _Part:
    return _Part(sum_up(readings), tuple(_totals(device, readings)), rows_of(device, readings))


def _totals(device: str, readings: Iterable[Reading]) -> Iterator[Reading]:
    """The same live numbers in few readings: for each bundle, one for each number of bins of a name."""
    summed: dict[str, dict[tuple[str, int], list[int]]] = {}
    for reading in readings:
        kept = summed.setdefault(reading.bundle, {})
        for name, counts in reading.scalars.items():
            before = kept.get((name, len(counts)))
            kept[name, len(counts)] = (
                list(counts) if before is None else [a + b for a, b in zip(before, counts, strict=True)]
            )
    for bundle, found in summed.items():
        for bins in sorted({bins for _, bins in found}):
            scalars = {name: tuple(counts) for (name, size), counts in found.items() if size == bins}
            yield Reading(device, bundle, 0.0, 0, scalars=scalars)


def _added(exposures: Iterable[Exposure]) -> Exposure:
    windows = inferences = errors = refused = golden_total = golden_agree = 0
    bins: dict[int, int] = {}
    for one in exposures:
        windows += one.windows
        inferences += one.inferences
        errors += one.errors
        refused += one.refused
        golden_total += one.golden_total
        golden_agree += one.golden_agree
        for index, count in one.latency_ms.bins.items():
            bins[index] = bins.get(index, 0) + count
    return Exposure(
        windows, inferences, errors, refused, QuantileSketch(bins=bins), golden_total, golden_agree
    )


def _by_bundle(facts: Mapping[str, BundleFacts], readings: Iterable[Reading]) -> tuple[Drift, ...]:
    """Compare windows of several bundles, each with the baseline of its own."""
    by_bundle: dict[str, list[Reading]] = {}
    for reading in readings:
        by_bundle.setdefault(reading.bundle, []).append(reading)
    return tuple(
        drift
        for bundle, kept in sorted(by_bundle.items())
        if bundle in facts
        for drift in drifts_of(facts[bundle].baseline, kept)
    )
