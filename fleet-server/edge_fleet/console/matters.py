"""What needs a person, the most urgent first: each with one line of why and a place to go.

Every question asks for a few rows through an index, or for counts that are kept; none grows with the fleet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlencode

from sqlalchemy import Connection, func, or_, select

from edge_fleet.access import two_people
from edge_fleet.alerts import listing
from edge_fleet.alerts.forgeries import REFUSED
from edge_fleet.alerts.machine import Phase as AlertPhase
from edge_fleet.lineage import stages
from edge_fleet.rollouts.phases import RETURNING, Phase
from edge_fleet.schema import alerts, bundles, refusals, releases, rollout_approvals, rollouts, standings
from edge_fleet.standings import find
from edge_fleet.standings.condition import URGENT, Health

FEW = 5  # of a kind that are named one by one
DAY_MS = 86_400_000
# phases in which a rollout went no further than its plan wanted, for a day after the end
WENT_WRONG = (Phase.ROLLED_BACK, Phase.STOPPED)
NEEDS_ORDER = (Phase.HELD, Phase.PAUSED)


@dataclass(frozen=True)
class Matter:
    """One thing that needs attention.

    Args:
        kind: "broker", "alert", "rollout", "device", "refusal" or "approval".
        word: Its state, as a badge.
        level: "critical", "warning" or "calm".
        link: Where it can be looked into; "" for nowhere.
        at_ms: Since when, if that is known.
    """

    kind: str
    word: str
    level: str
    title: str
    why: str
    link: str = ""
    at_ms: int | None = None


def matters(connection: Connection, now_ms: int, broker_up: bool) -> list[Matter]:
    """Everything that needs attention, the most urgent first."""
    found = [
        *_broker(broker_up),
        *_alerts(connection),
        *_rollouts(connection, now_ms),
        *_devices(connection),
        *_approvals(connection),
        *_refusals(connection, now_ms),
    ]
    order = ("critical", "warning", "calm")
    return sorted(found, key=lambda one: order.index(one.level))


def fleet_link(**narrowed: str) -> str:
    """The fleet's page, narrowed."""
    return f"/console/fleet?{urlencode(narrowed)}"


def _broker(up: bool) -> Iterator[Matter]:
    if not up:
        yield Matter(
            "broker",
            "down",
            "critical",
            "The broker does not answer",
            "nothing is heard from any device and no order reaches one; devices keep what they have to say",
        )


def _alerts(connection: Connection) -> Iterator[Matter]:
    total, firing = listing.page(connection, listing.Wanted((AlertPhase.FIRING,)), 0, 10 * FEW)
    for one in firing[:FEW]:
        yield Matter(
            "alert",
            one["rule"],
            one["level"],
            f"{one['said']}: {_subject(connection, one['subject'])}",
            one["why"],
            f"/console/alerts/{one['id']}",
            one["fired_ms"] or one["since_ms"],
        )
    if total > FEW:
        rules = sorted({one["rule"] for one in firing[FEW:]})
        told = f"{total - FEW} further alerts fire"
        yield Matter("alert", "more", "warning", told, ", ".join(rules), "/console/alerts")


def _subject(connection: Connection, subject: str) -> str:
    """A device, the fleet, or a bundle by name."""
    if not subject.startswith("sha256:"):
        return subject
    row = connection.execute(
        select(releases.c.name, releases.c.version, bundles.c.profile)
        .join(bundles, bundles.c.counter == releases.c.counter)
        .where(bundles.c.digest == subject)
    ).one_or_none()
    return subject[:19] if row is None else f"{row.name} {row.version} for {row.profile}"


def _rollouts(connection: Connection, now_ms: int) -> Iterator[Matter]:
    own = rollouts.c
    rows = connection.execute(
        select(own.id, own.phase, own.why, own.since_ms, releases.c.name, releases.c.version)
        .join(releases, releases.c.counter == own.counter)
        .where(
            own.phase.in_((*NEEDS_ORDER, *RETURNING))
            | (own.phase.in_(WENT_WRONG) & (own.since_ms >= now_ms - DAY_MS))
        )
        .order_by(own.since_ms.desc())
        .limit(2 * FEW)
    )
    for row in rows:
        level = "critical" if row.phase in (Phase.HELD, *RETURNING) else "warning"
        yield Matter(
            "rollout",
            row.phase,
            level,
            f"Rollout of {row.name} {row.version}",
            row.why or f"it is {row.phase}",
            f"/console/rollouts/{row.id}",
            row.since_ms,
        )


