"""What is known about a rollout's devices: telemetry and states, as the gates see them. Pure.

Only windows of the new bundle that arrived after the device was assigned count for the release; its
baseline to compare with is the release before, on the same devices earlier and on devices that have
not been reached at the same time (the control group). Arrival is by the server's clock: a device's
own clock may be wrong by years. `gathering.py` lays it out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property

from edge_contracts.sketch import Baseline, Drift
from edge_fleet.assignment import ANSWERED, FAILED, SETTLED, State
from edge_fleet.clumping import Scatter
from edge_fleet.drifts import DeviceDrift, drifts_of_counts
from edge_fleet.panel import EMPTY, Panel
from edge_fleet.reading import Asked
from edge_fleet.sums import Numbers, Seen, Sums
from edge_fleet.tally import Floats


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
class Laid:
    """What some devices of a group reported, laid out.

    Args:
        new: Under the new bundle, since each device was assigned.
        earlier: The same devices under the releases before.
        others: Devices that have not been reached, meanwhile, under the releases before.
        live: How often live numbers were told, and counts by bin, by whose they are ("new", "earlier",
            "others"), bundle, name and bins.
        scatter: How live numbers of these windows scatter, by the same; not of "others".
        per_device: Drift of each reached device.
        panel: What `new` is the sum of, device by device.
        before: The same of these devices under the releases before, as they stand now: without marks.
        by_stage: `panel` in parts: the devices of each stage.
        beside: For each stage, devices that run the release before, from its beginning until they are
            reached themselves; histograms are of now alone.
        shadow: Windows in which this bundle and another answered the same inputs.
    """

    new: Asked = field(default_factory=Asked)
    earlier: Asked = field(default_factory=Asked)
    others: Asked = field(default_factory=Asked)
    live: Mapping[tuple[str, str, str, int], Floats] = field(default_factory=dict)
    scatter: Mapping[tuple[str, str, str, int], Scatter] = field(default_factory=dict)
    per_device: tuple[DeviceDrift, ...] = ()
    panel: Panel = EMPTY
    before: Panel = EMPTY
    by_stage: tuple[Panel, ...] = ()
    beside: tuple[Panel, ...] = ()
    shadow: Panel = EMPTY


@dataclass(frozen=True)
class Group:
    """The reached devices that run one bundle: the same model, form and class of device.

    Args:
        latency_p95_ms: What the bundle promises.
        sums: What these devices, and those beside them, add up to.
        facts: Of this bundle and those before it.
    """

    bundle: str
    profile: str
    members: tuple[Member, ...]
    latency_p95_ms: float
    sums: Sums[Laid]
    facts: Mapping[str, BundleFacts] = field(default_factory=dict)

    @property
    def laid(self) -> Laid:
        """Everything that its devices reported, at the cost of laying it out."""
        return self.sums.all()

    @property
    def attempts(self) -> int:
        """Inferences that the new bundle was asked for."""
        return int(self.sums.sum("attempts", lambda laid: {"of": laid.new.attempts})["of"])

    @property
    def drifts(self) -> tuple[Drift, ...]:
        """Pooled over the group, one per monitored number."""
        fact = self.facts.get(self.bundle)
        if fact is None:
            return ()
        scatter = self.sums.sum("scatter", lambda laid: laid.scatter)
        return drifts_of_counts(fact.baseline, self._live(), "new", self.bundle, scatter)

    @property
    def control(self) -> tuple[Drift, ...]:
        """Live numbers of devices not reached, at the same time, against the baseline of what they run.

        Without such devices, of this group's devices before.
        """
        return self._of("others" if self._live().get("windows of others") else "earlier")

    @property
    def earlier(self) -> tuple[Drift, ...]:
        """Live numbers of this group's devices before they got the release, against what they ran then."""
        return self._of("earlier")

    def as_shadow(self) -> Group:
        """The same with what it answered as a shadow, or beside one, for what it answered."""
        return replace(self, sums=Seen(self.sums, "shadow", lambda laid: replace(laid, panel=laid.shadow)))

    def _of(self, which: str) -> tuple[Drift, ...]:
        live, scatter = self._live(), self.sums.sum("scatter", lambda laid: laid.scatter)
        # Others run the release before: how that scatters says how certain they are, and not the new one's
        # windows: where those see two worlds, a control group that sees them too would count for less.
        of = ("earlier",) if which == "others" else ("new", "earlier")
        return tuple(
            drift
            for bundle, fact in sorted(self.facts.items())
            for drift in drifts_of_counts(fact.baseline, live, which, bundle, scatter, of)
        )

    def _live(self) -> Numbers:
        return self.sums.sum("live", _live)


