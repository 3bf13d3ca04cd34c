"""The two-person rule over HTTP: approving a rollout, and the rule itself."""

from __future__ import annotations

from pydantic import Field
from typing_extensions import TypedDict

from edge_fleet.access import two_people
from edge_fleet.access.two_people import Approval
from edge_fleet.api.access import Admin, Approver, Reader, Shared
from edge_fleet.api.answers import Router
from edge_fleet.model import Frozen
from edge_fleet.rollouts.approvals import Asked, asked
from edge_fleet.rollouts.operator import Operator as Orders
from edge_fleet.rollouts.phases import Phase
from edge_fleet.rollouts.rows import load
from edge_fleet.services import Server

router = Router(prefix="/api/v1", tags=["rollouts"])


class ApprovalRequest(Frozen):
    """Why; kept with the rollout and in the audit log."""

    why: str = Field(default="", max_length=500)


class RolloutPolicy(Frozen):
    """Above which share of the fleet a rollout needs a second person; None for no rule, 0 for all."""

    two_above_percent: float | None = Field(ge=0, le=100)


class RolloutApprovals(TypedDict):
    """Who stands behind a rollout.

    Args:
        approvals: Oldest first.
        asked: Of a draft, what it still needs: of its release and of itself.
    """

    made_by: str
    approvals: list[Approval]
    asked: list[Asked]


@router.post("/rollouts/{rollout}/approve")
def approve(
    rollout: str, services: Shared, who: Approver, body: ApprovalRequest | None = None
) -> RolloutApprovals:
    """Approve a draft that somebody else made."""
    with services.store.write() as connection:
        why = body.why if body else ""
        two_people.approve(connection, rollout, who.name, why, services.now_ms())
    services.bus.publish("rollout", rollout=rollout)
    return list_approvals(rollout, services, who)


@router.post("/rollouts/{rollout}/reject")
def reject(
    rollout: str, services: Shared, who: Approver, body: ApprovalRequest | None = None
) -> RolloutApprovals:
    """Say no to a draft that somebody else made; it is over."""
    Orders(services).reject(rollout, who.name, body.why if body else "")
    return list_approvals(rollout, services, who)


@router.get("/rollouts/{rollout}/approvals")
def list_approvals(rollout: str, services: Shared, who: Reader) -> RolloutApprovals:
    """Who made a rollout, who has approved it, and of a draft what it still needs: its release and itself."""
    with services.store.read() as connection:
        found = load(connection, rollout)
        approvals = two_people.approvals(connection, rollout)
        is_draft = found.position.phase is Phase.DRAFT
        both = asked(connection, found, services.now_ms()) if is_draft else ()
    return {
        "made_by": found.created_by,
        "approvals": approvals,
        "asked": list(both),
    }


@router.get("/rollout-policy")
def show_policy(services: Shared, who: Reader) -> RolloutPolicy:
    """The two-person rule."""
    return _policy(services)


@router.post("/rollout-policy")
def set_policy(body: RolloutPolicy, services: Shared, who: Admin) -> RolloutPolicy:
    """Change the two-person rule."""
    with services.store.write() as connection:
        two_people.set_rule(connection, body.two_above_percent, who.name, services.now_ms())
    return _policy(services)


def _policy(services: Server) -> RolloutPolicy:
    with services.store.read() as connection:
        return RolloutPolicy(two_above_percent=two_people.rule(connection))
