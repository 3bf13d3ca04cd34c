"""The pages of alerts: open and past ones, one with its proof, and the rules with their hysteresis."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import Depends, Query, Response

from edge_fleet.alerts import listing, rows
from edge_fleet.alerts.machine import TRANSITIONS, Event
from edge_fleet.alerts.reread import reread
from edge_fleet.alerts.rules import LEVELS, RULES, Rule, differences
from edge_fleet.api import alerts as api
from edge_fleet.api.access import Shared
from edge_fleet.api.alerts import AckRequest, RuleRequest, SilenceRequest
from edge_fleet.api.row_ids import RowId
from edge_fleet.auth import Right
from edge_fleet.console import charts
from edge_fleet.console.forms import PAGE, Paged, asked, carry_out, doer, offset, tell
from edge_fleet.console.page import Text, Visitor, answer, make_router, number
from edge_fleet.console.session import Session
from edge_fleet.errors import NotFound, RequestInvalid
from edge_fleet.services import Server

router = make_router()

Doer = Annotated[Session, Depends(doer(Right.OPERATE, "alerts"))]
Ruler = Annotated[Session, Depends(doer(Right.ADMIN, "alerts"))]
SILENCES = {"3600": "an hour", "28800": "8 hours", "86400": "a day", "604800": "a week", "2592000": "30 days"}
# what an alert's subject is, where it is not a device
FLEET, DIGEST = "fleet", "sha256:"


@router.get("/console/alerts")
def alerts(
    services: Shared,
    visitor: Visitor,
    show: Literal["open", "past", "all"] = "open",
    rule: str = Query("", max_length=64),
    level: str = Query("", max_length=16),
    q: str = Query("", max_length=200),
    page: int = Query(1, ge=1, le=10**6),
) -> Response:
    """A page of alerts, what needs attention first."""
    wanted = listing.Wanted(listing.GROUPS[show], rule, level, q)
    with services.store.read() as connection:
        total, found = listing.page(connection, wanted, offset(page), PAGE)
        counts = listing.count(connection)
    fields = {"show": show, "rule": rule, "level": level, "q": q}
    return answer(
        visitor,
        "alerts.html",
        services.now_ms(),
        alerts=[{**one, "link": link(one["subject"])} for one in found],
        counts=counts,
        paged=Paged(page, total, fields),
        fields=fields,
        rules=list(RULES),
        levels=LEVELS,
    )


@router.get("/console/alerts/rules")
def rules(services: Shared, visitor: Visitor) -> Response:
    """What is looked for, from where on, and for how long."""
    return _rules(services, visitor)


@router.post("/console/alerts/rules")
def change_rule(
    services: Shared,
    visitor: Ruler,
    rule: Text = "",
    do: Text = "change",
    raise_at: Text = "",
    clear_at: Text = "",
    pending_s: Text = "",
    calm_s: Text = "",
    level: Text = "",
    enabled: Text = "",
) -> Response:
    """Change a rule of this fleet, or set it back to what it comes with."""

    def act() -> None:
        stated = {"raise_at": raise_at, "clear_at": clear_at, "pending_s": pending_s, "calm_s": calm_s}
        changes: dict[str, Any] = {
            **{name: number(text, name) for name, text in stated.items()},
            "level": level or None,
            "enabled": enabled == "on",
        }
        body = asked(RuleRequest, **changes) if do == "change" else RuleRequest()
        api.change_rule(rule, body, services, visitor.who)

    return carry_out(
        act, f"/alerts/rules#{rule}", lambda status, error: _rules(services, visitor, status, error)
    )


@router.get("/console/alerts/{alert}")
def alert(services: Shared, visitor: Visitor, alert: RowId) -> Response:
    """One alert."""
    return _alert(services, visitor, alert)


@router.post("/console/alerts/{alert}")
def order(
    services: Shared,
    visitor: Doer,
    alert: RowId,
    do: Text = "",
    why: Text = "",
    seconds: Text = "",
) -> Response:
    """Acknowledge an alert, or silence it for a while."""

    def act() -> None:
        if do == "ack":
            api.acknowledge(asked(AckRequest, why=why[:500]), services, visitor.who, alert)
        elif do == "silence":
            if seconds not in SILENCES:
                raise RequestInvalid(f"silence for {seconds!r:.20} s, expected one of {', '.join(SILENCES)}")
            api.silence(
                asked(SilenceRequest, seconds=int(seconds), why=why[:500]), services, visitor.who, alert
            )
        else:
            raise NotFound(f"no such order {do!r:.40}; possible: ack, silence")

    return carry_out(
        act, f"/alerts/{alert}", lambda status, error: _alert(services, visitor, alert, status, error)
    )


def link(subject: str) -> str:
    """The page of a subject."""
    if subject == FLEET:
        return "/console/fleet"
    if subject.startswith(DIGEST):
        return f"/console/models/find?{urlencode({'q': subject})}"
    return f"/console/devices/{subject}"


def _alert(services: Server, visitor: Session, alert: int, status: int = 200, error: str = "") -> Response:
    with services.store.read() as connection:
        found = rows.shown(connection, alert)
        proof = reread(connection, services.config.fleet, found["subject"], found["proof"])
        rule = rows.load_rules(connection).get(found["rule"])
    possible = [
        event for event in (Event.ACKNOWLEDGED, Event.SILENCED) if (found["phase"], event) in TRANSITIONS
    ]
    return tell(
        visitor,
        "alert.html",
        services.now_ms(),
        status,
        error,
        alert=found,
        link=link(found["subject"]),
        proof=proof,
        fork=found["rule"] == "fork" and len(proof) > 1,
        rule=rule,
        band=_band(rule, found["value"]) if rule is not None else "",
        figures=_figures(found["evidence"]),
        possible=possible,
        silences=SILENCES,
    )


def _rules(services: Server, visitor: Session, status: int = 200, error: str = "") -> Response:
    with services.store.read() as connection:
        found = rows.load_rules(connection)
    return tell(
        visitor,
        "alert_rules.html",
        services.now_ms(),
        status,
        error,
        rules=[(rule, _band(rule, None), differences(rule)) for rule in found.values()],
        levels=LEVELS,
    )


def _band(rule: Rule, value: float | None) -> Any:
    return charts.band(rule.clear_at, rule.raise_at, value, f"{rule.name}, {rule.unit}")


def _figures(evidence: dict[str, Any]) -> list[tuple[str, str]]:
    """The numbers and names of the evidence; what the proof is made of is shown there."""
    hidden = {"proof", "reason", "topic", "at_ms"}
    told = []
    for name, value in evidence.items():
        if name in hidden:
            continue
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        told.append((name.replace("_", " "), f"{shown:.6g}" if isinstance(shown, float) else str(shown)))
    return told
