"""How a share of bad answers is judged: certain enough to fail, certain enough to pass, or neither. Pure.

Two tests can fail a release, each with half of the gate's alpha, and both hold at any look:

* the fleet: the mean share over devices is above what is allowed. Each device counts once, at each of
  its marks; the marks share the alpha, 1/2, 1/6, 1/12, ... (`betting.above`, `betting.above_control`).
* single devices: one that was well under the release before now fails outright. How sure that is
  follows from its own windows; how often a device does so by itself is `stray`, an assumption of
  the plan. It lets a canary of one device be caught, which no statistics over devices could.

A gate passes when the upper bound of the rate on the reached devices is below what is allowed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edge_fleet.evidence import Group
from edge_fleet.gates import betting
from edge_fleet.gates.verdict import Budget, Finding, GateLimit, Number, Outcome
from edge_fleet.panel import Floats, Panel, Rows, Share

Measure = Callable[[Panel], Share]
LEAST_BEFORE = 50  # trials of a device under the release before that say whether it was well
_HEALTHY = (
    0.1  # a healthy device may have this share of bad answers for a while; five times the limit if more
)


@dataclass(frozen=True)
class Comparison:
    """What a share is held to.

    Args:
        allowed: The share that is allowed now, on the whole.
        wealth: Of the test over devices, as a logarithm.
        why: Where `allowed` comes from; "" for the plan's own limit.
        missing: Why there is nothing to compare with yet; "" otherwise.
    """

    allowed: float
    wealth: float = 0.0
    why: str = ""
    missing: str = ""


def judge_share(
    group: Group, measure: Measure, told: str, limit: float, allowed: GateLimit, budget: Budget
) -> Finding:
    """Judge a share of one bundle.

    Args:
        told: What is counted and what of it is bad, such as "inferences without an answer".
        limit: Share that is allowed, or allowed on top of what it is compared with.
    """
    new = measure(group.panel)
    bad, total = new.now
    numbers: dict[str, Number] = {
        "bad": bad,
        "total": total,
        "devices": int((new.total[:, -1] > 0).sum()),
        "against": allowed.against,
        "alpha": budget.alpha,
        "noisy_windows": group.panel.noisy,
    }
    noisy = f"; {group.panel.noisy} windows with noise for privacy are left out" if group.panel.noisy else ""
    if total <= 0:
        return Finding(Outcome.WAIT, f"no {told.split()[0]} reported{noisy}", numbers)
    found = f"{bad:g} of {total:g} {told} ({bad / total:.2%})"
    held = compare(group, measure, new, limit, allowed)
    if held.missing:
        return Finding(Outcome.WAIT, f"{found}; {held.missing}{noisy}", numbers)
    outright, worst = fails_outright(group, measure, new, held.allowed, budget)
    wealth = max(held.wealth, outright)
    few, many = betting.effective(*new.blocks())
    upper = betting.upper_bound(few, many, -math.log(budget.doubt))
    numbers |= {
        "rate": bad / total,
        "allowed": held.allowed,
        "upper": upper,
        "effective": many,
        "e": told_wealth(wealth),
        "needed": round(math.exp(budget.needed)),
        "e_fleet": told_wealth(held.wealth),
        "e_devices": told_wealth(outright),
    }
    bound = f"allowed {held.allowed:.2%}" + (f" ({held.why})" if held.why else "")
    certainty = f"e = {written(wealth)}, needs {math.exp(budget.needed):,.0f}"
    if wealth >= budget.needed:
        alone = f", {worst} outright" if outright >= budget.needed and outright > held.wealth else ""
        return Finding(Outcome.FAIL, f"{found}{alone}, {bound}; {certainty}{noisy}", numbers)
    devices = int((new.total[:, -1] > 0).sum())
    if total < allowed.min_inferences or devices < allowed.min_devices:
        needed = (
            f"{allowed.min_inferences} needed"
            if total < allowed.min_inferences
            else f"on {devices} devices, {allowed.min_devices} needed"
        )
        return Finding(Outcome.WAIT, f"{found}, {needed}{noisy}", numbers)
    if upper > held.allowed and held.allowed < 1:
        doubt = f"too few to be certain: up to {upper:.2%} is possible; {certainty} to halt"
        return Finding(Outcome.WAIT, f"{found}, {bound}: {doubt}{noisy}", numbers)
    return Finding(Outcome.PASS, f"{found}, at most {upper:.2%}, {bound}{noisy}", numbers)


def compare(group: Group, measure: Measure, new: Share, limit: float, allowed: GateLimit) -> Comparison:
    """Find out what a share is held to, and how far the devices are above it."""
    if allowed.against == "before":
        return _before(measure(group.before), new, limit, allowed)
    if allowed.against == "control":
        return _control(group, measure, limit, allowed)
    return Comparison(limit, fleet_wealth(new, np.full(len(new.devices), limit)))


def fleet_wealth(new: Share, limits: Floats) -> float:
    """Log wealth against "the mean share over devices is at most the limit", over all marks."""
    best = 0.0
    for mark in range(new.marks):
        rows, shares = new.at(mark)
        if len(rows):
            best = max(best, betting.above(shares, limits[rows]) - _price(mark))
    return best


def fails_outright(
    group: Group, measure: Measure, new: Share, allowed: float, budget: Budget
) -> tuple[float, str]:
    """Log wealth against "no more devices than strays fail outright", and the surest of them.

    A device that was not well under the release before does not count. When devices of the control
    group fail outright at the same time, strays are as frequent as that.
    """
    healthy = max(_HEALTHY, 5 * allowed)
    if healthy > 0.5 or not len(new.devices):
        return 0.0, ""
    sure, rows = _sureness(new, healthy, budget)
    earlier = measure(group.before)
    ill = set()
    if earlier.devices:
        bad, total = earlier.bad[:, -1], earlier.total[:, -1]
        found = np.flatnonzero((total >= LEAST_BEFORE) & (bad > total * healthy / 2))
        ill = {earlier.devices[row] for row in found}
    well = np.ones(len(rows), dtype=bool)
    if ill:
        well = np.array([new.devices[row] not in ill for row in rows], dtype=bool)
    if not well.any():
        return 0.0, ""
    strays = budget.stray
    for panel in group.beside:
        beside, _ = _sureness(measure(panel), healthy, budget)
        if len(beside):
            strays = max(strays, float(beside.mean()))
    surest = new.devices[rows[well][int(sure[well].argmax())]]
    return betting.above(sure[well], min(1.0, strays + budget.stray)), surest


def _sureness(share: Share, healthy: float, budget: Budget) -> tuple[Floats, Rows]:
    """How surely each device fails outright, 0 to 1; at most `stray` in expectation when it does not."""
    rows, shares = share.at(-1)
    if not len(rows):
        return np.zeros(0), rows
    wealth = betting.broken(shares, share.windows[rows, -1], healthy)
    sure: Floats = np.exp(np.minimum(0.0, wealth + math.log(budget.stray)))
    return sure, rows


def _before(earlier: Share, new: Share, margin: float, allowed: GateLimit) -> Comparison:
    """Hold each device to what it did before, or to what all did, where that is worse, and the margin."""
    bad, total = earlier.now if earlier.devices else (0.0, 0.0)
    if total < allowed.min_inferences:
        return Comparison(
            margin, missing=f"{total:g} under the release before, {allowed.min_inferences} needed"
        )
    pooled = bad / total
    own = {
        earlier.devices[row]: earlier.bad[row, -1] / earlier.total[row, -1]
        for row in np.flatnonzero(earlier.total[:, -1] >= LEAST_BEFORE)
    }
    limits = np.array([min(1.0, max(own.get(device, 0.0), pooled) + margin) for device in new.devices])
    return Comparison(min(1.0, pooled + margin), fleet_wealth(new, limits), f"{pooled:.2%} before")


def _control(group: Group, measure: Measure, margin: float, allowed: GateLimit) -> Comparison:
    """Hold the devices of every stage to those that run the release before at the same time."""
    best, beside = 0.0, (0.0, 0.0)
    stages = [
        (measure(ours), measure(theirs)) for ours, theirs in zip(group.by_stage, group.beside, strict=True)
    ]
    for order, (ours, theirs) in enumerate(stages):
        if theirs.devices:
            beside = theirs.now
        for mark in range(min(ours.marks, theirs.marks)):
            _, shares = ours.at(mark)
            _, control = theirs.at(mark)
            best = max(best, betting.above_control(shares, control, margin) - _price(mark) - _price(order))
    bad, total = beside
    if total < allowed.min_inferences:
        return Comparison(margin, missing=f"{total:g} in the control group, {allowed.min_inferences} needed")
    pooled = bad / total
    return Comparison(min(1.0, pooled + margin), best, f"{pooled:.2%} in the control group")


def _price(place: int) -> float:
    """What looking at the n-th mark costs: 1/2, 1/6, 1/12, ... of alpha add up to all of it."""
    return math.log((place + 1) * (place + 2))


def told_wealth(wealth: float) -> float:
    """Wealth as a number that JSON can hold."""
    return round(math.exp(min(wealth, 300.0)), 3)


def written(wealth: float) -> str:
    """Wealth for a person."""
    if wealth > math.log(1e6):
        return f"1e{wealth / math.log(10):.0f}"
    return f"{math.exp(wealth):,.0f}" if wealth > math.log(10) else f"{math.exp(wealth):.1f}"
