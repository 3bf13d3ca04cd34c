"""Whether labels say that a model is right less often than it was when it was made: concept drift.

Fisher's exact test (1934) of two proportions, one-sided: both are samples, and neither is approximated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_contracts.manifest import Score
from edge_contracts.sketch import ALPHA

FEWEST_LABELS = 50
MIN_DROP = 0.05  # five of a hundred answers: below, nobody replaces a model


@dataclass(frozen=True)
class KnownAccuracy:
    """How often the artifact was right on the samples that it was reported on."""

    correct: int
    samples: int

    @property
    def share(self) -> float:
        """Accuracy, 0 to 1."""
        return self.correct / self.samples


def known_accuracy(score: Score | None) -> KnownAccuracy | None:
    """What a manifest says of an artifact; None where it was not evaluated with labels."""
    if score is None or score.metric != "accuracy" or score.artifact is None:
        return None
    return KnownAccuracy(round(score.artifact * score.samples), score.samples)


def decline(known: KnownAccuracy, correct: int, labelled: int) -> float:
    """Chance of so few right answers when accuracy has not changed: the hypergeometric distribution's tail.

    Args:
        correct, labelled: Of live answers, by labels that came back.
    """
    right, total = known.correct + correct, known.samples + labelled
    whole = _log_choose(total, labelled)
    fewest = max(0, labelled - (total - right))
    terms = (
        math.exp(_log_choose(right, k) + _log_choose(total - right, labelled - k) - whole)
        for k in range(fewest, correct + 1)
    )
    return min(1.0, math.fsum(terms))


def has_declined(known: KnownAccuracy, correct: int, labelled: int, alpha: float = ALPHA) -> bool:
    """Whether accuracy has fallen, both beyond chance and by enough to matter."""
    if labelled < FEWEST_LABELS or known.share - correct / labelled < MIN_DROP:
        return False
    return decline(known, correct, labelled) < alpha


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
