"""How a quantile is judged: a p95 is above a limit when more than 5 % of the values are above it. Pure.

So a quantile is judged as a share, by the same tests (Howard and Ramdas 2022, "Sequential estimation
of quantiles with applications to A/B testing and best-arm identification", section 2, reduce it in
the same way), with devices as units. Sketches round by 2 %: a bin counts as above only as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edge_fleet.evidence import Group
from edge_fleet.gates.shares import judge_share
from edge_fleet.gates.verdict import Budget, Finding, GateLimit, Outcome
from edge_fleet.panel import Histogram, Panel


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
    found = _all(of, [group.before] if before else list(group.beside))
    q = of.percent / 100
    usual, count = found.quantile(q), int(found.totals.sum())
    if usual is None or count < of.needed(allowed):
        if promised is not None and before:
            why = "promised in the manifest"
            return _judge(group, of, lambda _device: promised, promised, why, allowed, budget)
        where = "under the release before" if before else "in the control group"
        told = f"{count} {of.values} {where}, {of.needed(allowed)} needed"
        return Finding(Outcome.WAIT, told)
    own = {}
    if before:
        quantiles = found.quantiles(q)
        for row in np.flatnonzero(found.totals >= of.needed(allowed)):
            own[group.before.devices[row]] = worse(float(quantiles[row]))
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
    histogram = _all(of, [group.panel])
    quantile = histogram.quantile(of.percent / 100)
    if quantile is None:
        return Finding(Outcome.WAIT, f"0 {of.values} reported, {of.needed(allowed)} needed")
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


def _all(of: Quantile, panels: Sequence[Panel]) -> Histogram:
    """The values of some panels up to now, under each other."""
    found = [panel.histogram(of.histogram) for panel in panels if panel.devices]
    if len(found) == 1:
        return found[0]
    bins = np.unique(np.concatenate([np.zeros(0), *(one.bins for one in found)]))
    rows = [np.zeros((0, 1, len(bins)))]
    for one in found:
        spread = np.zeros((len(one.counts), 1, len(bins)))
        spread[:, 0, np.searchsorted(bins, one.bins)] = one.counts[:, -1]
        rows.append(spread)
    return Histogram(bins, np.concatenate(rows))
