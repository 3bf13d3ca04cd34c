"""Alerts as rows: storing what a round decided, what people order, and reading them back.

`shown` is what the API, the command line and the console show of one; lists of them are in `listing.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

from sqlalchemy import Connection, Row, insert, select, update

from edge_fleet.alerts.answers import AlertInFull, AlertSummary
from edge_fleet.alerts.machine import Alert, Decision, Event, Phase, step
from edge_fleet.alerts.proof import proof
from edge_fleet.alerts.rules import RULES, Rule, changed, differences
from edge_fleet.audit import record
from edge_fleet.errors import Conflict, NotFound, RequestInvalid
from edge_fleet.schema import alert_steps, alerts, meta
from edge_fleet.store import upsert

ACTOR = "alerts"
RULES_KEY = "alert_rules"
MAX_SILENCE_MS = 30 * 86_400_000
OPEN = tuple(phase for phase in Phase if phase is not Phase.RESOLVED)


def load_open(connection: Connection) -> list[Alert]:
    """Every alert that is not resolved."""
    rows = connection.execute(select(alerts).where(alerts.c.phase.in_(OPEN)).order_by(alerts.c.id))
    return [_alert(row) for row in rows]


def store(connection: Connection, decisions: Iterable[Decision], now_ms: int) -> list[tuple[Alert, Event]]:
    """Write what a round decided; alerts and what happened to them, of those whose phase changed."""
    told: list[tuple[Alert, Event]] = []
    for decision in decisions:
        alert = _write(connection, decision.alert, now_ms, moved=decision.event is not None)
        if decision.event is None:
            continue
        assert alert.id is not None
        _step(connection, alert.id, decision.event, alert.phase, ACTOR, alert.why, now_ms)
        told.append((alert, decision.event))
    return told


def acknowledge(connection: Connection, alert: int, actor: str, why: str, now_ms: int) -> None:
    """Somebody looks after it.

    Raises:
        NotFound: There is no such alert.
        Conflict: It is not firing or silenced.
    """
    _order(connection, alert, Event.ACKNOWLEDGED, actor, why, now_ms, silenced_ms=None)


def silence(connection: Connection, alert: int, until_ms: int, actor: str, why: str, now_ms: int) -> None:
    """Tell nobody of it for a while.

    Raises:
        RequestInvalid: For longer than 30 days, or not at all.
        NotFound: There is no such alert.
        Conflict: It is resolved, or does not fire yet.
    """
    if not now_ms < until_ms <= now_ms + MAX_SILENCE_MS:
        raise RequestInvalid("silence an alert for more than nothing and at most 30 days")
    _order(connection, alert, Event.SILENCED, actor, why, now_ms, silenced_ms=until_ms)


def shown(connection: Connection, alert: int) -> AlertInFull:
    """One alert: what, why, its history, and the messages that prove it.

    Raises:
        NotFound: There is no such alert.
    """
    row = _require(connection, alert)
    steps = connection.execute(
        select(alert_steps).where(alert_steps.c.alert == alert).order_by(alert_steps.c.id)
    )
    return {
        **told(row),
        "history": [
            {
                "at_ms": step.at_ms,
                "event": Event(step.event),
                "phase": Phase(step.phase),
                "actor": step.actor,
                "why": step.why,
            }
            for step in steps
        ],
        "proof": proof(connection, row.subject, row.evidence),
    }


def load_rules(connection: Connection) -> dict[str, Rule]:
    """The rules as this fleet has set them."""
    stated = connection.execute(select(meta.c.value).where(meta.c.key == RULES_KEY)).scalar()
    changes: Mapping[str, Any] = json.loads(stated) if stated else {}
    return {name: changed(rule, changes.get(name, {})) for name, rule in RULES.items()}


def set_rule(connection: Connection, name: str, changes: Mapping[str, Any], actor: str, now_ms: int) -> Rule:
    """Change some settings of a rule; nothing stated sets it back to what it comes with.

    Raises:
        NotFound: There is no such rule.
        RequestInvalid: See `rules.changed`.
    """
    if name not in RULES:
        raise NotFound(f"no alert rule {name!r:.60}; there are {', '.join(RULES)}")
    rules = load_rules(connection)
    rules[name] = changed(rules[name], changes) if changes else RULES[name]
    stated = {key: difference for key, rule in rules.items() if (difference := differences(rule))}
    upsert(connection, meta, {"key": RULES_KEY, "value": json.dumps(stated)}, ("key",))
    record(connection, actor, "alert rule", name, now_ms, changes=dict(changes))
    return rules[name]


def _order(
    connection: Connection,
    alert: int,
    event: Event,
    actor: str,
    why: str,
    now_ms: int,
    silenced_ms: int | None,
) -> None:
    row = _require(connection, alert)
    try:
        phase = step(Phase(row.phase), event)
    except Conflict as error:
        raise Conflict(f"alert {alert}: {error}") from None
    connection.execute(
        update(alerts)
        .where(alerts.c.id == alert)
        .values(phase=phase, silenced_ms=silenced_ms, changed_ms=now_ms)
    )
    _step(connection, alert, event, phase, actor, why, now_ms)
    record(connection, actor, f"alert {event}", f"{row.rule} {row.subject}", now_ms, alert=alert, why=why)


def _require(connection: Connection, alert: int) -> Row[Any]:
    row = connection.execute(select(alerts).where(alerts.c.id == alert)).one_or_none()
    if row is None:
        raise NotFound(f"no alert {alert}")
    return row


def _write(connection: Connection, alert: Alert, now_ms: int, moved: bool) -> Alert:
    values = {**vars(alert), "why": alert.why[:500], "evidence": dict(alert.evidence)}
    del values["id"]
    if alert.id is None:
        made = connection.execute(insert(alerts).values(**values, changed_ms=now_ms))
        assert made.inserted_primary_key is not None
        return Alert(**{**vars(alert), "id": int(made.inserted_primary_key[0])})
    if moved:
        values["changed_ms"] = now_ms
    connection.execute(update(alerts).where(alerts.c.id == alert.id).values(**values))
    return alert


def _step(
    connection: Connection, alert: int, event: Event, phase: Phase, actor: str, why: str, now_ms: int
) -> None:
    connection.execute(
        insert(alert_steps).values(
            alert=alert, at_ms=now_ms, event=event, phase=phase, actor=actor[:64], why=why[:500]
        )
    )


def _alert(row: Row[Any]) -> Alert:
    values = {name: getattr(row, name) for name in Alert.__dataclass_fields__}
    return Alert(**{**values, "phase": Phase(row.phase)})


def told(row: Row[Any]) -> AlertSummary:
    """An alert as people see it."""
    rule = RULES.get(row.rule)
    words = {"said": rule.said if rule else "", "unit": rule.unit if rule else ""}
    return cast("AlertSummary", {**row._mapping, **words})
