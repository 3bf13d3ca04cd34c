"""The gates on what a release takes of a device: memory and heat, window by window.

A window counts as a whole; nine of ten must be below the limit. A single peak is not the release's
doing, and a tenth of all windows is seen with 40 of them.
"""

from __future__ import annotations

from edge_fleet.evidence import Group
from edge_fleet.gates.quantiles import Quantile, judge_absolute, judge_relative
from edge_fleet.gates.registry import gate
from edge_fleet.gates.verdict import Budget, Finding, GateLimit

LEAST_WINDOWS = 20
MEMORY = Quantile("rss_mb", 90, "windows", "above it", " MB", LEAST_WINDOWS)
TEMPERATURE = Quantile("temperature_c", 90, "windows", "above it", " C", LEAST_WINDOWS)
MEMORY_NOISE_MB = 4.0  # allocators round up; differences below are not the model's doing


@gate("memory_mb", "largest resident memory of agent and runtime, megabytes", 1, 1e6)
def memory_mb(group: Group, allowed: GateLimit, budget: Budget) -> Finding:
    """Whether the agent takes more memory than a given amount."""
    return judge_absolute(group, MEMORY, allowed.limit, allowed, budget)


@gate("memory", "largest ratio of memory to the release before", 1, 100, against=("before", "control"))
def memory(group: Group, allowed: GateLimit, budget: Budget) -> Finding:
    """Whether the agent takes more memory than under the release before."""

    def worse(usual_mb: float) -> float:
        return max(usual_mb * allowed.limit, usual_mb + MEMORY_NOISE_MB)

    return judge_relative(group, MEMORY, worse, f"ratio {allowed.limit:g}", None, allowed, budget)


@gate("temperature_c", "largest temperature, degrees Celsius", 1, 200)
def temperature_c(group: Group, allowed: GateLimit, budget: Budget) -> Finding:
    """Whether devices are hotter than a given temperature."""
    return judge_absolute(group, TEMPERATURE, allowed.limit, allowed, budget)


@gate("temperature", "largest rise of temperature, degrees", 0, 100, against=("control", "before"))
def temperature(group: Group, allowed: GateLimit, budget: Budget) -> Finding:
    """Whether devices are hotter than others at the same time, or than they were before."""

    def worse(usual_c: float) -> float:
        return usual_c + allowed.limit

    return judge_relative(group, TEMPERATURE, worse, f"{allowed.limit:g} more", None, allowed, budget)
