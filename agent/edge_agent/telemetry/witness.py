"""What the daemon shows of itself on the device: the file of `edge-agent status`, metrics, Home Assistant.

It is told every record that goes into the telemetry, and asks now and then where the agent stands. None of
it is needed for anything: what fails here is logged and stops nothing.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import time
from typing import Any

from edge_agent.device.home import Home
from edge_agent.device.resources import read_resources
from edge_agent.telemetry import standing as standing_file
from edge_agent.telemetry.exposition import render
from edge_agent.telemetry.reporting import Reporting
from edge_agent.telemetry.standing import Standing
from edge_agent.telemetry.tally import Tally
from edge_contracts.messages import ActiveModel, Record

log = logging.getLogger(__name__)

LOOK_S = 2.0
WRITE_S = 60.0  # and at once when something has changed that a person would want to know


@dataclass(frozen=True)
class Facts:
    """What only the agent knows; the fields are those of Standing.

    Args:
    """

    model: ActiveModel | None
    model_since_ms: int
    trial: bool
    golden_agrees: bool
    link_up: bool
    link_reason: str
    refused_since_ms: int
    refusals: int
    heard_ms: int
    waiting: int
    waiting_bytes: int
    dropped_records: int


class Witness:
    """Keeps count, and shows it.

    Args:
        facts: Called in the agent's thread.
    """

    def __init__(
        self,
        home: Home,
        reporting: Reporting,
        agent: str,
        device: str | None,
        fleet: str | None,
        facts: Callable[[], Facts],
    ) -> None:
        """Take the metrics' port, if there is to be one.

        Raises:
            ListenRefused, SettingRefused: An address is none, or cannot be had.
        """
        self._home, self._facts = home, facts
        self._who: dict[str, Any] = {"agent": agent, "device": device, "fleet": fleet}
        self._started_ms = _now_ms()
        self._tally, self._lock = Tally(), threading.Lock()
        self._standing: Standing | None = None
        self._next_look_s = self._next_write_s = 0.0
        self._server = self._home_assistant = None
        if reporting.metrics:
            from edge_agent.telemetry.metrics_api import metrics_listener

            self._server = metrics_listener(reporting.metrics, self.metrics)
            log.info("metrics", extra={"at": reporting.metrics})
        if reporting.home_assistant:
            from edge_agent.telemetry.home_assistant_link import HomeAssistantLink, LocalBroker

            node = device or "device"
            self._home_assistant = HomeAssistantLink(LocalBroker.parse(reporting.home_assistant), node)

    def start(self) -> None:
        """Begin to answer whoever asks."""
        self.tick(0.0)
        if self._server is not None:
            self._server.start()
        if self._home_assistant is not None:
            self._home_assistant.start()

    def stop(self) -> None:
        """Say where it stood at last, and stop answering."""
        standing_file.write(self._home, self._look())
        if self._server is not None:
            self._server.stop()
        if self._home_assistant is not None:
            self._home_assistant.stop()

    def take(self, record: Record) -> None:
        """Count a record."""
        with self._lock:
            self._tally.take(record)

    def tick(self, now_s: float) -> None:
        """Look, and show, when it is time to."""
        if now_s < self._next_look_s:
            return
        self._next_look_s = now_s + LOOK_S
        before, now = self._standing, self._look()
        is_due = before is None or _news(before) != _news(now) or now_s >= self._next_write_s
        if is_due and standing_file.write(self._home, now):
            self._next_write_s = now_s + WRITE_S
        if self._home_assistant is not None:
            self._home_assistant.tell(now)

    def metrics(self) -> str:
        """The page of metrics; may be called from any thread."""
        with self._lock:
            return "" if self._standing is None else render(self._standing, self._tally)

    def _look(self) -> Standing:
        facts, resources = self._facts(), read_resources()
        fields: dict[str, Any] = dict(vars(facts))
        with suppress(OSError):
            disk = shutil.disk_usage(self._home.folder)
            fields |= {"disk_free_bytes": disk.free, "disk_total_bytes": disk.total}
        with self._lock:
            tally, last, alarm = self._tally, self._tally.last, self._tally.last_alarm
            current = last if last is not None and facts.model and last.bundle == facts.model.bundle else None
            found = Standing(
                time_ms=_now_ms(),
                started_ms=self._started_ms,
                **self._who,
                **fields,
                answered=tally.answered,
                failed=tally.failed,
                refused=tally.refused,
                latency_p50_ms=current.latency_ms.quantile(0.5) if current else None,
                latency_p95_ms=current.latency_ms.quantile(0.95) if current else None,
                drifting=current.drifting if current else (),
                temperature_c=resources.temperature_c,
                rss_bytes=resources.rss_bytes,
                cpu_s=resources.cpu_s,
                alarm=f"{alarm.name}: {alarm.detail or alarm.code}" if alarm is not None else "",
                alarm_ms=alarm.time_ms if alarm is not None else 0,
            )
            self._standing = found
        return found


def _news(standing: Standing) -> tuple[object, ...]:
    return (
        standing.model,
        standing.trial,
        standing.golden_agrees,
        standing.link_up,
        standing.refusals,
        standing.alarm_ms,
        standing.drifting,
        standing.answered > 0,
    )


def _now_ms() -> int:
    return int(time() * 1000)
