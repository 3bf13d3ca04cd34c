"""How far a release has come: candidate, approved, retired, withdrawn; and who may say so.

The stage is the last row of a history that only grows. What a fleet asks of a release before it may be
rolled out is its policy: nothing, an approval, or an approval by somebody who published none of it.
`require_rollable` is the one place that a rollout asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, func, insert, select

from edge_fleet.audit import record
from edge_fleet.errors import Conflict, Forbidden, NotFound
from edge_fleet.schema import meta, release_steps, releases
from edge_fleet.store import upsert

POLICY_KEY = "release_policy"


class Stage(StrEnum):
    """How far a release has come."""

    CANDIDATE = "candidate"
    APPROVED = "approved"
    RETIRED = "retired"
    WITHDRAWN = "withdrawn"  # no device may answer with it; see `withdrawn.py`


class Policy(StrEnum):
    """What must be true of a release before a rollout of it may begin."""

    NONE = "none"
    APPROVED = "approved"
    SECOND_PERSON = "second-person"


class Event(StrEnum):
    """What happens to a release."""

    PUBLISHED = "published"  # made, or given a further bundle
    APPROVED = "approved"
    RETIRED = "retired"
    WITHDRAWN = "withdrawn"
    REOPENED = "reopened"


# (stage, event) -> next stage. A pair that is absent is refused; the tests walk the table.
TRANSITIONS: dict[tuple[Stage, Event], Stage] = {
    (Stage.CANDIDATE, Event.PUBLISHED): Stage.CANDIDATE,
    (Stage.CANDIDATE, Event.APPROVED): Stage.APPROVED,
    (Stage.CANDIDATE, Event.RETIRED): Stage.RETIRED,
    (Stage.APPROVED, Event.PUBLISHED): Stage.CANDIDATE,  # nobody has approved the new bundle
    (Stage.APPROVED, Event.RETIRED): Stage.RETIRED,
    (Stage.RETIRED, Event.PUBLISHED): Stage.RETIRED,
    (Stage.RETIRED, Event.REOPENED): Stage.CANDIDATE,
    **{(stage, Event.WITHDRAWN): Stage.WITHDRAWN for stage in Stage if stage is not Stage.WITHDRAWN},
    (Stage.WITHDRAWN, Event.PUBLISHED): Stage.WITHDRAWN,
    (Stage.WITHDRAWN, Event.REOPENED): Stage.CANDIDATE,
}


@dataclass(frozen=True)
class Step:
    """One row of a release's history."""

    at_ms: int
    event: Event
    stage: Stage
    actor: str
    why: str


def step(stage: Stage, event: Event) -> Stage:
    """The next stage.

    Raises:
        Conflict: The event cannot happen in this stage.
    """
    after = TRANSITIONS.get((stage, event))
    if after is None:
        raise Conflict(f"a release that is {stage} cannot be {event}")
    return after


def history(connection: Connection, counter: int) -> list[Step]:
    """What happened to a release, oldest first; nothing of one that is older than stages are."""
    rows = connection.execute(
        select(release_steps).where(release_steps.c.counter == counter).order_by(release_steps.c.id)
    )
    return [Step(row.at_ms, Event(row.event), Stage(row.stage), row.actor, row.why) for row in rows]


def stage_of(steps: list[Step]) -> Stage:
    """Where a release stands after its history."""
    return steps[-1].stage if steps else Stage.CANDIDATE


def stages_of(connection: Connection) -> dict[int, Stage]:
    """Where every release that has a history stands."""
    last = select(func.max(release_steps.c.id)).group_by(release_steps.c.counter)
    rows = connection.execute(
        select(release_steps.c.counter, release_steps.c.stage).where(release_steps.c.id.in_(last))
    )
    return {row.counter: Stage(row.stage) for row in rows}


