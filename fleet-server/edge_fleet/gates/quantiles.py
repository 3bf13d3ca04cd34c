"""How a quantile is judged: a p95 is above a limit when more than 5 % of the values are above it. Pure.

So a quantile is judged as a share, by the same tests (Howard and Ramdas 2022, "Sequential estimation
of quantiles with applications to A/B testing and best-arm identification", section 2, reduce it in
the same way), with devices as units. Sketches round by 2 %: a bin counts as above only as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from edge_contracts.sketch import QuantileSketch, merge_quantiles
from edge_fleet.evidence import Group
from edge_fleet.gates.shares import judge_share
from edge_fleet.gates.verdict import Budget, Finding, GateLimit, Outcome
from edge_fleet.panel import Panel


@dataclass(frozen=True)
class Quantile:
    """One quantile of one kind of value.

    Args:
        histogram: As `panel.HISTOGRAMS` names it.
        percent: 95 for the p95.
        values: What the values are, in the plural.
        above: The same, those beyond the limit.
        unit: Behind a number.
        least: Values below which nothing is said; None: as many as the plan asks for.
    """

    histogram: str
    percent: int
    values: str
    above: str
    unit: str
    least: int | None = None

    def needed(self, allowed: GateLimit) -> int:
        """How many values a comparison needs."""
        return allowed.min_inferences if self.least is None else min(self.least, allowed.min_inferences)


def judge_absolute(group: Group, of: Quantile, limit: float, allowed: GateLimit, budget: Budget) -> Finding:
    """Whether the quantile is above a given value."""
    return _judge(group, of, lambda _device: limit, limit, "limit of the plan", allowed, budget)


def judge_relative(
    group: Group,
    of: Quantile,
    worse: Callable[[float], float],
    how: str,
    promised: float | None,
    allowed: GateLimit,
    budget: Budget,
) -> Finding:
    """Whether the quantile is above what it was before, or is meanwhile on other devices.

    Args:
        worse: The largest value that is allowed, given the usual one.
        how: The same for people, such as "ratio 1.5".
        promised: What to hold a first release to; None: there is nothing.
    """
    before = allowed.against == "before"
    panels = [group.before] if before else list(group.beside)
    sketches = [(device, sketch) for panel in panels for device, sketch in _sketches(panel, of).items()]
    every = merge_quantiles(sketch for _, sketch in sketches)
    usual = every.quantile(of.percent / 100)
    if usual is None or every.count < of.needed(allowed):
        if promised is not None and before:
            why = "promised in the manifest"
            return _judge(group, of, lambda _device: promised, promised, why, allowed, budget)
        where = "under the release before" if before else "in the control group"
        told = f"{every.count} {of.values} {where}, {of.needed(allowed)} needed"
        return Finding(Outcome.WAIT, told)
    own = {}
    if before:
        for device, sketch in sketches:
            quantile = sketch.quantile(of.percent / 100)
            if quantile is not None and sketch.count >= of.needed(allowed):
                own[device] = worse(quantile)
    limit = worse(usual)
    where = "before" if before else "in the control group"
    why = f"{usual:.2f}{of.unit} {where}, {how}"
    return _judge(group, of, lambda device: own.get(device, limit), limit, why, allowed, budget)


def _judge(
    group: Group,
    of: Quantile,
    limit_of: Callable[[str], float],
    limit: float,
    why: str,
    allowed: GateLimit,
    budget: Budget,
) -> Finding:
    merged = merge_quantiles(_sketches(group.panel, of).values())
    quantile = merged.quantile(of.percent / 100)
    if quantile is None:
        return Finding(Outcome.WAIT, f"{merged.count} {of.values} reported, {of.needed(allowed)} needed")
    judged = judge_share(
        group,
        lambda panel: panel.beyond(of.histogram, limit_of),
        f"{of.values} {of.above}",
        1 - of.percent / 100,
        allowed.model_copy(update={"against": "limit", "min_inferences": of.needed(allowed)}),
        budget,
    )
    found = f"p{of.percent} {quantile:.2f}{of.unit}, allowed {limit:.2f}{of.unit} ({why})"
    numbers = {
        **judged.numbers,
        "against": allowed.against,
        "found_value": quantile,
        "allowed_value": limit,
    }
    return Finding(judged.outcome, f"{found}: {judged.reason}", numbers)


def _sketches(panel: Panel, of: Quantile) -> Mapping[str, QuantileSketch]:
    """Every device's values up to now."""
    if not panel.devices:
        return {}
    found = panel.histogram(of.histogram)
    counts = np.nan_to_num(found.counts[:, -1])
    bins = [int(index) for index in found.bins]
    return {
        device: QuantileSketch(bins={bins[k]: int(row[k]) for k in np.flatnonzero(row)})
        for device, row in zip(panel.devices, counts, strict=True)
    }
