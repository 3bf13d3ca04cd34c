"""One model's part in answering: its calibration and the counts that go into its windows. Pure.

Used from the inference thread only; what labels say is counted in `feedback.py`.
"""

from __future__ import annotations

from edge_agent.doubt.confidence import ConfidenceRule
from edge_contracts.lineup import CONFIDENCE_BINS, LineupCounts, Role
from edge_contracts.manifest import Manifest


class Part:
    """The counts of one model in the window that is open now.

    Args:
        experiment: In which the model is an arm, or "".
    """

    def __init__(
        self, manifest: Manifest, artifact: str, role: Role = "active", experiment: str = ""
    ) -> None:
        """Take the calibration from the bundle."""
        self.rule = ConfidenceRule.of(manifest, artifact)
        self.role, self.experiment = role, experiment
        self._begin()

    def _begin(self) -> None:
        self.sure = self.second = self.uncertain = 0
        self._bins = [0] * CONFIDENCE_BINS

    def rate(self, confidence: tuple[float, ...]) -> None:
        """Count how sure the model was of a request's samples."""
        bins = self._bins
        for one in confidence:
            bins[min(int(one * CONFIDENCE_BINS), CONFIDENCE_BINS - 1)] += 1

    def cut(self) -> LineupCounts:
        """Close the window's counts and open the next."""
        counts = LineupCounts(
            role=self.role,
            experiment=self.experiment,
            sure=self.sure,
            second=self.second,
            uncertain=self.uncertain,
            confidence=tuple(self._bins) if self.rule is not None else (),
        )
        self._begin()
        return counts
