"""What one artifact is worth beside its source, for the report: metrics, slices, confidence, robustness.

Gathers what the modules of those names find out, in the shapes that docs/evidence.md describes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_contracts.manifest import Score
from edge_convert import gates
from edge_convert.binding import Model
from edge_convert.gates import Finding, Limits, SliceDrop
from edge_convert.measures import confidence, intervals, pairs
from edge_convert.measures.confidence import Confident
from edge_convert.measures.pairs import Pair, Row
from edge_convert.measures.robustness import Robustness, Trials
from edge_convert.measures.slices import CLASS

ABSTAIN_RISK = 0.05


@dataclass(frozen=True)
class Assessment:
    """Everything that was found out about one artifact's answers.

    Args:
        candidate: Name of the one that it speaks of: the chosen one, or the best that failed.
        warnings: What the samples are too few to tell, one sentence each.
    """

    candidate: str
    metrics: tuple[Row, ...] = ()
    slices: Mapping[str, Any] | None = None
    confidence: Confident | None = None
    robustness: Robustness | None = None
    warnings: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The fields of a profile in report.json."""
        return {
            "assessed": self.candidate,
            "metrics": [row.as_json() for row in self.metrics],
            "slices": self.slices,
            "confidence": None if self.confidence is None else self.confidence.document,
            "robustness": None if self.robustness is None else self.robustness.as_json(),
            "warnings": list(self.warnings),
        }


NOTHING = Assessment("")


class Assessor:
    """Finds out everything about artifacts' answers; one for all profiles of a build."""

    def __init__(
        self,
        limits: Limits,
        labels: Sequence[str] = (),
        abstain_risk: float = ABSTAIN_RISK,
        trials: Trials | None = None,
    ) -> None:
        """Set up.

        Args:
            trials: Corrupted samples; None leaves robustness out.
            labels: Class names in order, or empty.
            abstain_risk: Share of wrong answers that is allowed among those that are not withheld.
        """
        self._limits, self._labels, self._abstain_risk = limits, labels, abstain_risk
        self._trials = trials

    def robustness_of(self, model: Model) -> Robustness | None:
        """What corrupted inputs do to an artifact; found out once."""
        return None if self._trials is None else self._trials.of(model)

    def robustness_finding(self, model: Model) -> Finding | None:
        """What the gate says of it; None when nobody asked."""
        limit = self._limits.max_robustness_drop
        if limit is None:
            return None
        found = self.robustness_of(model)
        worst = None if found is None else found.worst
        if worst is None:
            return gates.robustness_drop("", None, None, limit)
        return gates.robustness_drop(worst.corruption, worst.drop, worst.interval, limit)

    def of(
        self, candidate: str, model: Model, compared: Pair, score: Score, parts: Sequence[SliceDrop]
    ) -> Assessment:
        """Everything about one artifact.

        Args:
            candidate: Its name.
            compared: Its answers to the held-out samples beside the source's.
            parts: What each class and slice loses.
        """
        right = compared.right()
        counts = None if right is None else intervals.paired(*right)
        confident = confidence.of(compared, self._abstain_risk)
        return Assessment(
            candidate,
            pairs.rows(compared),
            slices_json(parts, self._limits, self._labels),
            confident,
            self.robustness_of(model),
            warnings=(
                *gates.doubts(score, parts, self._limits, counts),
                *(confident.warnings if confident else ()),
            ),
        )


def slices_json(
    parts: Sequence[SliceDrop], limits: Limits, labels: Sequence[str] = ()
) -> dict[str, Any] | None:
    """Slices as report.json has them, points for shares; None when there are none."""
    if not parts:
        return None
    limit = gates.slice_limit(limits, parts[0].metric)
    rows = [
        {
            "group": one.group,
            "name": _label(one, labels),
            "samples": one.samples,
            "source": one.source,
            "artifact": one.artifact,
            "drop_points": None if one.drop is None else 100 * one.drop,
            "interval_points": None if one.interval is None else [100 * end for end in one.interval],
            "at_least_points": None if one.at_least is None else 100 * one.at_least,
            "verdict": one.verdict(limit).value,
        }
        for one in parts
    ]
    return {"metric": parts[0].metric, "limit_points": limit, "level": intervals.LEVEL, "rows": rows}


def _label(one: SliceDrop, labels: Sequence[str]) -> str:
    return labels[int(one.name)] if one.group == CLASS and labels else one.name
