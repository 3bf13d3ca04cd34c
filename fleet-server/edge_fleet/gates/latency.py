"""The gates on latency: a p95 is above a limit when more than 5 % of inferences are slower than it.

So a quantile is judged as a share, by the same tests (Howard and Ramdas 2022, "Sequential estimation
of quantiles with applications to A/B testing and best-arm identification", section 2, reduce it in
the same way), with devices as units. Sketches round by 2 %: a bin counts as slower only as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from edge_contracts.sketch import QuantileSketch, merge_quantiles
from edge_fleet.evidence import Group
from edge_fleet.gates.registry import gate
from edge_fleet.gates.shares import judge_share
from edge_fleet.gates.verdict import Budget, Finding, GateLimit, Outcome
from edge_fleet.panel import Panel

# A scheduler's noise on a general-purpose system; differences below are not the model's doing.
LATENCY_NOISE_MS = 1.0


def _register(percent: int, default: float | None) -> None:
    q = percent / 100

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

        A first release has none before it: it is held to what its manifest promises for the profile.
        """
        panels = [group.before] if allowed.against == "before" else list(group.beside)
        sketches = {device: sketch for panel in panels for device, sketch in _sketches(panel).items()}
        every = merge_quantiles(sketches.values())
        usual = every.quantile(q)
        if usual is None or every.count < allowed.min_inferences:
            if allowed.against == "control":
                told = f"{every.count} latencies in the control group, {allowed.min_inferences} needed"
                return Finding(Outcome.WAIT, told)
            promised = group.latency_p95_ms
            return _judge(
                group, q, lambda _device: promised, promised, "promised in the manifest", allowed, budget
            )

        def slowest(before_ms: float) -> float:
            return max(before_ms * allowed.limit, before_ms + LATENCY_NOISE_MS)

        own = {}
        if allowed.against == "before":
            for device, sketch in sketches.items():
                quantile = sketch.quantile(q)
                if quantile is not None and sketch.count >= allowed.min_inferences:
                    own[device] = slowest(quantile)
        beside = "before" if allowed.against == "before" else "in the control group"
        why = f"{usual:.2f} ms {beside}, ratio {allowed.limit:g}"
        limit_ms = slowest(usual)
        return _judge(group, q, lambda device: own.get(device, limit_ms), limit_ms, why, allowed, budget)

    @gate(f"latency_p{percent}_ms", f"largest p{percent} latency, milliseconds", 0.001, 3_600_000)
    def absolute(group: Group, allowed: GateLimit, budget: Budget) -> Finding:
        """Whether the release is slower than a given time."""
        limit = allowed.limit
        return _judge(group, q, lambda _device: limit, limit, "limit of the plan", allowed, budget)


def _judge(
    group: Group,
    q: float,
    limit_of: Callable[[str], float],
    limit_ms: float,
    why: str,
    allowed: GateLimit,
    budget: Budget,
) -> Finding:
    count = int(group.panel.histogram("latency_ms").counts[:, -1].sum()) if group.panel.devices else 0
    quantile = merge_quantiles(_sketches(group.panel).values()).quantile(q)
    if quantile is None:
        return Finding(Outcome.WAIT, f"{count} latencies reported, {allowed.min_inferences} needed")
    judged = judge_share(
        group,
        lambda panel: panel.beyond("latency_ms", limit_of),
        "inferences slower",
        1 - q,
        allowed.model_copy(update={"against": "limit"}),
        budget,
    )
    found = f"p{100 * q:g} {quantile:.2f} ms, allowed {limit_ms:.2f} ms ({why})"
    numbers = {**judged.numbers, "against": allowed.against, "found_ms": quantile, "allowed_ms": limit_ms}
    return Finding(judged.outcome, f"{found}: {judged.reason}", numbers)


def _sketches(panel: Panel) -> Mapping[str, QuantileSketch]:
    """Every device's latencies up to now."""
    if not panel.devices:
        return {}
    found = panel.histogram("latency_ms")
    counts = np.nan_to_num(found.counts[:, -1])
    bins = [int(index) for index in found.bins]
    return {
        device: QuantileSketch(bins={bins[k]: int(row[k]) for k in np.flatnonzero(row)})
        for device, row in zip(panel.devices, counts, strict=True)
    }


_register(95, default=1.5)
_register(99, default=None)
