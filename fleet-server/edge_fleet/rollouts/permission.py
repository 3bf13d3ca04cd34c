"""Whether a release may be rolled out now: asked when a rollout is started, and when its hour has come."""

from __future__ import annotations

from sqlalchemy import Connection

from edge_fleet.access.key_statements import require_signers
from edge_fleet.errors import Conflict
from edge_fleet.lineage.stages import require_rollable
from edge_fleet.rollouts.phases import Phase
from edge_fleet.rollouts.plan import at_s
from edge_fleet.rollouts.rows import Rollout


def require_permitted(connection: Connection, counter: int) -> None:
    """Refuse a start of what may not be rolled out.

    Raises:
        Conflict: It is retired, withdrawn, not approved as the policy asks, or signed by a revoked key.
    """
    require_rollable(connection, counter)
    require_signers(connection, counter)


def barred(connection: Connection, rollout: Rollout, now_s: float) -> str:
    """Why a rollout whose hour has come may not begin; "" when it may, or is not there yet.

    A release that was approved in the evening may be retired, or have a further bundle, by the night.
    """
    begins = at_s(rollout.plan.start_at)
    if rollout.position.phase is not Phase.SCHEDULED or (begins is not None and now_s < begins):
        return ""
    try:
        require_permitted(connection, rollout.counter)
    except Conflict as refusal:
        return str(refusal)
    return ""
