"""Alerts a page at a time, found and ordered by the database: a fleet has years of them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, case, func, or_, select

from edge_fleet.alerts.answers import AlertSummary
from edge_fleet.alerts.machine import Phase
from edge_fleet.alerts.rows import OPEN, told
from edge_fleet.schema import alerts

# what needs a person comes first; what is over comes last, the newest first
_ORDER = (Phase.FIRING, Phase.ACKNOWLEDGED, Phase.SILENCED, Phase.PENDING, Phase.RESOLVED)


@dataclass(frozen=True)
class Wanted:
    """What a list is narrowed to; what is empty does not narrow.

    Args:
        text: A part of the subject or of the reason.
    """

    phases: tuple[Phase, ...] = OPEN
    rule: str = ""
    level: str = ""
    text: str = ""


GROUPS: dict[str, tuple[Phase, ...]] = {"open": OPEN, "past": (Phase.RESOLVED,), "all": tuple(Phase)}


def page(connection: Connection, wanted: Wanted, offset: int, most: int) -> tuple[int, list[AlertSummary]]:
    """How many alerts fit, and some of them, what needs attention first."""
    own = alerts.c
    query = select(alerts).where(own.phase.in_(list(wanted.phases)))
    if wanted.rule:
        query = query.where(own.rule == wanted.rule)
    if wanted.level:
        query = query.where(own.level == wanted.level)
    for word in wanted.text.split():
        query = query.where(or_(*(part.icontains(word, autoescape=True) for part in (own.subject, own.why))))
    total = connection.execute(select(func.count()).select_from(query.subquery())).scalar_one()
    urgency = case({phase.value: place for place, phase in enumerate(_ORDER)}, value=own.phase)
    ordered = query.order_by(urgency, case((own.level == "critical", 0), else_=1), own.id.desc())
    rows = connection.execute(ordered.offset(offset).limit(most))
    return total, [told(row) for row in rows]


def count(connection: Connection) -> dict[Phase, int]:
    """How many alerts are in each phase."""
    rows = connection.execute(select(alerts.c.phase, func.count().label("n")).group_by(alerts.c.phase))
    return {Phase(row.phase): row.n for row in rows}