class Standing:
    """Where the devices of a rollout stand, counted once for as long as they stand so."""

    def __init__(self, members: Iterable[Member]) -> None:
        """Count them."""
        self.states: Counter[State] = Counter()
        self._stages: dict[int, list[Member]] = {}
        self._answered: Counter[int] = Counter()
        self.failed: tuple[Member, ...] = tuple(self._count(members))
        self._unsettled: dict[int, tuple[Member, ...]] = {}
        self._expected: dict[int, Set[str]] = {}

    def _count(self, members: Iterable[Member]) -> Iterator[Member]:
        for member in members:
            self.states[member.state] += 1
            self._stages.setdefault(member.stage, []).append(member)
            self._answered[member.stage] += member.state in ANSWERED
            if member.state in FAILED:
                yield member

    def of_stage(self, stage: int) -> Sequence[Member]:
        """The devices that a stage added."""
        return self._stages.get(stage, ())

    def unsettled(self, stage: int) -> tuple[Member, ...]:
        """Those of them that are still on their way."""
        if stage not in self._unsettled:
            found = (member for member in self.of_stage(stage) if member.state not in SETTLED)
            self._unsettled[stage] = tuple(found)
        return self._unsettled[stage]

    def answered(self, stage: int) -> int:
        """How many of them have said how it went."""
        return self._answered[stage]

    def expected(self, stage: int) -> Set[str]:
        """Those of them that have not failed, by name."""
        if stage not in self._expected:
            found = (member.device for member in self.of_stage(stage) if member.state not in FAILED)
            self._expected[stage] = frozenset(found)
        return self._expected[stage]


@dataclass(frozen=True)
class StageEvidence:
    """Everything the gates may look at: this stage and all before it.

    Args:
        stage: Index of the stage that is being judged.
        members: Every device reached.
        reporting: Devices reached that have answered at least one inference with the new bundle.
        comparing: Devices reached on which it has answered at least one as a shadow.
        bundles: Of the release, reached or not: they share the chance of a false halt.
    """

    stage: int
    members: tuple[Member, ...]
    groups: tuple[Group, ...]
    reporting: Set[str]
    bundles: int = 1
    comparing: Set[str] = frozenset()

    @cached_property
    def standing(self) -> Standing:
        """The devices, counted."""
        return Standing(self.members)

    @property
    def of_stage(self) -> Sequence[Member]:
        """The devices that this stage added."""
        return self.standing.of_stage(self.stage)

    @property
    def unsettled(self) -> tuple[Member, ...]:
        """Devices of this stage that are still on their way."""
        return self.standing.unsettled(self.stage)

    @property
    def answered(self) -> int:
        """How many devices of this stage have said how it went."""
        return self.standing.answered(self.stage)

    @property
    def expected(self) -> Set[str]:
        """Devices of this stage that have not failed, by name."""
        return self.standing.expected(self.stage)

    @property
    def failed(self) -> tuple[Member, ...]:
        """Devices reached that went back or refused."""
        return self.standing.failed


def _live(laid: Laid) -> Numbers:
    """How often they were told, and counts, of live numbers by whose they are, bundle, name and bins."""
    return {"windows of others": laid.others.windows, **laid.live}
