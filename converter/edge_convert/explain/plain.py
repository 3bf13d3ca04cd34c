"""An explanation as plain values, for report.json; how it looks on the page is `page/explanations.py`'s."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edge_convert.explain.changed import ChangedAnswer, ClassScore
from edge_convert.explain.explainer import Explanation, OcclusionPair

_DIGITS = 6  # of figures that are looked at, not computed with


def as_json(explanation: Explanation) -> dict[str, Any]:
    """The explanation as the report holds it; what there is none of is null or empty."""
    labels, pictures = explanation.labels, explanation.pictures or {}
    changes, importance = explanation.changes, explanation.permutation
    return {
        "changes": None
        if changes is None
        else {
            "samples": changes.samples,
            "changed": changes.changed,
            "lost": changes.lost,
            "gained": changes.gained,
            "median_margin_changed": changes.margin_changed,
            "median_margin_all": changes.margin_all,
            "shown": [_changed(c, labels) | {"picture": pictures.get(c.sample)} for c in changes.shown],
        },
        "furthest": [
            {"sample": f.sample, "sqnr_db": f.sqnr_db, "picture": pictures.get(f.sample)}
            for f in explanation.far
        ],
        "occlusion": [_maps(p, labels) | {"picture": pictures.get(p.sample)} for p in explanation.occlusion],
        "permutation": None
        if importance is None
        else {
            "samples": importance.samples,
            "features": [
                {"name": name, "source": round(source, _DIGITS), "artifact": round(artifact, _DIGITS)}
                for name, source, artifact in zip(
                    importance.names, importance.source, importance.artifact, strict=True
                )
            ],
            "rank_correlation": importance.correlation,
        },
        "notes": list(explanation.notes),
    }


def _changed(change: ChangedAnswer, labels: Sequence[str]) -> dict[str, Any]:
    return {
        "sample": change.sample,
        "label": change.label,
        "label_name": None if change.label is None else _name(change.label, labels),
        "source": [_score(s, labels) for s in change.source],
        "artifact": [_score(s, labels) for s in change.artifact],
    }


def _maps(pair: OcclusionPair, labels: Sequence[str]) -> dict[str, Any]:
    return {
        "sample": pair.sample,
        "why": pair.why,
        "class": pair.winner,
        "name": None if pair.winner is None else _name(pair.winner, labels),
        "source": [[round(v, _DIGITS) for v in row] for row in pair.source],
        "artifact": [[round(v, _DIGITS) for v in row] for row in pair.artifact],
        "rank_correlation": pair.correlation,
    }


def _score(scored: ClassScore, labels: Sequence[str]) -> dict[str, Any]:
    return {"class": scored.index, "name": _name(scored.index, labels), "score": scored.score}


def _name(index: int, labels: Sequence[str]) -> str:
    return labels[index] if index < len(labels) else f"class {index}"
