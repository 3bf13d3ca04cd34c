"""Tests by betting: wealth that cannot grow when nothing is wrong, however often one looks. Pure.

The unit is a device. Windows of one device depend on each other (one camera, one room), so a thousand
of them are not a thousand witnesses; devices are drawn independently. Each device brings one number
between 0 and 1, its share of bad answers. Whoever bets that the mean share is above the limit multiplies
his wealth by 1 + f (share / limit - 1) for each device. If the mean is at most the limit, the wealth
is a nonnegative supermartingale, and ever reaches 1 / alpha with probability alpha at most (Ville
1939). Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by betting",
section 4; several stakes share the money, which is Robbins' mixture (1970).

Everything is a natural logarithm of wealth: 0 is nothing shown, ln 1000 is a thousand to one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from edge_fleet.panel import Floats

# Shares of the largest stake that can never lose everything, and of the money put on each. The bold one
# sees a defect of every device with the first two or three, the timid ones a small one in many.
STAKES = np.array([0.98, 0.6, 0.3, 0.1, 0.03])
_LOG_MONEY = np.log(np.array([0.4, 0.2, 0.2, 0.1, 0.1]))
_NOTHING = 1e-9  # what rounding leaves of a variance that is none
_ONE, _NONE = np.ones(1), np.zeros(1)
_SMALLEST = 1e-9  # a limit of zero: anything at all is then conclusive
# Values of the unknown common mean in the comparison of two groups; between them the wealth is bounded.
_MEANS = np.unique(np.concatenate([[0.0], np.geomspace(1e-4, 1.0, 48), np.linspace(0.0, 1.0, 17)]))
# What the rate may truly be, in shares of the limit, when a gate is to pass, and the money on each.
_BETTER = {0.0: 0.5, 0.125: 0.1, 0.25: 0.1, 0.5: 0.1, 0.75: 0.1, 0.9: 0.1}


def above(shares: Floats, limits: Floats | float) -> float:
    """Log wealth against "the mean share is at most the limit".

    Args:
        shares: One per device, 0 to 1.
        limits: One for all, or one per device, known before its share was.
    """
    return pooled(paths(shares, limits))


def above_alike(ones: float, devices: float, limit: float) -> float:
    """The same of devices that are each wholly bad, so many, or not at all."""
    return pooled(ones * paths(_ONE, limit) + (devices - ones) * paths(_NONE, limit))


def above_control(shares: Floats, control: Floats, margin: float) -> float:
    """Log wealth against "the mean share is at most that of the control group, and a margin".

    For every value of the control group's unknown mean both sides are tested: ours above it, theirs
    below it. The product of the two is a test of that value; the least over all values is one of the
    whole hypothesis (Turner, Ly and Gruenwald 2024 for 2x2 tables; here for shares). Between two
    neighbouring values ours is least at the upper and theirs at the lower one.

    Returns:
        0 without a control group: nothing is shown.
    """
    if not len(shares) or not len(control):
        return 0.0
    return of_both(ours_paths(shares, margin), control_paths(control))


def ours_paths(shares: Floats, margin: float) -> Floats:
    """One side of `above_control`: a row for each stretch of the unknown mean. Adds up over devices."""
    return np.array([paths(shares, min(1.0, high + margin)) for high in _MEANS[1:]])


def control_paths(control: Floats) -> Floats:
    """The other side."""
    nothing = np.zeros(len(STAKES))
    return np.array([paths(1.0 - control, 1.0 - low) if low else nothing for low in _MEANS[:-1]])


def of_both(ours: Floats, theirs: Floats) -> float:
    """What the two sides show together."""
    return min(pooled(one) + pooled(other) for one, other in zip(ours, theirs, strict=True))


def below(bad: float, total: float, limit: float) -> float:
    """Log wealth against "the rate is at least the limit": what lets a gate pass.

    A mixture of likelihood ratios of single trials (Wald 1945; Robbins 1970), so that here, too, the
    number of looks does not matter. What depends on each other is made fewer before (`effective`).
    """
    if total <= 0 or limit <= 0:
        return 0.0
    if limit >= 1:
        return math.inf
    terms = []
    for part, money in _BETTER.items():
        rate = part * limit
        if rate == 0.0 and bad > 0:
            continue
        won = bad * math.log(part) if bad else 0.0
        terms.append(math.log(money) + won + (total - bad) * (math.log1p(-rate) - math.log1p(-limit)))
    return _log_sum(terms)


def upper_bound(bad: float, total: float, log_wealth: float) -> float:
    """The largest rate that has not been ruled out at this much wealth, at any look."""
    low, high = bad / total if total else 0.0, 1.0
    for _ in range(24):  # to 1e-7
        middle = (low + high) / 2
        if below(bad, total, middle) >= log_wealth:
            high = middle
        else:
            low = middle
    return high


def effective(bad: Floats, total: Floats) -> tuple[float, float]:
    """Bad and all trials of some clusters, reduced to as many independent ones as they are worth.

    `clusters` says what of a device goes into it, and adds up; `worth` what follows.

    Rao and Scott 1992, "A simple method for the analysis of clustered binary data": both are divided
    by the design effect, the variance between clusters over the binomial one; never by less than 1.
    Clusters of a device are compared with that device's own rate: what is asked is the rate of these
    devices, so that it does no harm when they differ.

    Args:
        bad, total: Devices by clusters; clusters without trials are passed over.
    """
    return worth(clusters(bad, total))


def clusters(bad: Floats, total: Floats) -> dict[str, float]:
    """Of some devices: trials, those that went wrong, and the terms of both variances."""
    bad, total = np.atleast_2d(bad), np.atleast_2d(total)
    own = total.sum(axis=1)
    bad, total, own = bad[own > 0], total[own > 0], own[own > 0]
    rates = bad.sum(axis=1) / own
    return {
        "trials": float(own.sum()),
        "wrong": float(bad.sum()),
        "clusters": int((total > 0).sum()),
        "clustered": len(own),
        "binomial": float((own * rates * (1 - rates)).sum()),
        "between": float(((bad - rates[:, None] * total) ** 2).sum()),
    }


def worth(found: Mapping[Any, Any]) -> tuple[float, float]:
    """Bad and all trials, as many as they are worth, from sums of `clusters`."""
    trials, wrong = float(found["trials"]), float(found["wrong"])
    freedom = found["clusters"] - found["clustered"]
    if freedom < 1 or wrong in (0.0, trials) or found["binomial"] <= _NOTHING:
        return wrong, trials
    effect = max(1.0, found["between"] * found["clusters"] / freedom / found["binomial"])
    return wrong / effect, trials / effect


def broken(shares: Floats, windows: Floats, healthy: float) -> Floats:
    """Log wealth per device against "its windows have at most the share of a healthy device".

    The unit is a window, a number between 0 and 1 whose expectation, given those before, is at most
    `healthy`: (q/h)^S ((1-q)/(1-h))^(w-S) for the sum S of w windows is a supermartingale for
    every q above h, because a straight line is above the exponential (Hoeffding 1963, eq. 4.1).

    Args:
        shares: Per device, of all its windows.
        windows: How many there were.
    """
    summed = shares * windows
    paths = []
    for part in (0.3, 0.6, 0.95):
        rate = healthy + (1 - healthy) * part
        paths.append(
            summed * math.log(rate / healthy)
            + (windows - summed) * (math.log1p(-rate) - math.log1p(-healthy))
        )
    stacked: Floats = np.logaddexp.reduce(np.array(paths), axis=0) - math.log(len(paths))
    return stacked


def paths(shares: Floats, limits: Floats | float) -> Floats:
    """Log wealth of each stake. Adds up over devices."""
    ratio = shares / np.maximum(limits, _SMALLEST)
    summed: Floats = np.log1p(STAKES[:, None] * (ratio[None, :] - 1.0)).sum(axis=1)
    return summed


def pooled(summed: Floats) -> float:
    """Log wealth of all stakes together, from sums of `paths`."""
    return float(np.logaddexp.reduce(summed + _LOG_MONEY))


def _log_sum(terms: list[float]) -> float:
    most = max(terms)
    return most + math.log(sum(math.exp(term - most) for term in terms))
