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
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from edge_fleet.evidence import Group, Laid
from edge_fleet.gates import betting
from edge_fleet.gates.verdict import Budget, Finding, GateLimit, Number, Outcome
from edge_fleet.panel import Floats, Panel, Rows, Share
from edge_fleet.sums import Numbers

LEAST_BEFORE = 50  # trials of a device under the release before that say whether it was well
_HEALTHY = (
    0.1  # a healthy device may have this share of bad answers for a while; five times the limit if more
)


@dataclass(frozen=True)
class Measure:
    """How a share is counted.

    Args:
        name: Tells it from every other, whatever `of` depends on included.
        of: What is counted of a panel; all that was laid out is there for limits of each device's own.
    """

    name: Hashable
    of: Callable[[Panel, Laid], Share]

    @staticmethod
    def counted(bad: str, total: str) -> Measure:
        """Of what was counted as `total`, what was counted as `bad`."""
        return Measure((bad, total), lambda panel, _laid: panel.share(bad, total))


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
    new = group.sums.sum(("now", measure.name), partial(_stand, measure))
    bad, total, devices, noisy_windows = new["bad"], new["total"], new["devices"], int(new["noisy"])
    numbers: dict[str, Number] = {
        "bad": bad,
        "total": total,
        "devices": devices,
        "against": allowed.against,
        "alpha": budget.alpha,
        "looks": sum(of > 0 for what, of in new.items() if what[0] == "reached"),
        "noisy_windows": noisy_windows,
    }
    noisy = f"; {noisy_windows} windows with noise for privacy are left out" if noisy_windows else ""
    if total <= 0:
        return Finding(Outcome.WAIT, f"no {told.split()[0]} reported{noisy}", numbers)
    found = f"{bad:g} of {total:g} {told} ({bad / total:.2%})"
    held = compare(group, measure, limit, allowed)
    if held.missing:
        return Finding(Outcome.WAIT, f"{found}; {held.missing}{noisy}", numbers)
    outright = fails_outright(group, measure, held.allowed, budget)
    wealth = max(held.wealth, outright)
    few, many = betting.worth(new)
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
        alone = ""
        if outright >= budget.needed and outright > held.wealth:
            alone = f", {_surest(group, measure, held.allowed, budget)} outright"
        return Finding(Outcome.FAIL, f"{found}{alone}, {bound}; {certainty}{noisy}", numbers)
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


def compare(group: Group, measure: Measure, limit: float, allowed: GateLimit) -> Comparison:
    """Find out what a share is held to, and how far the devices are above it."""
    if allowed.against == "before":
        return _before(group, measure, limit, allowed)
    if allowed.against == "control":
        return _control(group, measure, limit, allowed)

    def over(laid: Laid) -> Numbers:
        share = measure.of(laid.panel, laid)
        return _over_marks(share, np.full(len(share.devices), limit))

    return Comparison(limit, _best(group.sums.sum(("over", measure.name, limit), over)))


def fails_outright(group: Group, measure: Measure, allowed: float, budget: Budget) -> float:
    """Log wealth against "no more devices than strays fail outright".

    A device that was not well under the release before does not count. When devices of the control
    group fail outright at the same time, strays are as frequent as that.
    """
    healthy = max(_HEALTHY, 5 * allowed)
    if healthy > 0.5:
        return 0.0

    def sure_beside(laid: Laid) -> Numbers:
        found: dict[Any, float] = {}
        for stage, panel in enumerate(laid.beside):
            sure, _ = _sureness(measure.of(panel, laid), healthy, budget)
            found |= {("sure", stage): float(sure.sum()), ("of", stage): len(sure)}
        return found

    beside = group.sums.sum(("sure beside", measure.name, healthy, budget.stray), sure_beside)
    means = [beside["sure", stage] / of for (what, stage), of in _pairs(beside) if what == "of" and of]
    limit = min(1.0, max([budget.stray, *means]) + budget.stray)

    def outright(laid: Laid) -> Numbers:
        sure, _ = _well(measure, laid, healthy, budget)
        return {"of": len(sure), "paths": betting.paths(sure, limit)}

    found = group.sums.sum(("outright", measure.name, healthy, budget.stray, limit), outright)
    return betting.pooled(found["paths"]) if found["of"] else 0.0


def _surest(group: Group, measure: Measure, allowed: float, budget: Budget) -> str:
    """The device that fails outright most surely; looks at all of them, for the one time that it is told."""
    sure, names = _well(measure, group.laid, max(_HEALTHY, 5 * allowed), budget)
    return names[int(sure.argmax())]


def _well(measure: Measure, laid: Laid, healthy: float, budget: Budget) -> tuple[Floats, list[str]]:
    """How surely those devices fail outright that were well under the release before."""
    new, earlier = measure.of(laid.panel, laid), measure.of(laid.before, laid)
    sure, rows = _sureness(new, healthy, budget)
    bad, total = earlier.bad[:, -1], earlier.total[:, -1]
    found = np.flatnonzero((total >= LEAST_BEFORE) & (bad > total * healthy / 2))
    ill = {earlier.devices[row] for row in found}
    well = [n for n, row in enumerate(rows) if new.devices[row] not in ill]
    return sure[well], [new.devices[rows[n]] for n in well]


