"""What must be approved before a rollout may start: its release, and the rollout itself.

Two rules stand side by side, because they speak of different things. A release is approved once, whatever
is made of it later (`lineage/stages.py`); a rollout is approved for those whom it reaches
(`access/two_people.py`). Each asks its own module; here they are laid next to each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection

from edge_fleet.access import two_people
from edge_fleet.access.two_people import Approval
from edge_fleet.lineage import stages
from edge_fleet.rollouts.rows import Rollout


class Of(StrEnum):
    """What is approved."""

    RELEASE = "release"
    ROLLOUT = "rollout"


@dataclass(frozen=True)
class Asked:
    """One of the two rules, and how a rollout stands with it.

    Args:
        rule: What the fleet asks, in words.
        makers: Whose work it is: somebody else is a second person.
        approvals: Oldest first.
        missing: Why the start is refused; "" when nothing is missing.
    """

    of: Of
    rule: str
    makers: tuple[str, ...]
    approvals: tuple[Approval, ...]
    missing: str


RELEASE_RULES = {
    stages.Policy.NONE: "a release needs no approval",
    stages.Policy.APPROVED: "a release must be approved",
    stages.Policy.SECOND_PERSON: "a release must be approved by somebody who published none of it",
}


def asked(connection: Connection, rollout: Rollout, now_ms: int) -> tuple[Asked, Asked]:
    """Both rules, the release's first."""
    steps = stages.history(connection, rollout.counter)
    approved = stages.stage_of(steps) is stages.Stage.APPROVED
    # approvals of what was published again since do not count
    last = next((s for s in reversed(steps) if s.event is stages.Event.APPROVED), None) if approved else None
    published = {s.actor for s in steps if s.event is stages.Event.PUBLISHED}
    return (
        Asked(
            Of.RELEASE,
            RELEASE_RULES[stages.policy(connection)],
            tuple(sorted(published)),
            () if last is None else (Approval(last.actor, last.at_ms, last.why),),
            stages.missing(connection, rollout.counter),
        ),
        Asked(
            Of.ROLLOUT,
            rollout_rule(two_people.rule(connection)),
            (rollout.created_by,),
            tuple(two_people.approvals(connection, rollout.id)),
            two_people.missing(connection, rollout, now_ms),
        ),
    )


def rollout_rule(above_percent: float | None) -> str:
    """The two-person rule in words."""
    if above_percent is None:
        return "a rollout needs no approval"
    if above_percent == 0:
        return "every rollout must be approved by somebody who did not make it"
    return (
        f"a rollout that reaches over {above_percent:g} % of the fleet must be approved "
        "by somebody who did not make it"
    )
