"""One run of a plan against a drawn fleet: the real decisions and gates, on made-up reports.

`decision.decide` says what follows from the evidence, `phases.step` what becomes of the rollout, and
every gate judges the same panels that it would get from the database. Only the devices are made up:
when they answer, and what they report.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np

from edge_fleet.assignment import State
from edge_fleet.evidence import Group, Laid, Member, StageEvidence
from edge_fleet.panel import Floats, Rows
from edge_fleet.reading import Exposure
from edge_fleet.rollouts.decision import Decision, decide
from edge_fleet.rollouts.parts import PREPARED, Part
from edge_fleet.rollouts.phases import Event, Phase, Position, step
from edge_fleet.rollouts.plan import RolloutPlan, at_s
from edge_fleet.rollouts.windows import LABEL
from edge_fleet.simulation.defects import Defect
from edge_fleet.simulation.description import DeviceClass
from edge_fleet.simulation.draw import CONTROL, Drawn, draw, needed, together
from edge_fleet.simulation.pacing import paced
from edge_fleet.sums import Whole

# A stage that waits for so long beyond its bake, with all devices begun, waits for a person, or the deadline.
GIVE_UP_S = 86400.0
# Looks at a stage come after so much more of the time that it has taken; of one that has baked, and waits for
# its gates, at shorter steps for a while: a server looks each second, and most of them pass soon.
_FAR, _NEAR = 0.5, 0.1
_SOON = 4.0  # bakes
_BUNDLE = "sha256:"

Decide = Callable[[RolloutPlan, Position, StageEvidence, float], Decision]


class End(StrEnum):
    """How a run ended."""

    COMPLETED = "completed"
    HALTED = "halted"  # a gate failed
    WAITS = "waits"  # a gate waits for ever: a person would have to look
    EXPIRED = "expired"  # the plan's deadline came first


@dataclass(frozen=True)
class Run:
    """What one run came to.

    Args:
        exposed: Devices that have run the release.
        begun: Devices that were given it.
        ended_s: Since the start.
        sent_bytes: Downloaded by all devices.
        stage: Index of the stage in which it ended.
        why: What the gates said last.
    """

    end: End
    exposed: int
    begun: int
    ended_s: float
    sent_bytes: int
    stage: int
    why: str


def replay(
    plan: RolloutPlan,
    classes: Sequence[DeviceClass],
    defect: Defect,
    random: np.random.Generator,
    judge: Decide = decide,
    start_s: float = 0.0,
) -> Run:
    """Run a plan once.

    Args:
        judge: What decides; another product's rule, to compare.
        start_s: When it starts, Unix seconds, for a plan with windows or a deadline.
    """
    world = _World(plan, classes, defect, random, start_s)
    position = step(Position(), Event.STARTED, 0.0, plan.first_part)
    deadline = at_s(plan.deadline)
    ends = math.inf if deadline is None else deadline - start_s
    if ends <= 0:
        return world.run(End.EXPIRED, 0.0, position, "its deadline passed before its start")
    world.begin(0, 0.0)
    now = 0.0
    decision = Decision(None, "", ())
    while True:
        now = min(world.next_look(now, position), ends)
        if now >= ends:
            return world.run(End.EXPIRED, ends, position, f"its deadline passed; {decision.why}")
        patience_s = plan.bake_of(position.stage, position.part) + GIVE_UP_S
        if math.isinf(ends) and now - world.last_begun_s > patience_s:
            return world.run(End.WAITS, now, position, decision.why)
        evidence = world.evidence(position.stage, now)
        decision = judge(plan, position, evidence, now)
        if decision.event is None or (decision.event is Event.SETTLED and not world.all_begun(now)):
            continue
        if decision.event is Event.SWITCHED and position.part is Part.READY and not world.has_quorum(now):
            continue
        if decision.event in (Event.SETTLED, Event.ADVANCED, Event.SWITCHED):
            position = step(position, decision.event, now, plan.first_part)
            if decision.event is Event.SWITCHED:
                world.switch(position.stage, now)
            if decision.event is Event.ADVANCED:
                world.begin(position.stage, now)
            continue
        done = decision.event in (Event.FINISHED, Event.OPENED)
        over = End.COMPLETED if done else End.HALTED
        return world.run(over, now, position, decision.why)


@dataclass
class _World:
    """The devices of one run, and who has been begun when."""

    plan: RolloutPlan
    classes: Sequence[DeviceClass]
    defect: Defect
    random: np.random.Generator
    start_s: float
    drawn: list[Drawn] = field(init=False)  # a bundle each
    stage_s: float = 0.0
    openings: tuple[float, ...] = (0.0,)  # when the stage begins devices, and goes on with it after a break

    def __post_init__(self) -> None:
        needs = needed(self.plan)
        self.control = CONTROL in needs
        drawn = [
            draw(one, f"{one.profile}-{place}", self.defect, needs, self.random)
            for place, one in enumerate(self.classes)
        ]
        sizes = [one.devices for one in self.classes]
        self.of_class: Rows = np.repeat(np.arange(len(sizes)), sizes)
        # the hash of rollout and device orders them as good as at random
        self.order: Rows = self.random.permutation(len(self.of_class))
        self.install_s: Floats = np.concatenate([one.install_s for one in drawn])
        self.fails = np.concatenate([one.fails for one in drawn]).astype(bool)
        self.blamed = np.concatenate([one.blamed for one in drawn]).astype(bool)
        self.names = [name for one in drawn for name in one.names]
        self.window_s: Floats = np.array([one.window_s for one in self.classes])[self.of_class]
        self.zones = [one.labels.get(LABEL) for one in self.classes]
        of = [(one.bundle, "" if one.bundle else one.profile) for one in self.classes]
        bundles = list(dict.fromkeys(of))
        parts = [[place for place, one in enumerate(of) if one == bundle] for bundle in bundles]
        self.profiles = [self.classes[places[0]].profile for places in parts]
        self.drawn = [together([drawn[place] for place in places]) for places in parts]
        self.of_bundle: Rows = np.array([bundles.index(one) for one in of])[self.of_class]
        self.row: Rows = np.zeros(len(self.of_class), dtype=np.intp)
        for bundle in range(len(bundles)):
            own = self.of_bundle == bundle
            self.row[own] = np.arange(own.sum())
        self.begun_s = np.full(len(self.of_class), np.inf)
        self.stage_of = np.full(len(self.of_class), -1)
        self.beside = np.zeros(len(self.of_class), dtype=bool)  # given it as a shadow, and not to run yet
        self.began: list[float] = []
        self.moving: dict[int, Member] = {}
        self.settled: dict[int, Member] = {}

    def begin(self, stage: int, now: float) -> None:
        """Reach the devices of a stage, as fast as the plan allows."""
        self.stage_s = now
        self.began.append(now)
        share = self.plan.stages[stage]
        held = math.ceil(round(self.plan.held_back(stage) * len(self.order), 9))
        free = self.order[: len(self.order) - held]
        waiting = free[self.stage_of[free] < 0]
        reached = int((self.stage_of >= 0).sum())
        if share.label is None:
            due = waiting[: max(0, share.target(len(self.order)) - reached)]
        else:
            named = [one.is_named(share.label) for one in self.classes]
            due = waiting[np.array(named)[self.of_class[waiting]]]
        self.stage_of[due] = stage
        self.beside[due] = self.plan.first_part is not Part.SWITCH
        self._give(due, stage, now)

    def switch(self, stage: int, now: float) -> None:
        """Give the shadows of a stage the release to run."""
        self.stage_s = now
        well = self.beside & (self.begun_s + self.install_s <= now) & ~self.fails
        due = np.flatnonzero(well & (self.stage_of == stage))
        self.beside[due] = False
        faster = np.array([one.switch_s / one.install_s for one in self.classes])
        self.install_s[due] *= faster[self.of_class[due]]
        if self.plan.first_part is Part.READY:  # those that are not ready yet switch when they are
            for device in np.flatnonzero(self.beside & (self.stage_of == stage)).tolist():
                self.beside[device] = False
                if (settled := self.settled[device]).state is State.READY:
                    self.settled[device] = replace(settled, state=State.CONFIRMED)
        # what is ready downloads nothing any more: one order to all
        self._give(due, stage, now, spreads=self.plan.first_part is not Part.READY)

    def _give(self, due: Rows, stage: int, now: float, spreads: bool = True) -> None:
        """Devices are on their way from now on, as fast as the plan allows."""
        zones = [self.zones[one] for one in self.of_class[due].tolist()]
        confirmed = int(self.answered(now).sum())
        found = paced(self.plan, zones, self.install_s[due], confirmed, now, self.start_s, spreads)
        self.begun_s[due] = found.begun_s
        still = [at for at in self.openings if at > now]  # of those that are late with the first part
        self.openings = tuple(sorted({*found.openings, *still}))
        for device in due.tolist():
            bundle = f"{_BUNDLE}{self.of_bundle[device]}"
            state, code = PREPARED[self.plan.first_part] if self.beside[device] else State.CONFIRMED, ""
            if math.isinf(self.install_s[device]):
                state = State.UNREACHABLE
            elif self.fails[device]:
                state, code = State.REFUSED, "crash" if self.blamed[device] else "no-space"
            begun = float(self.begun_s[device])
            self.moving[device] = Member(self.names[device], stage, bundle, "old", State.OFFERED, begun)
            self.settled[device] = Member(self.names[device], stage, bundle, "old", state, begun, code)
        quiet = self.begun_s + self.plan.silence_s
        self.answers_s = np.where(np.isinf(self.install_s), quiet, self.begun_s + self.install_s)

    def answered(self, now: float) -> Rows:
        """Which devices have confirmed."""
        kept: Rows = ((self.begun_s + self.install_s <= now) & ~self.fails & ~self.beside).astype(np.intp)
        return kept

    def all_begun(self, now: float) -> bool:
        """Whether the stage has reached all of its devices."""
        return bool((self.begun_s[self._own] <= now).all())

    def has_quorum(self, now: float) -> bool:
        """Whether a quorum of the stage has the release ready, those that are still to be begun counted."""
        ready = self._own & (self.begun_s + self.install_s <= now) & ~self.fails
        return int(ready.sum()) >= math.ceil(self.plan.quorum * int(self._own.sum()))

    @property
    def last_begun_s(self) -> float:
        """When the last device of the stage is begun."""
        return max(self.stage_s, float(self.begun_s[self._own].max(initial=self.stage_s)))

    @property
    def _own(self) -> Rows:
        """Which devices are of the stage."""
        own: Rows = self.stage_of == len(self.began) - 1
        return own

    def next_look(self, now: float, position: Position) -> float:
        """The next time at which something may follow."""
        own = self.stage_of == position.stage
        settles = float(self.answers_s[own].max()) if own.any() else now
        opened = max(at for at in self.openings if at <= now)
        upcoming = min((at for at in self.openings if at > now), default=math.inf)
        if position.phase is Phase.RUNNING and now < settles and opened == now:
            first = now + max(one.window_s for one in self.classes) + 1.0
            return min(first, settles, upcoming)
        baking, bake_s = position.phase is Phase.BAKING, self.plan.bake_of(position.stage, position.part)
        ends = position.since_s + bake_s if baking else settles
        soon = baking and ends <= now < ends + _SOON * bake_s
        stretched = min(now + (now - opened) * (_NEAR if soon else _FAR) + 1.0, upcoming)
        if now < ends:
            return min(ends, stretched)
        if position.phase is Phase.BAKING and now == position.since_s:
            return now + 1.0  # nothing to bake
        return stretched

    def evidence(self, stage: int, now: float) -> StageEvidence:
        """What the server would know."""
        begun = np.flatnonzero(self.begun_s <= now)
        done = self.answers_s <= now
        members = tuple((self.settled if done[device] else self.moving)[device] for device in begun.tolist())
        groups: list[Group] = []
        reporting: set[str] = set()
        for place, drawn in enumerate(self.drawn):
            here = begun[self.of_bundle[begun] == place]
            if not len(here):
                continue
            own = tuple(m for m in members if m.bundle == f"{_BUNDLE}{place}")
            group = self._group(place, drawn, here, own, stage, now)
            reporting.update(group.laid.panel.devices)
            groups.append(group)
        # a shadow has compared something when its device has reported once
        heard = self.beside & (self.begun_s + self.install_s + self.window_s <= now) & ~self.fails
        comparing = frozenset(self.names[device] for device in np.flatnonzero(heard).tolist())
        return StageEvidence(stage, members, tuple(groups), frozenset(reporting), len(self.drawn), comparing)

    def _group(
        self, place: int, drawn: Drawn, here: Rows, own: tuple[Member, ...], stage: int, now: float
    ) -> Group:
        live = here[~self.fails[here] & ~self.beside[here]]
        live = live[self.begun_s[live] + self.install_s[live] <= now]
        windows = (now - self.begun_s[live] - self.install_s[live]) // self.window_s[live]
        live, count = live[windows >= 1], windows[windows >= 1].astype(np.intp)
        rows = self.row[live]
        panel = drawn.panel(rows, count)
        by_stage, beside = [], []
        if self.control:
            for earlier in range(stage + 1):
                of = self.stage_of[live] == earlier
                by_stage.append(drawn.panel(rows[of], count[of]))
                # a device that is reached later is a control until then
                later = (self.stage_of > earlier) | (self.stage_of < 0)
                others = np.flatnonzero((self.of_bundle == place) & later)
                passed = np.minimum(now, self.begun_s[others]) - self.began[earlier]
                reports = (passed // self.window_s[others]).astype(np.intp)
                beside.append(drawn.panel_beside(self.row[others][reports >= 1], reports[reports >= 1]))
        asked = int(panel.counts["attempts"][:, -1].sum()) if panel.devices else 0
        laid = Laid(
            new=Exposure(inferences=asked),
            panel=panel,
            before=drawn.panel_before(self.row[here]),
            by_stage=tuple(by_stage),
            beside=tuple(beside),
        )
        return Group(f"{_BUNDLE}{place}", self.profiles[place], own, math.inf, Whole(laid))

    def run(self, end: End, now: float, position: Position, why: str) -> Run:
        """What it came to."""
        begun = self.begun_s <= now
        size = np.array([one.archive_bytes for one in self.classes])[self.of_class]
        fetched = begun & np.isfinite(self.install_s)
        return Run(
            end,
            int(self.answered(now).sum()),
            int(begun.sum()),
            now,
            int(size[fetched].sum()),
            position.stage,
            why,
        )
