"""What a plan would come to if it were started now: whom it reaches, stage by stage, and what it lacks."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from edge_fleet.rollouts import candidates
from edge_fleet.rollouts.approvals import Asked, asked
from edge_fleet.rollouts.phases import Position
from edge_fleet.rollouts.plan import RolloutPlan
from edge_fleet.rollouts.rows import Rollout
from edge_fleet.rollouts.targets import goal


@dataclass(frozen=True)
class Preview:
    """A plan beside the fleet as it is.

    Args:
        selected: Devices that its selector names.
        stages: Devices reached in all, by stage.
        waiting: Of them, those that another rollout keeps.
        without: Why selected devices get nothing, and how many.
        busy: A device that another rollout of the same priority is at work on, and that rollout.
    """

    selected: int
    stages: tuple[int, ...]
    waiting: int
    without: tuple[tuple[str, int], ...]
    approvals: tuple[Asked, ...]
    busy: tuple[str, str] | None


def preview(connection: Connection, plan: RolloutPlan, actor: str, now_ms: int) -> Preview:
    """Look at a plan that has not been made a rollout.

    Args:
        actor: Who would make it.

    Raises:
        NotFound: The release has not been published.
    """
    release = candidates.load_release(connection, plan.model, plan.version)
    draft = Rollout("", plan, release.counter, Position(), None, "", now_ms, actor, 0)
    targets = candidates.load_targets(connection, draft, now_ms)
    reasons: dict[str, int] = {}
    for target in targets:
        if target.bundle is None:
            reasons[target.reason] = reasons.get(target.reason, 0) + 1
    return Preview(
        selected=len(targets),
        stages=tuple(
            goal("", stage, (), targets, plan.held_back(index)) for index, stage in enumerate(plan.stages)
        ),
        waiting=sum(target.bundle is not None and target.wait != "" for target in targets),
        without=tuple(sorted(reasons.items(), key=lambda item: -item[1])),
        approvals=asked(connection, draft, now_ms),
        busy=candidates.overlap(connection, draft, now_ms),
    )
