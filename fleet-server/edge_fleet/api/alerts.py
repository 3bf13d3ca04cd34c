"""Alerts over HTTP: listing, showing with proof, acknowledging, silencing, and the rules."""

from __future__ import annotations

from fastapi import Query
from pydantic import Field

from edge_fleet.alerts import listing, rows
from edge_fleet.alerts.answers import AlertInFull, AlertSummary
from edge_fleet.alerts.rules import Rule
from edge_fleet.api.access import Admin, Operator, Reader, Shared
from edge_fleet.api.answers import Router
from edge_fleet.api.row_ids import RowId, Skipped
from edge_fleet.model import Frozen
from edge_fleet.services import Server

router = Router(prefix="/api/v1", tags=["alerts"])


class AckRequest(Frozen):
    """What is being done about it."""

    why: str = Field(default="", max_length=500)


class SilenceRequest(Frozen):
    """For how long nobody is told, and why."""

    seconds: int = Field(gt=0, le=30 * 86_400)
    why: str = Field(default="", max_length=500)


class RuleRequest(Frozen):
    """Settings of a rule that change; none sets it back to what it comes with."""

    raise_at: float | None = None
    clear_at: float | None = None
    pending_s: float | None = None
    calm_s: float | None = None
    level: str | None = Field(default=None, max_length=16)
    enabled: bool | None = None


@router.get("/alerts")
def list_alerts(
    services: Shared,
    who: Reader,
    resolved: bool = Query(False, description="Those that are over, too"),
    rule: str = Query("", max_length=64),
    level: str = Query("", max_length=16),
    text: str = Query("", max_length=200, description="A part of the subject or of the reason"),
    most: int = Query(200, ge=1, le=1000),
    skip: Skipped = 0,
) -> list[AlertSummary]:
    """Open alerts, what needs attention first."""
    wanted = listing.Wanted(listing.GROUPS["all" if resolved else "open"], rule, level, text)
    with services.store.read() as connection:
        return listing.page(connection, wanted, skip, most)[1]


@router.get("/alerts/{alert}")
def show_alert(services: Shared, who: Reader, alert: RowId) -> AlertInFull:
    """One alert: why, its history, and the messages that prove it."""
    with services.store.read() as connection:
        return rows.shown(connection, alert)


@router.post("/alerts/{alert}/ack")
def acknowledge(body: AckRequest, services: Shared, who: Operator, alert: RowId) -> AlertInFull:
    """Say that somebody looks after it."""
    with services.store.write() as connection:
        rows.acknowledge(connection, alert, who.name, body.why, services.now_ms())
    return _told(services, alert)


@router.post("/alerts/{alert}/silence")
def silence(body: SilenceRequest, services: Shared, who: Operator, alert: RowId) -> AlertInFull:
    """Tell nobody for a while; it fires again if it is still bad then."""
    now_ms = services.now_ms()
    with services.store.write() as connection:
        rows.silence(connection, alert, now_ms + 1000 * body.seconds, who.name, body.why, now_ms)
    return _told(services, alert)


@router.get("/alert-rules")
def list_rules(services: Shared, who: Reader) -> list[Rule]:
    """What is looked for, from where on, and for how long."""
    with services.store.read() as connection:
        return list(rows.load_rules(connection).values())


@router.post("/alert-rules/{rule}")
def change_rule(rule: str, body: RuleRequest, services: Shared, who: Admin) -> Rule:
    """Change a rule of this fleet."""
    changes = body.model_dump(exclude_none=True)
    with services.store.write() as connection:
        return rows.set_rule(connection, rule, changes, who.name, services.now_ms())


def _told(services: Server, alert: int) -> AlertInFull:
    with services.store.read() as connection:
        found = rows.shown(connection, alert)
    services.bus.publish("alert", alert=alert, phase=found["phase"])
    return found
