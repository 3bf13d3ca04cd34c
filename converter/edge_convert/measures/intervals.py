"""How far a figure measured on n samples can be trusted: intervals, paired tests, and what n can see.

Plain functions of counts and arrays. Random numbers come from a fixed seed, so that the same
samples give the same interval; what an interval means for a verdict is for `gates.py` to say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, comb, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
POWER = 0.80
ROUNDS = 1000  # the ends of a percentile interval stand on 25 resamples each
MOST_NUMBERS = 5_000_000  # resampled numbers per interval: large sets get fewer rounds, and need fewer
FEWEST_ROUNDS = 200
_SEED = 0

Interval = tuple[float, float]
Weights = NDArray[np.float64]  # of each sample; 0 leaves it out, 2 counts it twice


def weighted(weights: Weights, values: NDArray[Any]) -> NDArray[np.float64]:
    """Weighted sum over samples, [n, ...] to [...], in one order whatever the number of threads.

    BLAS's dot product is faster and splits long sums among threads; these sums get into bundles.
    """
    return np.asarray(np.einsum("n,n...->...", weights, values), np.float64)


def z_of(level: float) -> float:
    """Standard normal quantile of a two-sided interval: 1.96 for 0.95."""
    return NormalDist().inv_cdf(0.5 + level / 2)


def wilson(successes: float, samples: int, level: float = LEVEL) -> Interval:
    """The score interval of one proportion: Wilson 1927, doi:10.1080/01621459.1927.10502953.

    It stays within 0..1 and does not shrink to nothing where every sample succeeds.
    """
    if samples == 0:
        return 0.0, 1.0
    z = z_of(level)
    share, weight = successes / samples, z * z / samples
    middle = (share + weight / 2) / (1 + weight)
    reach = z / (1 + weight) * sqrt(share * (1 - share) / samples + weight / (4 * samples))
    low = 0.0 if successes <= 0 else max(0.0, middle - reach)
    high = 1.0 if successes >= samples else min(1.0, middle + reach)
    return low, high


@dataclass(frozen=True)
class Paired:
    """How two models fare on the same samples, counted.

    Args:
        lost: Samples that only the first gets right.
        gained: Samples that only the second gets right.
    """

    samples: int
    lost: int
    gained: int

    @property
    def drop(self) -> float:
        """Share of samples that the second is worse by; negative when it is better."""
        return (self.lost - self.gained) / self.samples


def paired(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Paired:
    """Count what changes between two models, from which samples each gets right."""
    return Paired(len(first), int((first & ~second).sum()), int((~first & second).sum()))


def drop_interval(counts: Paired, level: float = LEVEL) -> Interval:
    """Interval of a paired drop: Bonett and Price 2012, doi:10.3102/1076998611411915.

    Wald's interval after one more sample of each kind of disagreement; Fagerland et al. 2014
    (doi:10.1002/sim.6148) recommend it for paired proportions. It has a width even where nothing
    differs: 401 samples without a single difference leave +- 0.7 points.
    """
    samples = counts.samples + 2
    lost, gained = (counts.lost + 1) / samples, (counts.gained + 1) / samples
    middle = lost - gained
    reach = z_of(level) * sqrt((lost + gained - middle**2) / samples)
    return max(-1.0, middle - reach), min(1.0, middle + reach)


def mcnemar_p(counts: Paired) -> float:
    """Two-sided exact p-value of no difference: McNemar 1947, doi:10.1007/BF02295996.

    Under it each sample that differs is a fair coin; how many do not differ is no matter.
    """
    differ, fewer = counts.lost + counts.gained, min(counts.lost, counts.gained)
    # exact in whole numbers up to the last division
    tail = sum(comb(differ, k) for k in range(fewer + 1))
    return min(1.0, 2 * tail / 2**differ) if differ else 1.0


def smallest_visible_drop(counts: Paired, level: float = LEVEL, power: float = POWER) -> float:
    """The smallest true drop that a paired test on so many samples would find, as a share.

    Connor 1987, doi:10.2307/2531961, solved for the drop d: n d**2 = (z_a sqrt(p) + z_b sqrt(p - d**2))**2,
    where p is the share of samples that differ: what was seen (with one more of each kind), or d
    itself where that is more, since a drop of d needs as many differences.
    """
    seen = (counts.lost + counts.gained + 2) / (counts.samples + 2)
    z_a, z_b = z_of(level), NormalDist().inv_cdf(power)

    def found(drop: float) -> bool:
        differ = max(seen, drop)
        return sqrt(counts.samples) * drop >= z_a * sqrt(differ) + z_b * sqrt(max(0.0, differ - drop**2))

    low, high = 0.0, 1.0
    if not found(high):
        return 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if found(middle) else (middle, high)
    return high


def samples_to_see(drop: float, counts: Paired, level: float = LEVEL, power: float = POWER) -> int:
    """How many samples a paired test needs to find this drop, when as many differ as here."""
    differ = max((counts.lost + counts.gained + 2) / (counts.samples + 2), drop)
    z_a, z_b = z_of(level), NormalDist().inv_cdf(power)
    return ceil((z_a * sqrt(differ) + z_b * sqrt(max(0.0, differ - drop**2))) ** 2 / drop**2)


def resamples(samples: int) -> list[Weights]:
    """How often each sample is drawn, with replacement, in every round; the same rounds every time.

    One set serves both models of a comparison: what they share cancels in the difference.
    """
    rounds = max(FEWEST_ROUNDS, min(ROUNDS, MOST_NUMBERS // max(1, samples)))
    random = np.random.RandomState(_SEED)  # its stream is frozen by numpy's policy (NEP 19)
    draws = (random.randint(0, samples, samples) for _ in range(rounds))
    return [np.bincount(drawn, minlength=samples).astype(np.float64) for drawn in draws]


def bootstrap(
    figure: Callable[[Weights], tuple[float, ...] | None], samples: int, level: float = LEVEL
) -> list[Interval] | None:
    """Percentile intervals of figures by resampling samples: Efron 1979, doi:10.1214/aos/1176344552.

    Args:
        figure: From the samples' weights to figures; None where they cannot be told (a class is missing).

    Returns:
        One interval for each figure; None when most resamples could not be told.
    """
    drawn = resamples(samples)
    values = [got for weights in drawn if (got := figure(weights)) is not None]
    if len(values) < len(drawn) / 2:
        return None
    ends = np.quantile(np.asarray(values, np.float64), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [(float(low), float(high)) for low, high in zip(ends[0], ends[1], strict=True)]


def binomial_upper(errors: int, samples: int, confidence: float) -> float:
    """The largest error rate that so few errors leave possible: Clopper and Pearson 1934, one-sided.

    The rate at which at most `errors` of `samples` has probability 1 - confidence;
    doi:10.1093/biomet/26.4.404.
    """
    if samples == 0 or errors >= samples:
        return 1.0
    low, high = errors / samples, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if _binomial_cdf(errors, samples, middle) > 1 - confidence else (low, middle)
        )
    return high


def _binomial_cdf(most: int, samples: int, rate: float) -> float:
    """Probability of at most `most` errors; sums logarithms, which no number of samples underflows."""
    if rate <= 0.0:
        return 1.0
    if rate >= 1.0:
        return 0.0
    k = np.arange(most + 1)
    steps = np.log(samples - k[1:] + 1) - np.log(k[1:])
    log_choose = np.concatenate([[0.0], np.cumsum(steps)])
    terms = log_choose + k * np.log(rate) + (samples - k) * np.log1p(-rate)
    return float(np.exp(terms).sum())
