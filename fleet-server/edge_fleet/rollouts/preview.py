"""What a plan would come to if it were started now: whom it reaches, stage by stage, and what it lacks."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from edge_fleet.rollouts import candidates
from edge_fleet.rollouts.approvals import Asked, asked
from edge_fleet.rollouts.outlook import outlook, overlap
from edge_fleet.rollouts.phases import Position
from edge_fleet.rollouts.plan import RolloutPlan
from edge_fleet.rollouts.rows import Rollout


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
    draft = unmade(connection, plan, actor, now_ms)
    found = outlook(connection, draft, now_ms)
    return Preview(
        selected=found.selected,
        stages=found.stages,
        waiting=found.waiting,
        without=tuple(found.without.most_common()),
        approvals=asked(connection, draft, now_ms),
        busy=overlap(connection, draft, now_ms),
    )


def unmade(connection: Connection, plan: RolloutPlan, actor: str, now_ms: int) -> Rollout:
    """A plan as the draft that it would be, without an id.

    Raises:
        NotFound: The release has not been published.
    """
    release = candidates.load_release(connection, plan.model, plan.version)
    return Rollout("", plan, release.counter, Position(), None, "", now_ms, actor, 0)
