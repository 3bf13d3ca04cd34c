"""The two-person rule: a rollout to a large part of the fleet begins when a second person has approved it.

The rule is a share of the fleet, or none. `refusal` decides; `require_approved` is the one place that a
start asks. Who somebody is, is the actor's name: a user's, or that of a token that belongs to no user.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, func, insert, select

from edge_fleet.audit import record
from edge_fleet.errors import Conflict, Forbidden
from edge_fleet.rollouts.outlook import outlook
from edge_fleet.rollouts.phases import Phase
from edge_fleet.rollouts.rows import Rollout, load
from edge_fleet.schema import devices, meta, rollout_approvals, tokens, users
from edge_fleet.store import upsert

RULE_KEY = "rollouts_need_two_above_percent"
OFF = ""


@dataclass(frozen=True)
class Approval:
    """Somebody's word for a rollout."""

    actor: str
    at_ms: int
    why: str


def refusal(
    above_percent: float | None, reaches: int, fleet: int, maker: str, approvers: Collection[str]
) -> str:
    """Why a rollout may not begin; "" when it may. Pure.

    Args:
        above_percent: The rule; None when there is none.
        reaches: Devices that the last stage reaches in all.
        fleet: Devices that are enrolled.
    """
    if above_percent is None or 100 * reaches <= above_percent * fleet:
        return ""
    if any(approver != maker for approver in approvers):
        return ""
    return (
        f"it reaches {reaches} of {fleet} devices, over {above_percent:g} %, and {maker} made it: "
        "somebody else must approve it (edge-fleet rollout approve)"
    )


def require_approved(connection: Connection, rollout: Rollout, now_ms: int) -> None:
    """Refuse a start that the rule does not allow.

    Raises:
        Conflict: Nobody else has approved the rollout.
    """
    why = missing(connection, rollout, now_ms)
    if why:
        raise Conflict(f"rollout {rollout.id} cannot begin: {why}")


def missing(connection: Connection, rollout: Rollout, now_ms: int) -> str:
    """Why the rule does not let a rollout begin; "" when it does."""
    above = rule(connection)
    if above is None:
        return ""
    reaches = outlook(connection, rollout, now_ms).stages[-1]
    fleet = connection.execute(
        select(func.count()).select_from(devices).where(devices.c.revoked_ms.is_(None))
    ).scalar_one()
    approvers = {approval.actor for approval in approvals(connection, rollout.id)}
    counted = approvers - _closed(connection, approvers)
    return refusal(above, reaches, fleet, rollout.created_by, counted)


def _closed(connection: Connection, actors: Collection[str]) -> set[str]:
    """Those whose user was disabled or whose token was revoked: they may have been taken over before."""
    own = users.c
    disabled = select(own.name).where(own.name.in_(sorted(actors)), own.disabled_ms.is_not(None))
    found = set(connection.execute(disabled).scalars())
    for actor in actors:
        _, slash, number = actor.rpartition("/")
        if not slash:
            continue
        named = tokens.c.id.startswith(number, autoescape=True)
        theirs = connection.execute(
            select(tokens.c.revoked_ms).where(named, tokens.c.owner.is_(None), tokens.c.parent.is_(None))
        ).scalars()
        if all(revoked_ms is not None for revoked_ms in theirs):
            found.add(actor)
    return found


def approve(connection: Connection, rollout_id: str, actor: str, why: str, now_ms: int) -> None:
    """Give one's word for a rollout that has not begun; twice changes nothing.

    Raises:
        NotFound: No such rollout.
        Forbidden: The actor made it.
        Conflict: It has begun.
    """
    rollout = load(connection, rollout_id)
    actor = actor[:64]
    if rollout.created_by == actor:
        raise Forbidden(f"{actor} made rollout {rollout_id}; somebody else must approve it")
    if rollout.position.phase is not Phase.DRAFT:
        raise Conflict(f"rollout {rollout_id} is {rollout.position.phase}; only a draft is approved")
    if any(approval.actor == actor for approval in approvals(connection, rollout_id)):
        return
    connection.execute(
        insert(rollout_approvals).values(rollout=rollout_id, actor=actor, at_ms=now_ms, why=why)
    )
    record(connection, actor, "rollout approved", rollout_id, now_ms, why=why, maker=rollout.created_by)


def approvals(connection: Connection, rollout_id: str) -> list[Approval]:
    """Who has approved a rollout, oldest first."""
    here = rollout_approvals.c.rollout == rollout_id
    rows = connection.execute(select(rollout_approvals).where(here).order_by(rollout_approvals.c.at_ms))
    return [Approval(row.actor, row.at_ms, row.why) for row in rows]


def rule(connection: Connection) -> float | None:
    """Above which share of the fleet, in percent, two are needed; None for no rule."""
    stated = connection.execute(select(meta.c.value).where(meta.c.key == RULE_KEY)).scalar()
    return float(stated) if stated else None


def set_rule(connection: Connection, above_percent: float | None, actor: str, now_ms: int) -> None:
    """Change the rule; rollouts that have begun go on."""
    before = rule(connection)
    stated = OFF if above_percent is None else f"{above_percent:g}"
    upsert(connection, meta, {"key": RULE_KEY, "value": stated}, ("key",))
    record(connection, actor, "two-person rule", stated or "off", now_ms, before=before)
