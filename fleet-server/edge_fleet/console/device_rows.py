"""A device as the pages show it: what it is, how it is doing, and the sums that say so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_contracts.sketch import Drift
from edge_fleet.assignment import State
from edge_fleet.console.health import Condition, condition
from edge_fleet.evidence import BundleFacts, Exposure, Reading, drifts_of, sum_up

RECENT_MS = 15 * 60_000


@dataclass(frozen=True)
class DeviceRow:
    """One device in the fleet's table.

    Args:
        device: As `api.devices.describe` gives it.
        recent: Windows of the last minutes, of the model that it runs.
    """

    device: Mapping[str, Any]
    condition: Condition
    recent: Exposure
    p95_ms: float | None
    furthest: Drift | None


def device_row(
    device: Mapping[str, Any], readings: Sequence[Reading], facts: Mapping[str, BundleFacts], now_ms: int
) -> DeviceRow:
    """What the pages show of one device, from its windows of the last minutes."""
    bundle: str = device["active"]["bundle"] if device["active"] else ""
    own = [r for r in readings if r.bundle == bundle]
    recent = sum_up(own)
    drifts = drifts_of(facts[bundle].baseline, own) if bundle in facts else ()
    assignment = device["assignment"]
    return DeviceRow(
        device=device,
        condition=condition(
            now_ms / 1000,
            None if device["last_seen_ms"] is None else device["last_seen_ms"] / 1000,
            device["revoked_ms"] is not None,
            State(assignment["phase"]) if assignment and assignment["bundle"] else None,
            recent,
            drifts,
        ),
        recent=recent,
        p95_ms=recent.latency_ms.quantile(0.95),
        furthest=max(drifts, key=lambda one: one.distance, default=None),
    )
