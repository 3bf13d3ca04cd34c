"""What a stage's evidence comes to, at a time. Pure; `engine.py` asks."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from edge_fleet.assignment import FAILED, SETTLED, WITHDRAWN, State
from edge_fleet.evidence import StageEvidence
from edge_fleet.gates import GATES, Budget, Outcome, Verdict
from edge_fleet.rollouts.parts import Part
from edge_fleet.rollouts.phases import GUARDED, Event, Phase, Position
from edge_fleet.rollouts.plan import Join, Kind, OnFailure, RolloutPlan


@dataclass(frozen=True)
class Decision:
    """What happens next.

    Args:
        event: For the state machine, or None: nothing changes.
        why: One line for a person, also when nothing changes; "" leaves what stands there.
        verdicts: What the gates said.
    """

    event: Event | None
    why: str
    verdicts: tuple[Verdict, ...]


# Which gates must pass before shadows are switched; a failure counts of any.
HOLDS_SHADOWS = frozenset({"install_success", *(name for name, gate in GATES.items() if gate.of_shadow)})
FEW = 5  # devices named in one line
NOBODY: Mapping[str, int] = MappingProxyType({})
ABSENT = "one that comes to be is begun, `advance` goes on without"
STRANDED = (
    "what they ran before is withdrawn, so they keep this release: withdraw it too, or roll another out"
)
REHEARSED = "a rehearsal, as if a gate had failed"

FAILURE: Mapping[OnFailure, Event] = {
    OnFailure.ROLLBACK_ROLLOUT: Event.FAILED,
    OnFailure.ROLLBACK_STAGE: Event.STAGE_FAILED,
    OnFailure.HOLD: Event.HELD,
}


def decide(
    plan: RolloutPlan,
    position: Position,
    evidence: StageEvidence,
    now_s: float,
    waits: Mapping[str, int] = NOBODY,
    begins: bool = False,
    direct: int = 0,
) -> Decision:
    """Find out what happens next to a rollout that goes forward.

    Args:
        waits: What the devices that have still to be begun, or tried again, wait for, and how many do.
        begins: Devices can be begun now: unless a gate fails, that is what happens next.
        direct: Devices of the stage that cannot take its first part, and wait for the switch.
    """
    assert position.phase in GUARDED, f"a rollout that is {position.phase} does not go forward"
    budget = Budget.split(plan.false_halt, len(plan.gates), evidence.bundles, plan.stray)
    verdicts = tuple(GATES[name].judge(evidence, limit, budget) for name, limit in sorted(plan.gates.items()))
    failed = [verdict for verdict in verdicts if verdict.outcome is Outcome.FAIL]
    if failed:
        why = "; ".join(f"{verdict.gate}: {verdict.reason}" for verdict in failed)
        return Decision(FAILURE[plan.on_failure], why, verdicts)
    if begins:
        return Decision(None, "", verdicts)
    if position.phase is Phase.RUNNING and not (evidence.members or waits or direct):
        # canaries that are not there have shown nothing: the next stage would be the first to run it
        number, share = position.stage + 1, plan.stages[position.stage]
        event, why = None, f"stage {number} ({share}) names no device yet: {ABSENT}"
    elif position.phase is Phase.RUNNING and position.part is Part.READY:
        event, why = _ready(plan, evidence, waits, direct)
    elif position.phase is Phase.RUNNING:
        event, why = _settle(plan, evidence, waits)
        if event is Event.SETTLED and position.part is not Part.SWITCH:
            event, why = _prepared(plan, evidence, direct, why)
        elif event is Event.SETTLED and plan.kind is Kind.REHEARSAL:
            event, why = FAILURE[plan.on_failure], f"{REHEARSED}; {why}"
    elif position.phase is Phase.BAKING:
        bake = _bake if position.part is Part.SWITCH else _compare
        event, why = bake(plan, position, evidence, verdicts, now_s)
    elif position.phase is Phase.OPEN:
        event, why = None, "open for devices that join, until the deadline"
    else:
        event, why = None, ""
    return Decision(event, why, verdicts)


def passes(plan: RolloutPlan, position: Position) -> Event:
    """What it is called when this part of this stage is done with."""
    if position.part is not Part.SWITCH:
        return Event.SWITCHED
    if position.stage + 1 < len(plan.stages):
        return Event.ADVANCED
    return Event.OPENED if plan.join is Join.UNTIL_DEADLINE else Event.FINISHED


def decide_return(
    states: Mapping[str, State], again: Collection[str] = (), codes: Mapping[str, str] = {}
) -> tuple[Event | None, str]:
    """Whether every device that is to go back has done so.

    A silent device does not hold the end up: its order to go back waits for it.

    Args:
        states: By device, of the assignment that sends it back.
        again: Those that did not, and are told once more.
        codes: Why they did not, by device.
    """
    moving = sum(state not in SETTLED or device in again for device, state in states.items())
    if moving:
        return None, f"{moving} of {len(states)} devices are on their way back"
    told = ["every device is back"]
    for state, meaning in (
        (State.UNREACHABLE, "silent, the order to go back waits for"),
        (State.REFUSED, "refused to go back"),
        (State.ROLLED_BACK, "could not go back"),
    ):
        devices = sorted(device for device, found in states.items() if found is state)
        named = [device + (f" ({codes[device]})" if codes.get(device) else "") for device in devices[:FEW]]
        if devices:
            more = f" and {len(devices) - FEW} more" if len(devices) > FEW else ""
            told.append(f"{meaning}: {', '.join(named)}{more}")
    if any(state in FAILED and codes.get(device) == WITHDRAWN for device, state in states.items()):
        told.append(STRANDED)
    return Event.RETURNED, "; ".join(told[1:] or told)


def _settle(plan: RolloutPlan, evidence: StageEvidence, waits: Mapping[str, int]) -> tuple[Event | None, str]:
    if total := sum(waits.values()):
        most = sorted(waits.items(), key=lambda one: (-one[1], one[0]))[:3]
        told = ", ".join(f"{count} for {what}" for what, count in most)
        return None, f"{total} devices of the stage wait: {told}"
    stage, unsettled = evidence.of_stage, evidence.unsettled
    if unsettled:
        return None, f"{len(unsettled)} of {len(stage)} devices of the stage are on their way"
    answered = evidence.answered
    needed = math.ceil(plan.quorum * len(stage))
    if answered < needed:
        return None, f"{answered} of {len(stage)} devices of the stage have answered, {needed} needed"
    return Event.SETTLED, f"{answered} of {len(stage)} devices of the stage have answered"


def _ready(
    plan: RolloutPlan, evidence: StageEvidence, waits: Mapping[str, int], direct: int
) -> tuple[Event | None, str]:
    """Whether a quorum of the stage, those included that have still to begin, has the release ready."""
    stage = evidence.of_stage
    total = len(stage) + sum(waits.values())
    if not total:
        told = f"none of the {direct} devices of the stage can wait with it" if direct else "nothing to bring"
        return Event.SWITCHED, told
    ready = sum(member.state is State.READY for member in stage)
    needed = math.ceil(plan.quorum * total)
    if ready < needed:
        return None, f"{ready} of {total} devices of the stage have it ready, {needed} needed"
    return Event.SWITCHED, f"{ready} of {total} devices of the stage have it ready: all are told to switch"


def _prepared(
    plan: RolloutPlan, evidence: StageEvidence, direct: int, settled: str
) -> tuple[Event | None, str]:
    """What follows when every device of the stage has answered to its first part."""
    if direct and not evidence.of_stage:
        return (
            Event.SWITCHED,
            f"none of the {direct} devices of the stage can run a shadow: the plan says switch",
        )
    if plan.kind is Kind.REHEARSAL:
        return Event.SWITCHED, f"a rehearsal, as if the shadows had passed their gates; {settled}"
    return Event.SETTLED, settled


def _compare(
    plan: RolloutPlan,
    position: Position,
    evidence: StageEvidence,
    verdicts: tuple[Verdict, ...],
    now_s: float,
) -> tuple[Event | None, str]:
    """Whether shadows have been watched for long enough, by enough devices, and agree."""
    stage = evidence.of_stage
    if stage and now_s < position.since_s + (bake_s := plan.bake_of(position.stage, position.part)):
        return None, f"shadows are watched for {bake_s:g} s"
    expected = evidence.expected
    comparing = len(expected & evidence.comparing)
    needed = math.ceil(plan.quorum * len(expected))
    if comparing < needed:
        return None, f"{comparing} of {len(expected)} devices report compared answers, {needed} needed"
    waiting = [v for v in verdicts if v.outcome is Outcome.WAIT and v.gate in HOLDS_SHADOWS]
    if waiting:
        return None, "; ".join(f"{verdict.gate} waits: {verdict.reason}" for verdict in waiting)
    return (
        Event.SWITCHED,
        f"the shadows of stage {position.stage + 1} of {len(plan.stages)} passed their gates",
    )


def _bake(
    plan: RolloutPlan,
    position: Position,
    evidence: StageEvidence,
    verdicts: tuple[Verdict, ...],
    now_s: float,
) -> tuple[Event | None, str]:
    stage = evidence.of_stage
    # a stage that had no device to add has nothing to watch for
    if stage and now_s < position.since_s + (bake_s := plan.bake_of(position.stage)):
        # without the seconds that are left: what is stored would change with every tick
        return None, f"baking for {bake_s:g} s"
    expected = evidence.expected
    reporting = len(expected & evidence.reporting)
    needed = math.ceil(plan.quorum * len(expected))
    if reporting < needed:
        return None, f"{reporting} of {len(expected)} devices report inferences, {needed} needed"
    waiting = [verdict for verdict in verdicts if verdict.outcome is Outcome.WAIT]
    if plan.first_part is Part.SHADOW:  # there is no shadow any more: what it said has been heard
        waiting = [verdict for verdict in waiting if not GATES[verdict.gate].of_shadow]
    if waiting:
        return None, "; ".join(f"{verdict.gate} waits: {verdict.reason}" for verdict in waiting)
    event = passes(plan, position)
    if event is Event.ADVANCED:
        return event, f"stage {position.stage + 1} of {len(plan.stages)} passed its gates"
    return event, "the last stage passed its gates"
