"""Whether a classifier is as sure as it is right: calibration, the temperature that restores it, and
the confidence below which it had better not answer.

Temperature and threshold are found on one half of the samples and reported on the other. Without
labels the temperature brings the artifact's confidence back to the source's, and the threshold
speaks of agreement with the source instead of right answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, log, log1p
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_contracts.manifest import Confidence
from edge_convert.measures import intervals
from edge_convert.measures.intervals import Interval, Weights
from edge_convert.measures.metrics import FLOAT_FLOOR, logits, softmax
from edge_convert.measures.pairs import Pair

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
BINS, FEWEST_IN_A_BIN = 15, 20
FEWEST_TO_FIT = 40  # below, a temperature is noise
COLDEST, HOTTEST = 0.05, 20.0
SURE = 0.95  # that the stated risk is not exceeded
STARTS = (0.1, 0.5, 0.9)  # coverages: a hard task answers little, an easy one nearly all
STEPS = 50


@dataclass(frozen=True)
class Bin:
    """Samples of neighbouring confidence.

    Args:
        confidence: Their mean.
        right: Share of them that is right.
    """

    samples: int
    confidence: float
    right: float


@dataclass(frozen=True)
class Calibration:
    """How sure a model is beside how right it is.

    Args:
        ece: Expected calibration error, 0 is perfect.
    """

    ece: float
    interval: Interval | None
    bins: tuple[Bin, ...]

    def as_json(self) -> dict[str, Any]:
        """As report.json has it."""
        return {
            "ece": self.ece,
            "interval": None if self.interval is None else list(self.interval),
            "reliability": [
                {"samples": b.samples, "confidence": b.confidence, "right": b.right} for b in self.bins
            ],
        }


def calibration(sure: Floats, right: Flags) -> Calibration:
    """Compare confidence with accuracy in bins of equal mass, ties kept together.

    Guo et al., arXiv:1706.04599, with the bins of Nixon et al., arXiv:1904.01685: 15, or fewer, so
    that each holds 20 samples or more.

    Args:
        sure: [n] the probability of the class that was given.
    """
    count = max(1, min(BINS, len(sure) // FEWEST_IN_A_BIN))
    order = np.argsort(sure, kind="stable")
    ranked, hits = sure[order], right[order].astype(np.float64)
    ones = np.ones(len(sure))
    tie = np.concatenate([[0], np.cumsum(ranked[1:] != ranked[:-1])]).astype(np.intp)

    def binned(weights: Weights) -> tuple[Floats, Floats, Floats]:
        mine = weights[order]
        groups = np.bincount(tie, mine)
        middle = np.cumsum(groups) - groups / 2
        place = np.minimum(count - 1, middle * count // max(1.0, groups.sum())).astype(np.intp)[tie]
        mass, confidence, hit = (np.bincount(place, mine * v, count) for v in (ones, ranked, hits))
        return np.asarray(mass, np.float64), np.asarray(confidence, np.float64), np.asarray(hit, np.float64)

    def error(weights: Weights) -> tuple[float]:
        mass, confidence, hit = binned(weights)
        return (float(np.abs(confidence - hit).sum() / mass.sum()),)

    found = intervals.bootstrap(error, len(sure))
    rows = zip(*binned(ones), strict=True)
    bins = tuple(Bin(int(m), float(c / m), float(h / m)) for m, c, h in rows if m)
    return Calibration(error(ones)[0], None if found is None else found[0], bins)


def fit_temperature(values: Floats, wanted: Floats) -> float:
    """The temperature at which softmax(values / T) is nearest to what is wanted, by cross-entropy.

    Guo et al., section 4.2. The loss is convex in 1 / T: its slope, the mean of
    E_T[values] - E_wanted[values], is bisected. Stays within 0.05 and 20.

    Args:
        values: Logits, [n, classes].
        wanted: Probabilities, [n, classes]: one-hot labels, or the source's own softmax.
    """
    aim = float((wanted * values).sum(axis=1).mean())

    def slope(inverse: float) -> float:
        return float((softmax(values * inverse) * values).sum(axis=1).mean()) - aim

    low, high = 1 / HOTTEST, 1 / COLDEST
    if slope(low) >= 0:
        return HOTTEST
    if slope(high) <= 0:
        return COLDEST
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 2 / (low + high)


@dataclass(frozen=True)
class Threshold:
    """A confidence below which the model had better not answer.

    Args:
        below: Answers of lower confidence are withheld.
        coverage: Share of the samples that are answered.
        risk: Upper bound of the share of wrong ones among them, with 95 % confidence.
    """

    below: float
    coverage: float
    risk: float


def abstain(sure: Floats, right: Flags, target: float) -> Threshold | None:
    """The threshold with the largest coverage whose risk is shown to be within the target.

    Selective classification, Geifman and El-Yaniv, arXiv:1705.08500, tested as Angelopoulos et al.,
    arXiv:2110.01052, section 4: from each of a few coverages on, ever less sure answers are let in
    while Clopper and Pearson's bound holds the target; the first that does not ends the walk, and so
    the doubt is shared between the starts alone.

    Returns:
        None when so few samples cannot show it from any start.
    """
    samples = len(sure)
    each = 1 - (1 - SURE) / len(STARTS)
    enough = ceil(log(1 - each) / log1p(-target))  # without a single error among them
    if samples < enough:
        return None
    order = np.argsort(-sure, kind="stable")
    ranked, wrong = sure[order], np.cumsum(~right[order])
    best: Threshold | None = None
    for start in STARTS:
        answered, taken = max(enough, ceil(start * samples)), 0
        while taken < samples:
            # all samples that are as sure as the last one are answered with it
            taken = int(np.searchsorted(-ranked, -ranked[answered - 1], side="right"))
            risk = intervals.binomial_upper(int(wrong[taken - 1]), taken, each)
            if risk > target:
                break
            if best is None or taken / samples > best.coverage:
                best = Threshold(float(ranked[answered - 1]), taken / samples, risk)
            answered = min(samples, taken + max(1, samples // STEPS))
    return best


@dataclass(frozen=True, eq=False)
class Confident:
    """Everything about an artifact's confidence.

    Args:
        document: As report.json has it.
        contract: As the manifest has it; None when there were too few samples.
        warnings: What could not be told.
    """

    document: Mapping[str, Any]
    contract: Confidence | None
    warnings: tuple[str, ...]


def of(compared: Pair, target: float) -> Confident | None:
    """Judge an artifact's confidence; None when it does not classify.

    Args:
        target: Share of wrong answers (without labels: of answers other than the source's) among those
            that are given.
    """
    theirs, ours = compared.source.scores, compared.artifact.scores
    if theirs is None or ours is None:
        return None
    like_softmax = compared.like_softmax
    source, artifact = logits(theirs, like_softmax), logits(ours, like_softmax, compared.floor)
    known = None if compared.truth is None else compared.truth.classes
    expected = theirs.argmax(axis=1) if known is None else known
    fitted, told = _halves(len(compared))
    document: dict[str, Any] = {
        "labelled": known is not None,
        "samples": len(told),
        "source": None,
        "artifact": None,
        "calibrated": None,
        "divergence": _divergence(source[told], artifact[told], 1.0),
        "temperature": None,
        "abstain": None,
    }
    if known is not None:
        document["source"] = _calibration(source[told], known[told], 1.0)
        document["artifact"] = _calibration(artifact[told], known[told], 1.0)
    if len(fitted) < FEWEST_TO_FIT:
        few = f"{len(compared)} samples are too few for a temperature or an abstain threshold"
        return Confident(document, None, (f"{few}; {2 * FEWEST_TO_FIT} or more are needed",))
    wanted = softmax(source[fitted]) if known is None else np.eye(theirs.shape[1])[known[fitted]]
    temperature = fit_temperature(artifact[fitted], wanted)
    document["temperature"] = {
        "value": temperature,
        "fitted_to": "the source's confidence" if known is None else "labels",
        "samples": len(fitted),
        "divergence": _divergence(source[told], artifact[told], temperature),
    }
    if known is not None:
        document["calibrated"] = _calibration(artifact[told], known[told], temperature)
    probabilities = softmax(artifact / temperature)
    sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == expected
    threshold = abstain(sure[fitted], right[fitted], target)
    document["abstain"] = _abstain_document(threshold, sure[told], right[told], target, len(fitted))
    contract = Confidence(
        scores="probabilities" if like_softmax else "logits",
        floor=compared.floor if like_softmax else 0.0,
        temperature=temperature,
        abstain_below=None if threshold is None else threshold.below,
        coverage=None if threshold is None else threshold.coverage,
        risk=None if threshold is None else threshold.risk,
        risk_of=_risk_of(known is not None),
        samples=len(fitted),
    )
    return Confident(
        document, contract, tuple(_warnings(threshold is not None, temperature, target, len(fitted)))
    )


def _halves(samples: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Which samples find temperature and threshold, and which report on them; the same every time."""
    order = np.random.RandomState(1).permutation(samples).astype(np.intp)
    return np.sort(order[: samples // 2]), np.sort(order[samples // 2 :])


def _risk_of(labelled: bool) -> Literal["error", "disagreement"]:
    return "error" if labelled else "disagreement"


def _calibration(values: Floats, classes: NDArray[np.intp], temperature: float) -> dict[str, Any]:
    probabilities = softmax(values / temperature)
    return calibration(probabilities.max(axis=1), probabilities.argmax(axis=1) == classes).as_json()


def _divergence(source: Floats, artifact: Floats, temperature: float) -> float:
    """Mean Kullback-Leibler divergence of the artifact's softmax from the source's, nats."""
    theirs, ours = softmax(source), softmax(artifact / temperature)
    ratio = np.log(np.maximum(theirs, FLOAT_FLOOR)) - np.log(np.maximum(ours, FLOAT_FLOOR))
    return max(0.0, float((theirs * ratio).sum(axis=1).mean()))


def _abstain_document(
    threshold: Threshold | None, sure: Floats, right: Flags, target: float, fitted: int
) -> dict[str, Any]:
    """The threshold, what it does on the samples that did not find it, and the curve it lies on."""
    order = np.argsort(-sure, kind="stable")
    risks = np.cumsum(~right[order]) / np.arange(1, len(sure) + 1)
    steps = np.unique(np.linspace(0, len(sure) - 1, 50).astype(int))
    found = None
    if threshold is not None:
        answered = sure >= threshold.below
        found = {
            "below": threshold.below,
            "coverage": threshold.coverage,
            "risk_bound": threshold.risk,
            "held_out_coverage": float(answered.mean()),
            "held_out_risk": float((~right[answered]).mean()) if answered.any() else None,
        }
    return {
        "target_risk": target,
        "confidence": SURE,
        "samples": fitted,
        "threshold": found,
        "curve": [{"coverage": float((i + 1) / len(sure)), "risk": float(risks[i])} for i in steps],
    }


def _warnings(has_threshold: bool, temperature: float, target: float, fitted: int) -> list[str]:
    found = []
    if temperature in (COLDEST, HOTTEST):
        found.append(
            f"the temperature ran into its end ({temperature:g}): confidence cannot be restored by one"
        )
    if not has_threshold:
        found.append(
            f"no abstain threshold: {fitted} samples cannot show that the answers which are left are wrong "
            f"in {target:.0%} or fewer"
        )
    return found
