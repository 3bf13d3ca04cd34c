"""Adding two telemetry windows up to one, exactly: what a full outbox does before it drops anything.

Counts and sketches of the same bins add up without a loss; what is lost is *when* within the longer
window something happened. Two windows that do not speak of the same thing are left apart. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_agent.telemetry.windows import MAX_REASONS, OTHER
from edge_contracts.lineup import LineupCounts, ShadowCounts
from edge_contracts.messages import ScalarCounts, Window
from edge_contracts.sketch import merge_quantiles

LONGEST_MS = 24 * 3600 * 1000  # beyond a day nobody could tell when something began

# What becomes of each field of a Window; a test holds this to the fields that there are.
SAME = ("kind", "bundle", "artifact", "runtime", "trial", "software")
SUMS = ("duration_ms", "inferences", "golden_total", "golden_agree", "cpu_s", "merged", "clock_step_ms")
REASONS = ("errors", "refused", "flagged", "unserved")
LARGEST = ("rss_bytes", "child_rss_bytes", "temperature_c")
OWN_RULE = ("start_ms", "end_ms", "latency_ms", "scalars", "lineup", "epsilon", "drifting")

# The same for LineupCounts and ShadowCounts.
LINEUP_SAME = ("role", "experiment")
LINEUP_SUMS = (
    "sure", "second", "uncertain", "labelled", "correct", "rated", "rated_correct", "rated_confidence",
)  # fmt: skip
LINEUP_OWN = ("confidence", "overstated", "shadow")
SHADOW_SAME = ("bundle", "state", "reason")
SHADOW_SUMS = ("compared", "agreed", "failed", "cpu_s")
SHADOW_OWN = ("skipped", "latency_ms", "rss_bytes")


def merged(first: Window, second: Window) -> Window | None:
    """One window that says what both say; None when they do not belong together.

    Args:
        first, second: In the order of time.
    """
    if any(getattr(first, name) != getattr(second, name) for name in SAME):
        return None
    if first.duration_ms + second.duration_ms > LONGEST_MS:
        return None
    if (first.epsilon is None) != (second.epsilon is None):
        return None
    scalars = _scalars(first.scalars, second.scalars)
    lineup = _lineup(first.lineup, second.lineup)
    if scalars is None or (lineup is None and not (first.lineup is None and second.lineup is None)):
        return None
    fields: dict[str, Any] = {name: getattr(first, name) for name in SAME}
    fields |= {name: getattr(first, name) + getattr(second, name) for name in SUMS}
    fields |= {name: _reasons(getattr(first, name), getattr(second, name)) for name in REASONS}
    fields |= {name: _largest(getattr(first, name), getattr(second, name)) for name in LARGEST}
    return Window(
        **fields,
        start_ms=min(first.start_ms, second.start_ms),
        end_ms=max(first.end_ms, second.end_ms),
        latency_ms=merge_quantiles((first.latency_ms, second.latency_ms)),
        scalars=scalars,
        lineup=lineup,
        drifting=tuple(dict.fromkeys((*first.drifting, *second.drifting))),
        # one person may be in both: sequential composition, Dwork and Roth 2014, theorem 3.16
        epsilon=None if first.epsilon is None or second.epsilon is None else first.epsilon + second.epsilon,
    )


def _scalars(
    first: tuple[ScalarCounts, ...], second: tuple[ScalarCounts, ...]
) -> tuple[ScalarCounts, ...] | None:
    if [(one.name, len(one.counts)) for one in first] != [(one.name, len(one.counts)) for one in second]:
        return None
    return tuple(
        ScalarCounts(name=a.name, counts=tuple(x + y for x, y in zip(a.counts, b.counts, strict=True)))
        for a, b in zip(first, second, strict=True)
    )


def _lineup(first: LineupCounts | None, second: LineupCounts | None) -> LineupCounts | None:
    if first is None or second is None:
        return None
    if any(getattr(first, name) != getattr(second, name) for name in LINEUP_SAME):
        return None
    if len(first.confidence) != len(second.confidence):
        return None
    shadow = first.shadow or second.shadow
    if first.shadow is not None and second.shadow is not None:
        shadow = _shadow(first.shadow, second.shadow)
        if shadow is None:
            return None
    fields: dict[str, Any] = {name: getattr(first, name) for name in LINEUP_SAME}
    fields |= {name: getattr(first, name) + getattr(second, name) for name in LINEUP_SUMS}
    return LineupCounts(
        **fields,
        confidence=tuple(x + y for x, y in zip(first.confidence, second.confidence, strict=True)),
        overstated=first.overstated or second.overstated,
        shadow=shadow,
    )


def _shadow(first: ShadowCounts, second: ShadowCounts) -> ShadowCounts | None:
    if any(getattr(first, name) != getattr(second, name) for name in SHADOW_SAME):
        return None
    fields: dict[str, Any] = {name: getattr(first, name) for name in SHADOW_SAME}
    fields |= {name: getattr(first, name) + getattr(second, name) for name in SHADOW_SUMS}
    return ShadowCounts(
        **fields,
        skipped=_reasons(first.skipped, second.skipped, 8),
        latency_ms=merge_quantiles((first.latency_ms, second.latency_ms)),
        rss_bytes=max(first.rss_bytes, second.rss_bytes),
    )


def _reasons(first: Mapping[str, int], second: Mapping[str, int], most: int = MAX_REASONS) -> dict[str, int]:
    """Counts by reason, added up; those beyond the contract's bound are counted as others."""
    total = dict(first)
    for reason, count in second.items():
        key = reason if reason in total or len(total) < most - 1 else OTHER
        total[key] = total.get(key, 0) + count
    return total


def _largest(first: float | None, second: float | None) -> float | None:
    if first is None or second is None:
        return second if first is None else first
    return max(first, second)
