"""What one artifact is worth beside its source, for the report: metrics, slices, confidence, robustness.

Gathers what the modules of those names find out, in the shapes that docs/evidence.md describes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_contracts.manifest import Score
from edge_convert import gates, intervals, pairs
from edge_convert.gates import Limits, SliceDrop
from edge_convert.pairs import Pair, Row
from edge_convert.slices import CLASS


@dataclass(frozen=True)
class Assessment:
    """Everything that was found out about one artifact's answers.

    Args:
        recipe: Of the candidate that it speaks of: the chosen one, or the best that failed.
        warnings: What the samples are too few to tell, one sentence each.
    """

    recipe: str
    metrics: tuple[Row, ...] = ()
    slices: Mapping[str, Any] | None = None
    confidence: Mapping[str, Any] | None = None
    robustness: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The fields of a profile in report.json."""
        return {
            "assessed": self.recipe,
            "metrics": [row.as_json() for row in self.metrics],
            "slices": self.slices,
            "confidence": self.confidence,
            "robustness": self.robustness,
            "warnings": list(self.warnings),
        }


NOTHING = Assessment("")


def assess(
    recipe: str,
    compared: Pair,
    score: Score,
    parts: Sequence[SliceDrop],
    limits: Limits,
    labels: Sequence[str] = (),
) -> Assessment:
    """Find out everything about one artifact's answers to the held-out samples.

    Args:
        parts: What each class and slice loses.
        labels: Class names in order, or empty.
    """
    right = compared.right()
    counts = None if right is None else intervals.paired(*right)
    return Assessment(
        recipe,
        pairs.rows(compared),
        slices_json(parts, limits, labels),
        warnings=tuple(gates.doubts(score, parts, limits, counts)),
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