def _devices(connection: Connection) -> Iterator[Matter]:
    counts = find.by_health(connection)
    for health in URGENT:
        count = counts.get(health, 0)
        if count:
            names = find.find(connection, find.Wanted(health=health, sort="latest", size=FEW)).rows
            yield Matter(
                "device",
                health,
                "critical" if health is Health.FAILING else "warning",
                _so_many(count, health),
                _named([f"{row.device}: {row.reason}" for row in names[:2]], count - 2),
                f"/console/devices/{names[0].device}" if count == 1 else fleet_link(health=health),
                max(row.since_ms for row in names),
            )
    count = find.degraded(connection)
    if count:
        rows = connection.execute(
            select(standings.c.device, standings.c.fallback).where(standings.c.degraded == 1).limit(2)
        ).all()
        yield Matter(
            "device",
            "fallback",
            "warning",
            f"{_so_many(count, '')} not on the first choice of the profile",
            _named([f"{row.device}: {row.fallback}" for row in rows], count - 2),
            f"/console/devices/{rows[0].device}" if count == 1 else fleet_link(degraded="1"),
        )


def _approvals(connection: Connection) -> Iterator[Matter]:
    if stages.policy(connection) is not stages.Policy.NONE:
        known = stages.stages_of(connection)
        rows = connection.execute(select(releases).order_by(releases.c.counter.desc()).limit(50))
        waiting = [
            row for row in rows if known.get(row.counter, stages.Stage.CANDIDATE) is stages.Stage.CANDIDATE
        ]
        for row in waiting[:FEW]:
            yield Matter(
                "approval",
                "candidate",
                "calm",
                f"{row.name} {row.version} waits for approval",
                "this fleet rolls out only what is approved",
                f"/console/models/{row.name}@{row.version}",
                row.created_ms,
            )
    above = two_people.rule(connection)
    if above is not None:
        approved = select(rollout_approvals.c.rollout)
        own = rollouts.c
        drafts = connection.execute(
            select(own.id, own.created_by, own.created_ms, releases.c.name, releases.c.version)
            .join(releases, releases.c.counter == own.counter)
            .where(own.phase == Phase.DRAFT, own.id.not_in(approved))
            .order_by(own.created_ms.desc())
            .limit(FEW)
        )
        for row in drafts:
            yield Matter(
                "approval",
                "draft",
                "calm",
                f"Rollout of {row.name} {row.version} is a draft without an approval",
                f"made by {row.created_by}; over {above:g} % of the fleet somebody else must approve it",
                f"/console/rollouts/{row.id}",
                row.created_ms,
            )


def _refusals(connection: Connection, now_ms: int) -> Iterator[Matter]:
    """What was refused, but for what an open alert says already."""
    own = refusals.c
    open_alerts = select(alerts.c.id).where(
        alerts.c.phase.in_((AlertPhase.FIRING, AlertPhase.ACKNOWLEDGED, AlertPhase.SILENCED)),
        alerts.c.subject.in_((own.device, "fleet")),
        or_(*((alerts.c.rule == rule) & own.reason.in_(reasons) for rule, reasons in REFUSED.items())),
    )
    rows = connection.execute(
        select(
            own.reason,
            func.count(own.device).label("senders"),
            func.sum(own.count).label("times"),
            func.max(own.last_ms).label("last_ms"),
            func.max(own.device).label("device"),
            func.max(own.detail).label("detail"),
        )
        .where(own.last_ms >= now_ms - DAY_MS, ~open_alerts.exists())
        .group_by(own.reason)
        .order_by(func.max(own.last_ms).desc())
        .limit(FEW)
    )
    for row in rows:
        sender = f"in the name of {row.device}" if row.senders == 1 and row.device else "of several senders"
        yield Matter(
            "refusal",
            row.reason,
            "calm",
            f"Messages {sender} were refused",
            f"{int(row.times)} in all as {row.reason}; one of them: {row.detail}",
            f"/console/devices/{row.device}" if row.device else "",
            row.last_ms,
        )


def _so_many(count: int, word: str) -> str:
    noun = "device is" if count == 1 else "devices are"
    return f"{count:,} {noun} {word}".strip()


def _named(some: list[str], more: int) -> str:
    return "; ".join(some) + (f"; and {more:,} more" if more > 0 else "")
