"""The page of approvals: what waits for a second person, and the two rules beside each other."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Response

from edge_fleet.access import two_people
from edge_fleet.api import approvals as rollout_api
from edge_fleet.api import lineage as release_api
from edge_fleet.api.access import Shared
from edge_fleet.api.approvals import RolloutPolicy
from edge_fleet.api.lineage import PolicyRequest, StageRequest
from edge_fleet.auth import Right
from edge_fleet.console.forms import asked, carry_out, doer, require, tell
from edge_fleet.console.page import Text, Visitor, make_router, number
from edge_fleet.console.session import Session
from edge_fleet.errors import NotFound
from edge_fleet.lineage import stages
from edge_fleet.registry import ReleaseSummary, listed
from edge_fleet.rollouts import rows
from edge_fleet.rollouts.approvals import RELEASE_RULES, rollout_rule
from edge_fleet.rollouts.approvals import asked as asked_of
from edge_fleet.rollouts.phases import Phase
from edge_fleet.services import Server

router = make_router()

Approver = Annotated[Session, Depends(doer(Right.APPROVE, "lineage"))]
Ruler = Annotated[Session, Depends(doer(Right.ADMIN, "lineage"))]
MOST = 50  # of each kind; what is older waits behind
EVENTS = {"approve": stages.Event.APPROVED, "retire": stages.Event.RETIRED, "reopen": stages.Event.REOPENED}
DEEDS = {"approve": release_api.approve, "retire": release_api.retire, "reopen": release_api.reopen}


@router.get("/console/approvals")
def approvals(services: Shared, visitor: Visitor) -> Response:
    """What waits, and the rules."""
    return _page(services, visitor)


@router.post("/console/approvals")
def decide(
    services: Shared, visitor: Approver, do: Text = "", release: Text = "", why: Text = ""
) -> Response:
    """Approve, retire or reopen a release."""

    def act() -> None:
        if do not in DEEDS:
            raise NotFound(f"no such order {do!r:.40}; possible: {', '.join(DEEDS)}")
        DEEDS[do](asked(StageRequest, release=release, why=why[:500]), services, visitor.who)

    return carry_out(act, "/approvals", lambda status, error: _page(services, visitor, status, error))


@router.post("/console/approvals/rules")
def change_rules(services: Shared, visitor: Ruler, policy: Text = "", above: Text = "") -> Response:
    """Change what a release and a rollout need."""

    def act() -> None:
        require(visitor, Right.ADMIN, "rollouts")
        wanted = asked(PolicyRequest, policy=policy)
        share = asked(RolloutPolicy, two_above_percent=number(above.strip().removesuffix("%"), "share"))
        with services.store.read() as connection:
            before = (stages.policy(connection), two_people.rule(connection))
        if wanted.policy is not before[0]:
            release_api.change_policy(wanted, services, visitor.who)
        if share.two_above_percent != before[1]:
            rollout_api.set_policy(share, services, visitor.who)

    return carry_out(act, "/approvals#rules", lambda status, error: _page(services, visitor, status, error))


@router.get("/console/approvals/rules")
def rules(services: Shared, visitor: Visitor) -> Response:
    """Where a refused change is read again from."""
    return _page(services, visitor)


def _page(services: Server, visitor: Session, status: int = 200, error: str = "") -> Response:
    now_ms = services.now_ms()
    with services.store.read() as connection:
        drafts = list(reversed(rows.load_all(connection, (Phase.DRAFT,))))
        policy, above = stages.policy(connection), two_people.rule(connection)
        waiting = [(rollout, asked_of(connection, rollout, now_ms)) for rollout in drafts[:MOST]]
        releases = [_release(connection, one, policy, visitor) for one in listed(connection)[:MOST]]
    return tell(
        visitor,
        "approvals.html",
        now_ms,
        status,
        error,
        waiting=waiting,
        more=max(0, len(drafts) - MOST),
        releases=releases,
        policy=policy,
        above=above,
        release_rules=RELEASE_RULES,
        rollout_rule=rollout_rule(above),
    )


def _release(
    connection: Any, found: ReleaseSummary, policy: stages.Policy, visitor: Session
) -> dict[str, Any]:
    """A release with its last step, what it lacks, and what this visitor may make of it."""
    steps = stages.history(connection, found["counter"])
    stage = stages.stage_of(steps)
    second = stages.may_approve(steps, visitor.who.name) or policy is not stages.Policy.SECOND_PERSON
    return {
        "name": f"{found['name']}@{found['version']}",
        "created_ms": found["created_ms"],
        "stage": stage,
        "last": steps[-1] if steps else None,
        "makers": sorted({s.actor for s in steps if s.event is stages.Event.PUBLISHED}),
        "missing": stages.missing(connection, found["counter"]),
        "possible": [
            name
            for name, event in EVENTS.items()
            if (stage, event) in stages.TRANSITIONS and (name != "approve" or second)
        ],
    }
