"""The loop that looks for alerts: measures, decides, stores, tells. A crash between rounds loses nothing."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from edge_contracts.errors import ContractError, one_line
from edge_fleet.alerts import findings, rows
from edge_fleet.alerts.machine import Alert, Event, Finding, evaluate
from edge_fleet.alerts.rules import Rule
from edge_fleet.datasets import retraining
from edge_fleet.errors import FleetError
from edge_fleet.services import Services
from edge_fleet.webhooks.rows import enqueue

log = logging.getLogger(__name__)

ROUND_S = 15.0
IDLE_SHARE = 9  # rests nine times as long as a round took: at most a tenth of one core

RETRAIN_ON = frozenset({"drift"})
# what webhooks are told; that a silence is over is told like a new alert
_KINDS = {
    Event.HELD: "alert.firing",
    Event.EXPIRED: "alert.firing",
    Event.CALMED: "alert.resolved",
}


class Watch:
    """Looks for alerts in one server."""

    def __init__(self, services: Services, hears: Callable[[], bool]) -> None:
        """Take the parts.

        Args:
            hears: Whether the server hears its broker now.
        """
        self._services, self._hears = services, hears
        self._hearing_since_ms: int | None = None
        self.failures = 0

    def run(self, stop: threading.Event) -> None:
        """Go round until told to stop."""
        rest_s = ROUND_S
        while not stop.wait(rest_s):
            begun = time.monotonic()
            try:
                self.round(self._services.now_ms())
            except (SQLAlchemyError, ContractError, FleetError) as error:
                # away, locked, or a row that this release cannot read: the next round does better, or says so
                self.failures += 1
                log.error("alerts not looked for", extra={"reason": one_line(error)})
            rest_s = max(ROUND_S, IDLE_SHARE * (time.monotonic() - begun))

    def round(self, now_ms: int) -> None:
        """Look once."""
        store = self._services.store
        with store.read() as connection:
            rules = self._in_force(rows.load_rules(connection), now_ms)
            open_ones = rows.load_open(connection)
            followed = [(one.rule, one.subject) for one in open_ones]
            usual_ms = {
                one.subject: float(one.evidence["before_ms"])
                for one in open_ones
                if one.rule == "latency" and "before_ms" in one.evidence
            }
            found = findings.measure(connection, now_ms, followed, rules, usual_ms)
        if rules["silence"].on_evidence:
            found = _deaf(open_ones, found)
        decisions = evaluate(open_ones, found, rules, now_ms)
        known = {one.id: one for one in open_ones}
        new = [d for d in decisions if d.event is not None or d.alert != known.get(d.alert.id)]
        if not new:
            return
        with store.write() as connection:
            # what people ordered meanwhile stands: the next round goes on from there
            now_open = {one.id: one for one in rows.load_open(connection)}
            current = [d for d in new if now_open.get(d.alert.id) == known.get(d.alert.id)]
            told = rows.store(connection, current, now_ms)
            for alert, event in told:
                kind = _KINDS.get(event)
                if (
                    kind is not None and alert.fired_ms is not None
                ):  # one that never fired is nobody's business
                    told_of = f"{alert.rule} {alert.subject}"
                    enqueue(connection, kind, message(alert, event), now_ms, about=told_of)
                if event is Event.HELD and alert.rule in RETRAIN_ON:
                    retraining.request(
                        connection, alert.subject, alert.why, message(alert, event), rows.ACTOR, now_ms
                    )
        for alert, event in told:
            level = logging.WARNING if event == "held" else logging.INFO
            fields = {"alert": alert.id, "rule": alert.rule, "subject": alert.subject, "event": str(event)}
            log.log(level, "alert", extra=fields)
            self._services.bus.publish("alert", alert=alert.id, phase=str(alert.phase))

    def _in_force(self, rules: Mapping[str, Rule], now_ms: int) -> dict[str, Rule]:
        """A server that has not heard its broker for long enough knows nothing of anybody's silence."""
        silence = rules["silence"]
        if not self._hears():
            self._hearing_since_ms = None
        elif self._hearing_since_ms is None:
            self._hearing_since_ms = now_ms
        heard_ms = 0 if self._hearing_since_ms is None else now_ms - self._hearing_since_ms
        deaf = heard_ms < 60_000 * silence.raise_at
        return {**rules, "silence": replace(silence, on_evidence=True) if deaf else silence}


def _deaf(open_ones: Sequence[Alert], found: Sequence[Finding]) -> list[Finding]:
    """What counts while nobody's silence does: who speaks is well, also to one who has just begun to hear."""
    quiet = {one.subject for one in found if one.rule == "silence"}
    heard = [
        Finding(one.rule, one.subject, 0.0, "it was heard again")
        for one in open_ones
        if one.rule == "silence" and one.subject not in quiet
    ]
    return [*(one for one in found if one.rule != "silence"), *heard]


def message(alert: Alert, event: Event) -> dict[str, Any]:
    """What a webhook says of an alert."""
    return {
        "alert": alert.id,
        "rule": alert.rule,
        "subject": alert.subject,
        "level": alert.level,
        "event": str(event),
        "phase": str(alert.phase),
        "value": alert.value,
        "why": alert.why,
        "evidence": dict(alert.evidence),
        "since_ms": alert.since_ms,
    }
