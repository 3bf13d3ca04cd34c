"""The exact binomial tail: how likely so many bad ones of so many are, at one look. Pure."""

from __future__ import annotations

import math

FALSE_ALARM = 1e-4  # of one look at one device, on the console; gates have a budget instead


def binomial_tail(bad: int, total: int, share: float) -> float:
    """P(X >= bad) of `total` trials that each go wrong with the chance `share`.

    Exact, because a normal approximation calls 1 of 1 significant. At or below the expectation,
    where nothing is to be shown, it answers 1.
    """
    if bad <= total * share:
        return 1.0
    if share == 0.0:
        return 0.0
    log_term = (
        math.lgamma(total + 1)
        - math.lgamma(bad + 1)
        - math.lgamma(total - bad + 1)
        + bad * math.log(share)
        + (total - bad) * math.log1p(-share)
    )
    term = tail = math.exp(log_term)
    for k in range(bad, total):  # beyond the expectation each term is smaller than the one before
        term *= (total - k) / (k + 1) * share / (1 - share)
        tail += term
        if term < tail * 1e-12:
            break
    return min(1.0, tail)