def _sureness(share: Share, healthy: float, budget: Budget) -> tuple[Floats, Rows]:
    """How surely each device fails outright, 0 to 1; at most `stray` in expectation when it does not."""
    rows, shares = share.at(-1)
    if not len(rows):
        return np.zeros(0), rows
    wealth = betting.broken(shares, share.windows[rows, -1], healthy)
    sure: Floats = np.exp(np.minimum(0.0, wealth + math.log(budget.stray)))
    return sure, rows


def _before(group: Group, measure: Measure, margin: float, allowed: GateLimit) -> Comparison:
    """Hold each device to what it did before, or to what all did, where that is worse, and the margin."""
    sums = group.sums
    earlier = sums.sum(("before", measure.name), lambda laid: _now(measure.of(laid.before, laid)))
    bad, total = earlier["bad"], earlier["total"]
    if total < allowed.min_inferences:
        return Comparison(
            margin, missing=f"{total:g} under the release before, {allowed.min_inferences} needed"
        )
    pooled = bad / total

    def over(laid: Laid) -> Numbers:
        new, before = measure.of(laid.panel, laid), measure.of(laid.before, laid)
        own = {
            before.devices[row]: before.bad[row, -1] / before.total[row, -1]
            for row in np.flatnonzero(before.total[:, -1] >= LEAST_BEFORE)
        }
        limits = [min(1.0, max(own.get(device, 0.0), pooled) + margin) for device in new.devices]
        return _over_marks(new, np.array(limits))

    wealth = _best(sums.sum(("over before", measure.name, pooled, margin), over))
    return Comparison(min(1.0, pooled + margin), wealth, f"{pooled:.2%} before")


def _control(group: Group, measure: Measure, margin: float, allowed: GateLimit) -> Comparison:
    """Hold the devices of every stage to those that run the release before at the same time."""

    def both(laid: Laid) -> Numbers:
        found: dict[Any, Any] = {}
        for stage, panels in enumerate(zip(laid.by_stage, laid.beside, strict=True)):
            ours, theirs = (measure.of(panel, laid) for panel in panels)
            found |= {("beside", stage, name): value for name, value in _now(theirs).items()}
            for mark in range(ours.marks):
                _, shares = ours.at(mark)
                found["ours", stage, mark] = betting.ours_paths(shares, margin)
                found["of ours", stage, mark] = len(shares)
            for mark in range(theirs.marks):
                _, shares = theirs.at(mark)
                found["theirs", stage, mark] = betting.control_paths(shares)
                found["of theirs", stage, mark] = len(shares)
        return found

    found = group.sums.sum(("control", measure.name, margin), both)
    best, bad, total = 0.0, 0.0, 0.0
    for key in sorted(key for key in found if key[0] == "beside" and key[2] == "rows" and found[key]):
        bad, total = found["beside", key[1], "bad"], found["beside", key[1], "total"]
    for what, stage, mark in sorted(key for key in found if key[0] == "ours"):
        if found["of ours", stage, mark] and found.get(("of theirs", stage, mark)):
            shown = betting.of_both(found[what, stage, mark], found["theirs", stage, mark])
            best = max(best, shown - _price(mark) - _price(stage))
    if total < allowed.min_inferences:
        return Comparison(margin, missing=f"{total:g} in the control group, {allowed.min_inferences} needed")
    pooled = bad / total
    return Comparison(min(1.0, pooled + margin), best, f"{pooled:.2%} in the control group")


def _stand(measure: Measure, laid: Laid) -> Numbers:
    """Where the devices stand, and what their answers are worth."""
    share = measure.of(laid.panel, laid)
    reached = {
        ("reached", mark): int(of) for mark, of in enumerate(np.isfinite(share.total[:, :-1]).sum(axis=0))
    }
    return {**_now(share), **betting.clusters(*share.blocks()), "noisy": laid.panel.noisy, **reached}


def _now(share: Share) -> dict[str, float]:
    bad, total = share.now
    return {
        "bad": bad,
        "total": total,
        "devices": int((share.total[:, -1] > 0).sum()),
        "rows": len(share.devices),
    }


def _over_marks(share: Share, limits: Floats) -> Numbers:
    """For `_best`: bets on the mean share over devices, at each mark."""
    found: dict[Any, Any] = {}
    for mark in range(share.marks):
        rows, shares = share.at(mark)
        found["paths", mark] = betting.paths(shares, limits[rows])
        found["of", mark] = len(rows)
    return found


def _best(found: Numbers) -> float:
    """Log wealth against "the mean share over devices is at most its limit", over all marks."""
    shown = [
        betting.pooled(found["paths", mark]) - _price(mark)
        for (what, mark), of in _pairs(found)
        if what == "of" and of
    ]
    return max([0.0, *shown])


def _pairs(found: Numbers) -> list[tuple[tuple[str, int], Any]]:
    """The numbers whose names are pairs, in order."""
    return sorted(found.items())


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
