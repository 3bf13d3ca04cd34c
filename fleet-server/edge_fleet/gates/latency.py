"""The gates on latency."""

from __future__ import annotations

from edge_fleet.evidence import Group
from edge_fleet.gates.quantiles import Quantile, judge_absolute, judge_relative
from edge_fleet.gates.registry import gate
from edge_fleet.gates.verdict import Budget, Finding, GateLimit

# A scheduler's noise on a general-purpose system; differences below are not the model's doing.
LATENCY_NOISE_MS = 1.0


def _register(percent: int, default: float | None) -> None:
    of = Quantile("latency_ms", percent, "inferences", "slower", " ms")

    @gate(
        f"latency_p{percent}",
        f"largest ratio of p{percent} latency to the release before",
        1,
        100,
        default,
        against=("before", "control"),
    )
    def relative(group: Group, allowed: GateLimit, budget: Budget) -> Finding:
        """Whether the release is slower than the one before on these devices, or on others meanwhile.

        A first release has none before it: it is held to the p95 that its manifest promises.
        """

        def worse(usual_ms: float) -> float:
            return max(usual_ms * allowed.limit, usual_ms + LATENCY_NOISE_MS)

        promised = group.latency_p95_ms if percent == 95 else None
        return judge_relative(group, of, worse, f"ratio {allowed.limit:g}", promised, allowed, budget)

    @gate(f"latency_p{percent}_ms", f"largest p{percent} latency, milliseconds", 0.001, 3_600_000)
    def absolute(group: Group, allowed: GateLimit, budget: Budget) -> Finding:
        """Whether the release is slower than a given time."""
        return judge_absolute(group, of, allowed.limit, allowed, budget)


@gate(
    "shadow_latency_p95_ms",
    "largest p95 latency of the release as a shadow, milliseconds",
    0.001,
    3_600_000,
    of_shadow=True,
)
def shadow_latency_p95_ms(group: Group, allowed: GateLimit, budget: Budget) -> Finding:
    """Whether the release is slower than a given time as a shadow: in a process of the lowest priority."""
    of = Quantile("shadow_ms", 95, "compared answers", "slower", " ms")
    return judge_absolute(group.as_shadow(), of, allowed.limit, allowed, budget)


_register(95, default=1.5)
_register(99, default=None)
