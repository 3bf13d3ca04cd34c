"""The fleet as a rollout sees it: devices that may be chosen, and what its release has for each."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, or_, select

from edge_contracts.messages import Knows
from edge_fleet.assignment import FAILED, WITHDRAWN
from edge_fleet.errors import NotFound
from edge_fleet.lineage.resolution import Need
from edge_fleet.lineage.rows import software_needs, unfit_for
from edge_fleet.rollouts import selector, targets
from edge_fleet.rollouts.members import skipped
from edge_fleet.rollouts.phases import WATCHED
from edge_fleet.rollouts.rows import Rollout
from edge_fleet.schema import CHOICE, assignments, bundles, devices, releases, rollout_members, rollouts

SILENT_AFTER_MS = 300_000
PORTION = 500  # below every SQLite's limit of variables


@dataclass(frozen=True)
class Claim:
    """What another rollout at work names."""

    rollout: str
    named: selector.Selector
    priority: int


@dataclass(frozen=True)
class Terms:
    """What the choices of a rollout rest on besides its devices.

    Args:
        before: The rollouts at work that come first, with what they name.
        published: Digests of all bundles that there are.
        needs: What the fleet asks of its devices' software.
    """

    release: targets.Release
    named: selector.Selector
    before: tuple[tuple[str, selector.Selector], ...]
    published: frozenset[str]
    needs: tuple[Need, ...]

    @property
    def ask_health(self) -> bool:
        """Whether it matters how devices do."""
        asked = [self.named, *(one for _, one in self.before)]
        return any(term.key == "health" for one in asked for term in one.terms)


@dataclass(frozen=True)
class Choice:
    """What a device is chosen by, but for its name, its labels and what it is in the middle of."""

    profile: tuple[str, ...]
    counter: int
    active: str | None
    degraded: bool
    unable: str
    unready: str


def load_release(connection: Connection, name: str, version: str) -> targets.Release:
    """A release's bundles by profile.

    Raises:
        NotFound: It has not been published.
    """
    row = connection.execute(
        select(releases.c.counter).where(releases.c.name == name, releases.c.version == version)
    ).one_or_none()
    if row is None:
        raise NotFound(f"no release {name}@{version}; `edge-fleet release list` shows all")
    found = connection.execute(
        select(bundles.c.profile, bundles.c.digest).where(bundles.c.counter == row.counter)
    )
    return targets.Release(row.counter, {bundle.profile: bundle.digest for bundle in found})


def count_bundles(connection: Connection, counter: int) -> int:
    """How many bundles a release has: each is a class of device that its gates judge by itself."""
    counted = select(func.count()).select_from(bundles).where(bundles.c.counter == counter)
    return int(connection.execute(counted).scalar_one())


def load_terms(connection: Connection, rollout: Rollout) -> Terms:
    """What the choices of a rollout rest on besides its devices.

    Raises:
        NotFound: Its release has not been published.
    """
    return Terms(
        load_release(connection, rollout.plan.model, rollout.plan.version),
        selector.parse(rollout.plan.select),
        tuple(_ahead(connection, rollout)),
        frozenset(connection.execute(select(bundles.c.digest)).scalars()),
        tuple(software_needs(connection)),
    )


def load_devices(
    connection: Connection, rollout: Rollout, terms: Terms, now_ms: int, among: Sequence[str] | None = None
) -> list[targets.Device]:
    """Every device that may be chosen: enrolled, not revoked.

    Args:
        rollout: The one that chooses; taking part in another makes a device busy.
        now_ms: For how devices do; of no matter where nobody asks for that.
        among: Only those of these, at most PORTION; None for all.
    """
    busy = _busy(connection, rollout, among)
    left_out = skipped(connection, rollout.id)
    phases = _newest_phases(connection, among) if terms.ask_health else {}
    # on SQLite an index has all of these; a fleet of 100,000 is a handful of choices, each read once
    row_of = select(devices.c.id, CHOICE, devices.c.labels, devices.c.enrolled_ms)
    if terms.ask_health:
        row_of = row_of.add_columns(devices.c.last_seen_ms)
    choices: dict[str, Choice] = {}
    found = []
    for row in connection.execute(row_of.where(devices.c.revoked_ms.is_(None), *_only(devices.c.id, among))):
        choice = choices.get(row.choice)
        if choice is None:
            choice = choices[row.choice] = choice_of(row.choice, terms.published)
        health = selector.Health.OK
        if terms.ask_health:
            silent = row.last_seen_ms is None or now_ms - row.last_seen_ms > SILENT_AFTER_MS
            health = health_of(phases.get(row.id) in FAILED, silent, choice.active, choice.degraded)
        device = targets.Device(
            id=row.id,
            profile=choice.profile,
            labels=row.labels,
            counter=choice.counter,
            active=choice.active,
            busy=busy.get(row.id),
            skipped=left_out.get(row.id, ""),
            health=health,
            enrolled_s=row.enrolled_ms / 1000,
            unable=choice.unable,
            unready=choice.unready,
        )
        found.append(replace(device, claimed=_claimed(device, terms.before)) if terms.before else device)
    return sorted(found, key=lambda device: device.id)


def silent_devices(connection: Connection, now_ms: int) -> frozenset[str]:
    """Those that `health=silent` names, or would but for a failure."""
    own = devices.c
    silent = or_(own.last_seen_ms.is_(None), own.last_seen_ms < now_ms - SILENT_AFTER_MS)
    return frozenset(connection.execute(select(own.id).where(own.revoked_ms.is_(None), silent)).scalars())


def choice_of(text: str, published: frozenset[str]) -> Choice:
    """What `devices.choice` says; its lines are told in `schema/choice.py`."""
    counter, active, degraded, knows_text, profile_text = text.split("\n", 4)
    knows = json.loads(knows_text) or ()
    return Choice(
        profile=tuple(json.loads(profile_text)),
        counter=int(counter),
        active=active or None,
        degraded=degraded == "1",
        unable=unable(knows, active or None, published),
        unready=unready(knows),
    )


def load_targets(
    connection: Connection,
    rollout: Rollout,
    now_ms: int,
    among: Collection[str] | None = None,
    terms: Terms | None = None,
) -> tuple[targets.Target, ...]:
    """What every device that a rollout's selector names would get now, or why it would get nothing.

    Args:
        among: Only those of these; None for all.
        terms: As they were loaded in this transaction; None: they are loaded.
    """
    terms = load_terms(connection, rollout) if terms is None else terms
    if among is None:
        found = load_devices(connection, rollout, terms, now_ms)
    else:
        ids = list(among)
        portions = (ids[start : start + PORTION] for start in range(0, len(ids), PORTION))
        found = [
            device
            for portion in portions
            for device in load_devices(connection, rollout, terms, now_ms, portion)
        ]
    chosen = targets.select(
        rollout.plan,
        terms.named,
        terms.release,
        found,
        None if rollout.started_ms is None else rollout.started_ms / 1000,
    )
    unfit = unfit_for(connection, rollout.counter)
    return tuple(
        replace(target, bundle=None, reason=unfit[target.device], wait="")
        if target.bundle is not None and target.device in unfit
        else target
        for target in chosen
    )


def _ahead(connection: Connection, rollout: Rollout) -> list[tuple[str, selector.Selector]]:
    """The rollouts at work that come before this one, with what they name."""
    return [
        (claim.rollout, claim.named)
        for claim in claims(connection, rollout)
        if claim.priority > rollout.plan.priority
    ]


def claims(connection: Connection, rollout: Rollout) -> list[Claim]:
    """What the other rollouts at work name; a plan of a later release is read as far as it can be."""
    rows = connection.execute(
        select(rollouts.c.id, rollouts.c.plan)
        .where(rollouts.c.phase.in_(list(WATCHED)), rollouts.c.id != rollout.id)
        .order_by(rollouts.c.created_ms, rollouts.c.id)
    )
    found = []
    for row in rows:
        try:
            named = selector.parse(str(row.plan.get("select", selector.ALL)))
            found.append(Claim(row.id, named, int(row.plan.get("priority", 0))))
        except ValueError:
            continue  # the look at that rollout reports it
    return found


def _claimed(device: targets.Device, before: Iterable[tuple[str, selector.Selector]]) -> str | None:
    where = (device.id, device.profile, device.labels, device.health)
    return next((other for other, theirs in before if theirs.matches(*where)), None)


def _busy(connection: Connection, rollout: Rollout, among: Sequence[str] | None) -> dict[str, str]:
    """The devices that take part in other rollouts at work, each with one of these."""
    own = rollout_members.c
    query = (
        select(own.device, own.rollout)
        .join(rollouts, rollouts.c.id == own.rollout)
        .where(rollouts.c.phase.in_(list(WATCHED)), own.rollout != rollout.id, own.left_as.is_(None))
        .order_by(own.rollout)
    )
    return {row.device: row.rollout for row in connection.execute(query.where(*_only(own.device, among)))}


def _newest_phases(connection: Connection, among: Sequence[str] | None) -> dict[str, str]:
    """Where the newest assignment of each device stands, but for what was withdrawn."""
    last = (
        select(assignments.c.device, func.max(assignments.c.number).label("number"))
        .where(*_only(assignments.c.device, among))
        .group_by(assignments.c.device)
        .subquery()
    )
    rows = connection.execute(
        select(assignments.c.device, assignments.c.phase)
        .join(last, (last.c.device == assignments.c.device) & (last.c.number == assignments.c.number))
        .where(assignments.c.code != WITHDRAWN)
    )
    return {row.device: row.phase for row in rows}


def _only(column: ColumnElement[str], among: Sequence[str] | None) -> list[ColumnElement[bool]]:
    return [] if among is None else [column.in_(among)]


def health_of(failing: bool, silent: bool, active: str | None, degraded: bool) -> selector.Health:
    """How a device does, as `select` may ask."""
    if failing:
        return selector.Health.FAILING
    if silent:
        return selector.Health.SILENT
    if active is None:
        return selector.Health.EMPTY
    return selector.Health.DEGRADED if degraded else selector.Health.OK


def unable(knows: Collection[str], active: str | None, published: frozenset[str]) -> str:
    """Why a device cannot run a release as a shadow; "" when it can."""
    if Knows.SHADOW not in knows:
        return "its agent does not know shadows that are assigned"
    if active is None:
        return "nothing answers there that it could run beside"
    return "" if active in published else "what answers there was not published here"


def unready(knows: Collection[str]) -> str:
    """Why a device cannot have a release wait in its spare slot; "" when it can."""
    return "" if Knows.HOLD in knows else "its agent does not know how to wait with a release"


def active_bundle(state: Mapping[str, Any] | None) -> str | None:
    """Digest of what a device runs, by its own last word."""
    return state["active"]["bundle"] if state and state.get("active") else None


def active_bundles(connection: Connection, wanted: Iterable[str]) -> dict[str, str]:
    """Digest of what these devices run, of those that said so."""
    ids = list(wanted)
    return {
        row.id: found
        for start in range(0, len(ids), PORTION)
        for row in connection.execute(
            select(devices.c.id, devices.c.state).where(devices.c.id.in_(ids[start : start + PORTION]))
        )
        if (found := active_bundle(row.state)) is not None
    }


def known_bundles(connection: Connection, digests: Iterable[str]) -> frozenset[str]:
    """Those of some bundles that have been published here."""
    return frozenset(
        connection.execute(select(bundles.c.digest).where(bundles.c.digest.in_(list(digests)))).scalars()
    )
