"""A fleet as a rollout sees it, in groups of devices that it treats alike: counted by the database.

What a device gets is `targets.resolve`'s to say, which is asked once for each group and not for 100,000
devices. Devices of one group are alike in `devices.choice` and in whatever else this plan asks of them: the
terms of the selectors that look at labels and names, the other rollout that they are in, who left them out.
What depends on each device by its name - the arms of an experiment, a control group - has no groups;
`candidates.load_targets` answers then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Row,
    Select,
    Subquery,
    case,
    exists,
    func,
    or_,
    select,
)

from edge_fleet.assignment import FAILED, WITHDRAWN
from edge_fleet.rollouts import candidates, selector, targets
from edge_fleet.rollouts.members import skipped, told_of_skip
from edge_fleet.rollouts.phases import WATCHED
from edge_fleet.rollouts.plan import Join
from edge_fleet.rollouts.rows import Rollout
from edge_fleet.rollouts.selector import Selector, Term
from edge_fleet.rollouts.windows import LABEL
from edge_fleet.schema import CHOICE, assignments, bundles, devices, rollout_members, rollout_skips, rollouts

OF_THE_CHOICE = frozenset({"profile", "health"})  # keys of selectors that are no labels, nor names
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Group:
    """Devices that are alike.

    Args:
        device: Any of them, without its name.
        count: How many there are.
        claims: The other rollouts at work that name them.
        stages: Indexes of the stages by label that name them.
        key: What they are found again by.
    """

    device: targets.Device
    count: int
    claims: tuple[candidates.Claim, ...]
    stages: frozenset[int]
    key: Values


class Groups:
    """The devices that a rollout's selector names and that it has not reached."""

    def __init__(self, connection: Connection, rollout: Rollout, now_ms: int) -> None:
        """Ask nothing yet.

        Args:
            now_ms: For how devices do.
        """
        self._connection, self._rollout, self._now_ms = connection, rollout, now_ms
        self._mine = selector.parse(rollout.plan.select)
        self._claims = candidates.claims(connection, rollout)
        self._stages = {
            index: selector.parse(stage.label)
            for index, stage in enumerate(rollout.plan.stages)
            if stage.label is not None
        }
        asked = [self._mine, *(claim.named for claim in self._claims), *self._stages.values()]
        terms = [term for one in asked for term in one.terms]
        self._terms = {
            (term.key, term.values): f"term_{number}"
            for number, term in enumerate(terms)
            if term.key not in OF_THE_CHOICE
        }
        self._asks_health = any(term.key == "health" for term in terms)
        self._skips = bool(skipped(connection, rollout.id))

    @cached_property
    def found(self) -> tuple[Group, ...]:
        """All of them."""
        rows = self._rows
        names = [column.name for column in rows.selected_columns if column.name != "device"]
        inner = rows.subquery()
        columns = [inner.c[name] for name in names]
        counted = select(*columns, func.count().label("devices")).group_by(*columns)
        published = frozenset(self._connection.execute(select(bundles.c.digest)).scalars())
        groups = (self._group(row, published) for row in self._connection.execute(counted))
        return tuple(group for group in groups if group is not None)

    def names(self, group: Group, offset: int, most: int) -> list[str]:
        """Some devices of a group, by name."""
        inner = self._rows.subquery()
        # not IS NOT DISTINCT FROM, which PostgreSQL looks up in no index and joins by no hash
        same = (
            inner.c[name].is_(None) if value is None else inner.c[name] == value
            for name, value in group.key.items()
        )
        query = select(inner.c.device).where(*same).order_by(inner.c.device).offset(offset).limit(most)
        return list(self._connection.execute(query).scalars())

    @cached_property
    def _rows(self) -> Select[Any]:
        """Every device with what it is grouped by."""
        own, rollout = devices.c, self._rollout
        reached = exists().where(rollout_members.c.rollout == rollout.id, rollout_members.c.device == own.id)
        columns: dict[str, ColumnElement[Any]] = {"device": own.id, "choice": CHOICE}
        for (key, values), name in self._terms.items():
            asked = own.id if key == "device" else own.labels[key].as_string()
            columns[name] = case((asked.in_(sorted(values)), 1), else_=0)
        if rollout.plan.join is Join.NEVER and rollout.started_ms is not None:
            columns["late"] = case((own.enrolled_ms > rollout.started_ms, 1), else_=0)
        if rollout.plan.windows:
            columns["tz"] = own.labels[LABEL].as_string()
        # beside each device, not asked for each: PostgreSQL would ask 100,000 times
        source: FromClause = devices
        if self._others:
            busy = _busy(self._others)
            source = source.outerjoin(busy, busy.c.device == own.id)
            columns["busy"] = busy.c.rollout
        if self._skips:
            skip = rollout_skips.c
            source = source.outerjoin(rollout_skips, (skip.rollout == rollout.id) & (skip.device == own.id))
            columns |= {"actor": skip.actor, "why": skip.why}
        if self._asks_health:
            silent = or_(
                own.last_seen_ms.is_(None), own.last_seen_ms < self._now_ms - candidates.SILENT_AFTER_MS
            )
            newest = _newest()
            source = source.outerjoin(newest, newest.c.device == own.id)
            columns |= {"silent": case((silent, 1), else_=0), "phase": newest.c.phase}
        # of the others nothing is asked, and those that the selector's labels and names leave out are many
        named = (
            columns[self._terms[term.key, term.values]] == (0 if term.negated else 1)
            for term in self._mine.terms
            if term.key not in OF_THE_CHOICE
        )
        labelled = (column.label(name) for name, column in columns.items())
        return select(*labelled).select_from(source).where(own.revoked_ms.is_(None), ~reached, *named)

    @cached_property
    def _others(self) -> list[str]:
        query = select(rollouts.c.id).where(
            rollouts.c.phase.in_(list(WATCHED)), rollouts.c.id != self._rollout.id
        )
        return list(self._connection.execute(query).scalars())

    def _group(self, row: Row[*tuple[Any, ...]], published: frozenset[str]) -> Group | None:
        """What a row says; None of devices that are not named."""
        key: dict[str, Any] = dict(row._mapping)
        count = key.pop("devices")
        choice = candidates.choice_of(key["choice"], published)
        profile = choice.profile
        health = candidates.health_of(
            key.get("phase") in FAILED, bool(key.get("silent")), choice.active, choice.degraded
        )
        if not self._names(self._mine, key, profile, health):
            return None
        named = tuple(claim for claim in self._claims if self._names(claim.named, key, profile, health))
        started_s = (self._rollout.started_ms or 0) / 1000
        device = targets.Device(
            id="",
            profile=profile,
            labels={LABEL: key["tz"]} if key.get("tz") is not None else {},
            counter=choice.counter,
            active=choice.active,
            busy=key.get("busy"),
            claimed=next((one.rollout for one in named if one.priority > self._rollout.plan.priority), None),
            skipped=told_of_skip(key["actor"], key["why"]) if key.get("actor") is not None else "",
            health=health,
            enrolled_s=started_s + 1 if key.get("late") else started_s,
            unable=choice.unable,
            unready=choice.unready,
        )
        stages = (index for index, one in self._stages.items() if self._names(one, key, profile, ""))
        return Group(device, count, named, frozenset(stages), key)

    def _names(self, wanted: Selector, key: Values, profile: Sequence[str], health: str) -> bool:
        return all(self._holds(term, key, profile, health) for term in wanted.terms)

    def _holds(self, term: Term, key: Values, profile: Sequence[str], health: str) -> bool:
        """What the database was not asked for follows from the choice."""
        name = self._terms.get((term.key, term.values))
        if name is None:
            return term.holds("", profile, {}, health)
        return bool(key[name]) is not term.negated


def _busy(others: Sequence[str]) -> Subquery:
    """The devices that take part in other rollouts at work, each with one of these."""
    member = rollout_members.c
    return (
        select(member.device, func.max(member.rollout).label("rollout"))
        .where(member.rollout.in_(others), member.left_as.is_(None))
        .group_by(member.device)
        .subquery("busy_in")
    )


def _newest() -> Subquery:
    """Where the newest assignment of each device stands, but for what was withdrawn."""
    own = assignments.c
    last = select(own.device, func.max(own.number).label("number")).group_by(own.device).subquery("last")
    here = (own.device == last.c.device) & (own.number == last.c.number) & (own.code != WITHDRAWN)
    return select(own.device, own.phase).select_from(last.join(assignments, here)).subquery("newest")
