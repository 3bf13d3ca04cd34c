"""How a quantile is judged: a p95 is above a limit when more than 5 % of the values are above it. Pure.

So a quantile is judged as a share, by the same tests (Howard and Ramdas 2022, "Sequential estimation
of quantiles with applications to A/B testing and best-arm identification", section 2, reduce it in
the same way), with devices as units. Sketches round by 2 %: a bin counts as above only as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import cast

import numpy as np

from edge_fleet.evidence import Group, Laid
from edge_fleet.gates.shares import Measure, judge_share
from edge_fleet.gates.verdict import Budget, Finding, GateLimit, Outcome
from edge_fleet.panel import Panel, Share, quantile_of
from edge_fleet.sums import Numbers


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
    return _judge(group, of, _everybody(of, limit), limit, "limit of the plan", allowed, budget)


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
    before, least = allowed.against == "before", of.needed(allowed)
    values = _values(group, of, "before" if before else "beside")
    usual, count = quantile_of(values, of.percent / 100), int(sum(values.values()))
    if usual is None or count < least:
        if promised is not None and before:
            why = "promised in the manifest"
            return _judge(group, of, _everybody(of, promised), promised, why, allowed, budget)
        where = "under the release before" if before else "in the control group"
        return Finding(Outcome.WAIT, f"{count} {of.values} {where}, {least} needed")
    limit = worse(usual)
    measure = _each(of, worse, how, limit, least) if before else _everybody(of, limit)
    where = "before" if before else "in the control group"
    why = f"{usual:.2f}{of.unit} {where}, {how}"
    return _judge(group, of, measure, limit, why, allowed, budget)


def _everybody(of: Quantile, limit: float) -> Measure:
    """Values above one limit."""
    return Measure(
        (of.histogram, of.percent, limit), lambda panel, _laid: panel.beyond(of.histogram, lambda _: limit)
    )


def _each(of: Quantile, worse: Callable[[float], float], how: str, limit: float, least: int) -> Measure:
    """Values above the limit of each device, from what it did before; where that is too little, above one."""

    def counted(panel: Panel, laid: Laid) -> Share:
        found = laid.before.histogram(of.histogram)
        quantiles = found.quantiles(of.percent / 100)
        own = {
            laid.before.devices[row]: worse(float(quantiles[row]))
            for row in np.flatnonzero(found.totals >= least)
        }
        return panel.beyond(of.histogram, lambda device: own.get(device, limit))

    return Measure((of.histogram, of.percent, how, limit, least), counted)


def _judge(
    group: Group,
    of: Quantile,
    measure: Measure,
    limit: float,
    why: str,
    allowed: GateLimit,
    budget: Budget,
) -> Finding:
    quantile = quantile_of(_values(group, of, "panel"), of.percent / 100)
    if quantile is None:
        return Finding(Outcome.WAIT, f"0 {of.values} reported, {of.needed(allowed)} needed")
    judged = judge_share(
        group,
        measure,
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


def _values(group: Group, of: Quantile, which: str) -> dict[int, float]:
    """How many values each bin holds, up to now, of the devices of one panel; of "beside" in all stages."""

    def counted(laid: Laid) -> Numbers:
        found: dict[Hashable, float] = {}
        for panel in laid.beside if which == "beside" else [getattr(laid, which)]:
            histogram = panel.histogram(of.histogram)
            for index, count in zip(histogram.bins, histogram.counts[:, -1].sum(axis=0), strict=True):
                found[int(index)] = found.get(int(index), 0) + float(count)
        return found

    return {
        cast("int", index): count
        for index, count in group.sums.sum(("values", of.histogram, which), counted).items()
        if count
    }
