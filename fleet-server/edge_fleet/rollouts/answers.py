"""What is said of a rollout: the types of what `view.py` makes, for the API, the console and the CLI."""

from __future__ import annotations

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from edge_fleet.assignment import State
from edge_fleet.gates import Outcome
from edge_fleet.gates.verdict import Number
from edge_fleet.model import Instant
from edge_fleet.rollouts.part_words import Progress
from edge_fleet.rollouts.parts import Part
from edge_fleet.rollouts.phases import Event, Phase
from edge_fleet.rollouts.plan import RolloutPlan
from edge_fleet.rollouts.reached import Left


class RolloutHead(TypedDict):
    """Where a rollout stands.

    Args:
        release: As the plan names it.
        select: The plan's selector.
        stage: From 0; -1 before the first.
        part: What the stage's devices are given now.
        reached: Devices that it has reached so far.
        states: Those, counted by where their newest assignment stands.
        why: What it waits for, or why it ended.
        since_ms: When `phase` was entered.
        started_ms: Null before it was started.
    """

    id: str
    release: str
    select: str
    phase: Phase
    stage: int
    part: Part
    reached: int
    states: dict[State, int]
    why: str
    since_ms: Instant
    started_ms: Instant | None
    created_ms: Instant
    created_by: str


class RolloutSummary(RolloutHead):
    """A rollout in short.

    Args:
        stages: As the plan has them: "5", "10%".
    """

    stages: list[str]


class RolloutMember(TypedDict):
    """A device that a rollout has reached.

    Args:
        profile: Of its bundle; null when that is gone.
        bundle: That it is given.
        previous: That it had; null for nothing that is known.
        part: What it was given for.
        state: Of the assignment that brings the release.
        code: A short word for why it stands so; "" when all is well.
        back: Of the assignment that takes it away again; null while there is none.
        back_code: A short word for why that stands so; "" when all is well.
        left: How an operator took it out; null while it counts.
        retries: Attempts after the first, by cause; of the way back as `back-` and the cause.
        last_seen_ms: Of its last verified message; null before the first.
    """

    device: str
    profile: str | None
    bundle: str
    previous: str | None
    part: Part
    state: State
    code: str
    detail: str
    back: State | None
    back_code: str
    back_detail: str
    left: Left | None
    retries: dict[str, int]
    assigned_ms: Instant
    last_seen_ms: Instant | None


class GateVerdict(TypedDict):
    """What a gate last said of a stage.

    Args:
        reason: What was found and what was expected.
        evidence: The numbers behind it, a row for each bundle; names as in docs/rollouts.md.
    """

    gate: str
    outcome: Outcome
    reason: str
    evidence: list[dict[str, Number]]


class RolloutStage(TypedDict):
    """One stage.

    Args:
        number: From 1.
        share: As the plan has it.
        target: Devices that it will have reached in all, as the fleet is now; null when the rollout is over.
        begun_ms: Null before it has begun.
        part: How far the stage is with its part; null for stages of one part, and those that are not at it.
    """

    number: int
    share: str
    target: int | None
    begun_ms: Instant | None
    part: Progress | None
    devices: list[RolloutMember]
    verdicts: list[GateVerdict]


class RolloutSafety(TypedDict):
    """How the way back went, or goes.

    Args:
        began_ms: When the order to go back was stored.
        back: Devices that have said that they are back.
        not_back: Where the others stand, by device; with `limit` those of a few.
        not_back_devices: How many the others are; with `limit`.
        median_s, p95_s, last_s: After so many seconds half, 95 % and all of those were back that are; null
            while none is.
        devices: Seconds until each was back, by device; with `limit` of none.
    """

    began_ms: Instant
    why: str
    back: int
    not_back: dict[str, State]
    not_back_devices: NotRequired[int]
    median_s: float | None
    p95_s: float | None
    last_s: float | None
    devices: dict[str, float]


# "for" is no name in Python
RolloutWait = TypedDict("RolloutWait", {"device": str, "for": str})
RolloutWait.__doc__ = "A device that waits, and what for."


class RolloutSkip(TypedDict):
    """A device that gets nothing of it, and why."""

    device: str
    reason: str


class RolloutSilent(TypedDict):
    """Devices on their way of which nothing is heard, and for which the rollout still waits.

    Args:
        few: At most five of them, by name.
    """

    count: int
    few: list[str]


class RolloutStep(TypedDict):
    """One step of a rollout's history.

    Args:
        phase: After it.
        stage: From 0; -1 before the first.
        actor: "conductor", or who ordered it.
        part: That it was at afterwards, in words; "" for stages of one part.
    """

    at_ms: Instant
    event: Event
    phase: Phase
    stage: int
    actor: str
    why: str
    part: str


class LeftOutCount(TypedDict):
    """How many devices get nothing of a rollout for one reason."""

    why: str
    devices: int


WaitCount = TypedDict("WaitCount", {"for": str, "devices": int})
WaitCount.__doc__ = "How many devices wait for one thing."


class RolloutMemberOfStage(RolloutMember):
    """A device that a rollout has reached, and in which stage.

    Args:
        stage: From 0.
    """

    stage: int


class RolloutDevices(TypedDict):
    """Some devices that a rollout has reached, by stage and name.

    Args:
        total: How many fit, at most 10,000 of those that have a text.
        more: Whether there are more than that.
        next: Cursor of those that come after these; null when there are none.
    """

    total: int
    more: bool
    devices: list[RolloutMemberOfStage]
    next: str | None


class RolloutInFull(RolloutHead):
    """A rollout with its stages, devices, verdicts and history.

    Args:
        next: Cursor for /rollouts/ID/devices; null when all devices are told.
        left_out: All that get nothing, by reason, the most frequent first.
        waits_for: All that wait for something of their own, by what for.
        silent: Of those on their way.
        waiting: Devices that it is still to reach.
        safety: Null when nothing was sent back.
        waits: Some devices that wait for something of their own, such as their hours.
        skipped: Some devices that are selected and get nothing.
        history: Oldest first, at most 200 steps.
    """

    plan: RolloutPlan
    stages: list[RolloutStage]
    silent: RolloutSilent
    waiting: int
    safety: RolloutSafety | None
    waits: list[RolloutWait]
    skipped: list[RolloutSkip]
    next: str | None
    left_out: list[LeftOutCount]
    waits_for: list[WaitCount]
    history: list[RolloutStep]


class GateDescription(TypedDict):
    """A gate that a plan may name.

    Args:
        limit: What its limit is, for people.
        lowest, highest: Limits that make sense.
        default: Limit of a plan that names no gates; null for a gate that is only asked when it is named.
        against: What it can be held against; the first is its default.
    """

    name: str
    limit: str
    lowest: float
    highest: float
    default: float | None
    against: list[Literal["limit", "before", "control"]]
