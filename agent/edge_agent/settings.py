"""How an agent works, as its command line says it; what must survive a restart is in the device's config."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.drift.schedule import PER_MONTH
from edge_agent.guard.gate import DAY_S
from edge_agent.inference.request_queue import QueueLimits
from edge_agent.telemetry.reporting import Reporting
from edge_agent.updates.budget import DataRules
from edge_agent.updates.health import Rules

if TYPE_CHECKING:
    from edge_agent.telemetry.outbox import Limits


@dataclass(frozen=True)
class Settings:
    """How an agent works.

    Args:
        window_s: Length of a telemetry window.
        hello_s: Mean time between two hellos.
        health: What a trial on live inputs must last.
        downloads: When they may run, and how much they may fetch.
        media: Where sticks with bundles are mounted.
        threads: Of the runtime.
        isolate: Keep a CPU's runtime in a child process too; an accelerator's always is.
        golden_s: Between two runs of the golden inputs while a model serves.
        settled_s: Stop when there was no input for so long; None to go on for ever.
        drift_alarms: False alarms of drift that a month may have; 0 watches for none.
        limits: Of the outbox; None for its own.
        requests: Of the requests that wait for their turn.
    """

    window_s: float = 60.0
    hello_s: float = 60.0
    health: Rules = field(default_factory=Rules)
    downloads: DataRules = field(default_factory=DataRules)
    media: Path | None = None
    threads: int = 1
    isolate: bool = False
    golden_s: float = DAY_S
    settled_s: float | None = None
    drift_alarms: float = PER_MONTH
    limits: Limits | None = None
    reporting: Reporting = field(default_factory=Reporting)
    requests: QueueLimits = field(default_factory=QueueLimits)
