"""Records laid out as rows: the columns of `windows`, `events` and `gaps`, and their values in that order.

What has no column is in the raw envelope all the same.
"""

from __future__ import annotations

from typing import Any

from edge_contracts.messages import Event, Gap, Window
from edge_fleet.storage.bulk import json_text

WINDOW_COLUMNS = (
    *("device", "epoch", "seq", "received_ms", "bundle", "artifact", "runtime", "start_ms", "end_ms"),
    *("duration_ms", "inferences", "errors", "refused", "reasons", "latency", "scalars", "golden_total"),
    *("golden_agree", "cpu_s", "rss_bytes", "temperature_c", "trial", "lineup", "merged", "epsilon"),
    *("clock_step_ms", "software", "child_rss_bytes", "drifting"),
)
EVENT_COLUMNS = (
    *("device", "epoch", "seq", "received_ms", "name", "time_ms", "bundle", "assignment", "code", "detail"),
)
GAP_COLUMNS = ("device", "epoch", "first_seq", "last_seq", "records", "reason", "received_ms")

Where = tuple[str, str, int, int]  # device, epoch, seq, received_ms


def window_row(where: Where, window: Window) -> tuple[Any, ...]:
    """Values of WINDOW_COLUMNS."""
    errors, refused = window.errors, window.refused
    reasons = {
        "errors": errors,
        "refused": refused,
        "flagged": window.flagged,
        "unserved": window.unserved,
    }
    return (
        *where,
        window.bundle,
        window.artifact,
        window.runtime,
        window.start_ms,
        window.end_ms,
        window.duration_ms,
        window.inferences,
        sum(errors.values()) if errors else 0,
        sum(refused.values()) if refused else 0,
        json_text(reasons),
        json_text(window.latency_ms.bins),
        json_text({scalar.name: scalar.counts for scalar in window.scalars}) if window.scalars else "{}",
        window.golden_total,
        window.golden_agree,
        window.cpu_s,
        window.rss_bytes,
        window.temperature_c,
        window.trial,
        None if window.lineup is None else json_text(window.lineup.model_dump(mode="json")),
        window.merged,
        window.epsilon,
        window.clock_step_ms,
        json_text(window.software) if window.software else "{}",
        window.child_rss_bytes,
        json_text(window.drifting) if window.drifting else "[]",
    )


def event_row(where: Where, event: Event) -> tuple[Any, ...]:
    """Values of EVENT_COLUMNS."""
    return (*where, event.name, event.time_ms, event.bundle, event.assignment, event.code, event.detail)


def gap_row(where: Where, gap: Gap) -> tuple[Any, ...]:
    """Values of GAP_COLUMNS; a device can only speak for what came before, so a range is cut to that."""
    device, epoch, seq, received_ms = where
    return device, epoch, gap.first_seq, min(gap.last_seq, seq - 1), gap.records, gap.reason, received_ms
