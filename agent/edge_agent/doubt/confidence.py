"""How sure an answer is, by the calibration that its bundle brings. Pure.

What is done about an answer that is not sure is `ladder.py`'s question.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_contracts.manifest import Confidence, Manifest

FEW = 48  # classes; fewer are summed up sooner without numpy (measured: 2 us instead of 7 for 12)


class ConfidenceRule:
    """The calibrated confidence of one artifact's answers.

    Guo et al., arXiv:1706.04599, section 4.2: the largest of softmax(z / T), where z are the logits, or
    the logarithms of the probabilities, of values no smaller than the floor. Divided by the largest
    term, that is 1 / sum((p / p_max)^(1 / T)), and 1 / sum(exp((z - z_max) / T)): no logarithm is needed.

    Args:
        below: Answers of smaller confidence had better be withheld; None when the bundle knows none.
    """

    def __init__(self, output: str, stated: Confidence) -> None:
        """Take what the manifest states of the artifact's first output."""
        self._output = output
        self._logits = stated.scores == "logits"
        self._floor = stated.floor
        self._inverse = 1.0 / stated.temperature
        self.below = stated.abstain_below

    @staticmethod
    def of(manifest: Manifest, artifact: str) -> ConfidenceRule | None:
        """The rule for an artifact, or None where its bundle has no calibration."""
        stated = manifest.confidence.get(artifact)
        return None if stated is None else ConfidenceRule(manifest.outputs[0].name, stated)

    def __call__(self, outputs: Mapping[str, NDArray[Any]]) -> tuple[float, ...]:
        """The confidence of each sample of a batch, 0 to 1; 0 where the scores are not finite.

        Args:
            outputs: As a session answers, shape (n, ...).
        """
        scores = outputs[self._output]
        rows = scores if scores.ndim == 2 else scores.reshape(scores.shape[0], -1)
        if rows.shape[1] > FEW:
            return tuple(self._many(rows).tolist())
        return tuple([self._few(row) for row in rows.tolist()])

    def is_sure(self, confidence: float) -> bool:
        """Whether an answer of this confidence may go out; without a threshold every one may."""
        return self.below is None or confidence >= self.below

    def _few(self, row: list[float]) -> float:
        inverse = self._inverse
        if self._logits:
            top = max(row)
            if not isfinite(top):
                return 0.0
            total = 0.0
            for value in row:
                total += exp((value - top) * inverse)
        else:
            floor = self._floor
            top = max(max(row), floor)
            if not 0.0 < top < float("inf"):
                return 0.0
            total = 0.0
            for value in row:
                total += ((floor if value < floor else value) / top) ** inverse
        return 1.0 / total if total >= 1.0 else 0.0  # a NaN among the scores makes the sum one

    def _many(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        wide = rows.astype(np.float64)
        with np.errstate(all="ignore"):  # what is not finite ends as 0
            if self._logits:
                wide -= wide.max(axis=1, keepdims=True)
                wide *= self._inverse
                np.exp(wide, out=wide)
            else:
                np.maximum(wide, self._floor, out=wide)
                wide /= wide.max(axis=1, keepdims=True)
                np.power(wide, self._inverse, out=wide)
            total = wide.sum(axis=1)
            return np.where(total >= 1.0, 1.0 / total, 0.0)
