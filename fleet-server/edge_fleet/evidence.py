"""What is known about a rollout's devices: telemetry and states, laid out for the gates. Pure.

Only windows of the new bundle that arrived after the device was assigned count for the release; its
baseline to compare with is the release before, on the same devices earlier and on devices that have
not been reached at the same time (the control group). Arrival is by the server's clock: a device's
own clock may be wrong by years.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from edge_contracts.sketch import Baseline, Drift, QuantileSketch, compare, merge_quantiles
from edge_fleet.assignment import FAILED, SETTLED, State
from edge_fleet.panel import EMPTY, Panel, lay_out

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


def gather(
    members: Sequence[Member],
    readings: Sequence[Reading],
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
    since = {member.device: member.assigned_s for member in members}
    assigned = {member.device: member.bundle for member in members}
    reporting = {
        r.device
        for r in readings
        if r.inferences and assigned.get(r.device) == r.bundle and r.received_s >= since[r.device]
    }
    groups = []
    for bundle in sorted({member.bundle for member in members}):
        own = tuple(member for member in members if member.bundle == bundle)
        groups.append(_group(facts[bundle], own, readings, facts, since, started_s))
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


def _group(
    fact: BundleFacts,
    members: tuple[Member, ...],
    readings: Sequence[Reading],
    facts: Mapping[str, BundleFacts],
    since: Mapping[str, float],
    started_s: float,
) -> Group:
    here = {member.device for member in members}
    previous = {member.previous for member in members if member.previous} - {fact.digest}
    new = [
        r
        for r in readings
        if r.bundle == fact.digest and r.device in here and r.received_s >= since[r.device]
    ]
    earlier = [r for r in readings if r.bundle in previous and r.device in here]
    beside = [
        r
        for r in readings
        if r.bundle in previous
        and r.device not in here
        # a device that is reached later is a control until then
        and started_s <= r.received_s < since.get(r.device, float("inf"))
    ]
    control = beside or earlier
    stages = sorted({member.stage for member in members})
    of_stage = {member.device: member.stage for member in members}
    begun = {n: min(m.assigned_s for m in members if m.stage == n) for n in stages}
    return Group(
        bundle=fact.digest,
        profile=fact.profile,
        members=members,
        new=sum_up(new),
        old=sum_up([*earlier, *beside]),
        latency_p95_ms=fact.latency_p95_ms,
        drifts=drifts_of(fact.baseline, new),
        per_device=tuple(
            DeviceDrift(
                device=device,
                drifts=drifts_of(fact.baseline, (r for r in new if r.device == device)),
                before=_by_bundle(facts, (r for r in earlier if r.device == device)),
            )
            for device in sorted({r.device for r in new})
        ),
        control=_by_bundle(facts, control),
        panel=lay_out(new),
        before=lay_out(earlier),
        by_stage=tuple(lay_out(r for r in new if of_stage[r.device] == n) for n in stages),
        shadow=lay_out(r for r in readings if r.compared and fact.digest in (r.shadow, r.bundle)),
        beside=tuple(lay_out(r for r in beside if r.received_s >= begun[n]) for n in stages),
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