def note(connection: Connection, counter: int, event: Event, actor: str, now_ms: int, why: str = "") -> Stage:
    """Write an event into a release's history, in the transaction of the deed.

    Raises:
        NotFound: There is no such release.
        Conflict: It cannot happen in its stage.
        Forbidden: The policy asks for a second person, and this one published it.
    """
    found = connection.execute(select(releases).where(releases.c.counter == counter)).one_or_none()
    if found is None:
        raise NotFound(f"no release with counter {counter}")
    steps = history(connection, counter)
    before = stage_of(steps)
    after = step(before, event)
    name = f"{found.name}@{found.version}"
    alone = event is Event.APPROVED and not may_approve(steps, actor)
    if alone and policy(connection) is Policy.SECOND_PERSON:
        raise Forbidden(f"{actor} published {name}; somebody else must approve it")
    if Stage.WITHDRAWN in (before, after):
        # its time is the number of what devices are told, which grows whatever the clock does
        now_ms = max(now_ms, last_word(connection) + 1)
    connection.execute(
        insert(release_steps).values(
            counter=counter, at_ms=now_ms, event=event, stage=after, actor=actor[:64], why=why[:500]
        )
    )
    if event is not Event.PUBLISHED:  # publishing has an entry of its own
        record(connection, actor, f"release {event}", name, now_ms, before=before, after=after, why=why)
    return after


# of every step after which devices are to be told something else
_LAST_WORD = select(func.max(release_steps.c.at_ms)).where(
    (release_steps.c.stage == Stage.WITHDRAWN) | (release_steps.c.event == Event.REOPENED)
)


def last_word(connection: Connection) -> int:
    """Number of the newest word about withdrawn releases; 0 when none was ever withdrawn or reopened."""
    return int(connection.execute(_LAST_WORD).scalar() or 0)


def may_approve(steps: list[Step], actor: str) -> bool:
    """Whether somebody is a second person: published none of what the release consists of."""
    return actor[:64] not in {s.actor for s in steps if s.event is Event.PUBLISHED}


def policy(connection: Connection) -> Policy:
    """What this fleet asks of a release before a rollout."""
    stated = connection.execute(select(meta.c.value).where(meta.c.key == POLICY_KEY)).scalar()
    return Policy(stated) if stated else Policy.NONE


def set_policy(connection: Connection, wanted: Policy, actor: str, now_ms: int) -> None:
    """Change it; rollouts that run already go on."""
    before = policy(connection)
    upsert(connection, meta, {"key": POLICY_KEY, "value": str(wanted)}, ("key",))
    record(connection, actor, "release policy", str(wanted), now_ms, before=before)


def refusal(stage: Stage, steps: list[Step], wanted: Policy, name: str) -> str:
    """Why a release may not be rolled out; "" when it may. Pure."""
    if stage in (Stage.RETIRED, Stage.WITHDRAWN):
        why = f": {steps[-1].why}" if steps and steps[-1].why else ""
        return f"release {name} is {stage}{why}; edge-fleet release reopen {name} makes it a candidate again"
    if wanted is Policy.NONE or (stage is Stage.APPROVED and wanted is Policy.APPROVED):
        return ""
    if stage is not Stage.APPROVED:
        return (
            f"release {name} is not approved, and this fleet's policy is {wanted}; edge-fleet release approve"
        )
    approver = next(s.actor for s in reversed(steps) if s.event is Event.APPROVED)
    if not may_approve(steps, approver):  # approved while the policy was another
        return f"release {name} was approved by {approver}, who published it; a second person must approve it"
    return ""


def require_rollable(connection: Connection, counter: int) -> None:
    """Refuse a rollout that the policy does not allow.

    Raises:
        Conflict: The release is retired or withdrawn, or not approved as the policy asks.
    """
    why = missing(connection, counter)
    if why:
        raise Conflict(why)


def missing(connection: Connection, counter: int) -> str:
    """Why a release may not be rolled out; "" when it may."""
    found = connection.execute(select(releases).where(releases.c.counter == counter)).one()
    steps = history(connection, counter)
    return refusal(stage_of(steps), steps, policy(connection), f"{found.name}@{found.version}")
