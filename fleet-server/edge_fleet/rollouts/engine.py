"""What one look at a rollout comes to: a pure function from what is stored to what is to be stored next.

`conductor.py` reads a View, carries the Step out in one transaction, and looks again. Nothing is
remembered between two looks, so a server may die between any two lines and go on where it was.

The order of the questions is the order of their weight: silence first, for everything else counts it;
then going back; then the deadline; then the gates; and only when no gate fails is anybody begun.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from edge_fleet.assignment import FAILED, State
from edge_fleet.evidence import Member, StageEvidence
from edge_fleet.gates import Verdict
from edge_fleet.rollouts.beginning import Begin, Begun, begin
from edge_fleet.rollouts.company import Company
from edge_fleet.rollouts.decision import decide, decide_return
from edge_fleet.rollouts.parts import Part
from edge_fleet.rollouts.phases import ENDED, GUARDED, RETURNING, WATCHED, Event, Phase, Position
from edge_fleet.rollouts.plan import OnDeadline, RolloutPlan, at_s
from edge_fleet.rollouts.reached import Reached
from edge_fleet.rollouts.retries import Cause
from edge_fleet.rollouts.targets import Alike

T = TypeVar("T")


@dataclass(frozen=True)
class View:
    """Everything that a look at a rollout rests on, but for the fleet and the telemetry.

    Args:
        reached: Its devices, those that an operator took out included, revoked ones not.
        begun_s: When the assignments of the last minute were given, Unix seconds.
        barred: Why its release may not be rolled out, though its hour has come; "" when it may.
    """

    rollout: str
    plan: RolloutPlan
    position: Position
    reached: tuple[Reached, ...] = ()
    begun_s: tuple[float, ...] = ()
    why: str = ""
    barred: str = ""

    @property
    def company(self) -> Company:
        """Its devices, with what was worked out of them."""
        return self.reached if isinstance(self.reached, Company) else Company(self.reached)

    @property
    def counted(self) -> tuple[Reached, ...]:
        """The devices that count."""
        company = self.company
        return company.once("counted", lambda: tuple(row for row in company if row.left is None))

    @property
    def members(self) -> tuple[Member, ...]:
        """The devices that count, as gates see them: one that is to be tried again has not failed yet."""
        return self._once(
            "members",
            lambda: tuple(
                row.member if self.again(row) is None else replace(row.member, state=State.PENDING)
                for row in self.counted
            ),
        )

    @property
    def to_begin(self) -> list[tuple[Reached, tuple[Cause, Part] | None]]:
        """Those of them that are to be switched, or may be tried again, with what `again` says."""
        position = self.position

        def found() -> Iterator[tuple[Reached, tuple[Cause, Part] | None]]:
            for row in self.counted:
                if row.prepared and (position.part is Part.SWITCH or row.member.stage < position.stage):
                    yield row, None
                elif (again := self.again(row)) is not None:
                    yield row, again

        return self._once("to begin", lambda: list(found()))

    def _once(self, name: str, work: Callable[[], T]) -> T:
        return self.company.once((name, self.position.stage, self.position.part), work)

    def again(self, row: Reached) -> tuple[Cause, Part] | None:
        """The budget from which a device may be tried again, and for what; None when it may not.

        What failed as a shadow is tried as a shadow again, while its stage is at that, and never as more.
        """
        cause = row.cause(self.plan.retries)
        here = row.member.stage == self.position.stage and row.part is self.position.part
        if cause is None or not (row.part is not Part.SHADOW or here):
            return None
        # what could not be brought before the others were switched is brought and switched to
        return cause, row.part if here else Part.SWITCH


@dataclass(frozen=True)
class Step:
    """What is to be stored; all of it, or nothing.

    Args:
        silent: Devices that count as silent from now on.
        begin: Devices that are given the release.
        back: Devices that did not go back and are told to once more, with what they failed of.
        event: For the state machine, or None: the position stays.
        why: One line for a person; "" leaves what stands there.
        verdicts: What the gates said; None when they were not asked.
    """

    silent: tuple[str, ...] = ()
    begin: tuple[Begin, ...] = ()
    back: tuple[tuple[str, Cause], ...] = ()
    event: Event | None = None
    why: str = ""
    verdicts: tuple[Verdict, ...] | None = None

    @property
    def looks_again(self) -> bool:
        """Whether another look may find something at once."""
        return bool(self.silent) or self.event is not None


NOTHING = Step()


def advance(
    view: View,
    now_s: float,
    due: Callable[[], Sequence[Alike]],
    evidence: Callable[[Sequence[Member]], StageEvidence],
) -> Step:
    """What follows for a rollout, now.

    Args:
        due: The devices that the stage has still to reach, those that have to wait included; asked only
            where somebody may be begun.
        evidence: Lays out what is known of these devices; asked only where gates are.
    """
    phase = view.position.phase
    if phase not in WATCHED:
        return NOTHING
    if phase is Phase.SCHEDULED:
        return _scheduled(view, now_s)
    silence_s = view.plan.silence_s
    silent = tuple(row.device for row in view.company.to_suspect if row.silent_at_s(silence_s) < now_s)
    if silent:
        return Step(silent=silent)
    if phase in RETURNING:
        return _returning(view, now_s)
    expired = _expired(view, now_s)
    if expired is not None:
        return expired
    if phase not in GUARDED:
        return NOTHING  # HELD: an operator's turn
    found = evidence(view.members)
    begun = Begun() if phase is Phase.PAUSED else begin(view, now_s, due)
    decision = decide(view.plan, view.position, found, now_s, begun.waits, bool(begun.begin), begun.direct)
    if decision.event is None and begun.begin:
        told = f"assigned to {len(begun.begin)} devices"
        return Step(begin=begun.begin, why=told, verdicts=decision.verdicts)
    why = decision.why + (begun.told if decision.event is not None else "")
    return Step(event=decision.event, why=why, verdicts=decision.verdicts)


def goes_back(view: View, phase: Phase) -> tuple[Reached, ...]:
    """The devices that an event which leads to this phase sends back."""
    if phase not in RETURNING:
        return ()
    return tuple(
        row
        for row in view.counted
        if (row.back is None or row.is_stuck)
        and (phase is Phase.ROLLING_BACK or row.member.stage == view.position.stage)
    )


def lets_go(view: View, phase: Phase) -> tuple[Reached, ...]:
    """The devices that were prepared, and will not be switched after an event which leads to this phase."""
    if not moves_devices(view.plan, phase) or phase in RETURNING:
        return ()
    return tuple(
        row
        for row in view.counted
        if row.part is not Part.SWITCH and row.back is None and row.member.state not in FAILED
    )


def moves_devices(plan: RolloutPlan, phase: Phase) -> bool:
    """Whether an event which leads to this phase may give devices an order; else nobody has to be read."""
    return phase in RETURNING or (phase in ENDED and plan.first_part is not Part.SWITCH)


def _scheduled(view: View, now_s: float) -> Step:
    deadline, begins = at_s(view.plan.deadline), at_s(view.plan.start_at)
    if deadline is not None and now_s >= deadline:
        return Step(event=Event.EXPIRED, why="its deadline passed before its start")
    if begins is None or now_s >= begins:
        if view.barred:
            return Step(why=f"its time has come, and it waits: {view.barred}")
        return Step(event=Event.STARTED, why="its time has come")
    return NOTHING


def _returning(view: View, now_s: float) -> Step:
    sent = [row for row in view.counted if row.back_state is not None]
    again = {row.device: (row, cause) for row in sent if (cause := row.cause_back) is not None}
    due = [(device, cause) for device, (row, cause) in again.items() if row.due_s(view.plan.retries) <= now_s]
    if due:
        return Step(back=tuple(due))
    event, why = decide_return(
        {row.device: row.back_state for row in sent if row.back_state is not None},
        again.keys(),
        {row.device: row.back_code for row in sent},
    )
    # `why` keeps the reason for going back: that is what a person will look for
    return NOTHING if event is None else Step(event=event, why=f"{view.why}; {why}")


def _expired(view: View, now_s: float) -> Step | None:
    deadline = at_s(view.plan.deadline)
    if deadline is None or now_s < deadline:
        return None
    if view.position.opened:
        return Step(event=Event.FINISHED, why="its deadline closed it; the last stage had passed its gates")
    event = {
        OnDeadline.STOP: Event.EXPIRED,
        OnDeadline.ROLLBACK_STAGE: Event.STAGE_FAILED,
        OnDeadline.ROLLBACK_ROLLOUT: Event.FAILED,
    }[view.plan.on_deadline]
    counted = view.counted
    settled = sum(row.member.state is State.CONFIRMED for row in counted)
    where = f"in stage {view.position.stage + 1} of {len(view.plan.stages)}"
    return Step(
        event=event,
        why=f"its deadline passed {where}, {view.position.phase}: {settled} of {len(counted)} devices "
        f"reached have confirmed; {view.why}".rstrip("; "),
    )
