"""The report of a build: every number, as report.json for programs and report.html for people.

Timings and names of this host are here and never in the manifest. How the page looks is
`page/`'s matter; it is made from the JSON form and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from edge_contracts.manifest import Score
from edge_convert import page
from edge_convert.explain import plain
from edge_convert.gates import NOTHING_LEFT_DB, Finding
from edge_convert.measures.score import LayerCost
from edge_convert.results import BuildResult, Outcome, Trial

FORMAT = "edgefleet.report/1"
JSON_NAME = "report.json"
HTML_NAME = "report.html"
LAYERS_SHOWN = 20


def files(result: BuildResult) -> dict[str, bytes]:
    """Both forms of the report by file name."""
    document = as_json(result)
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    return {JSON_NAME: text.encode() + b"\n", HTML_NAME: page.render(document).encode()}


def as_json(result: BuildResult) -> dict[str, Any]:
    """Everything that was found out, as plain values."""
    return {
        "format": FORMAT,
        "name": result.name,
        "version": result.version,
        "passed": result.passed,
        "refusal": result.refusal,
        "task": result.task,
        "source": dict(result.source),
        "data": dict(result.data),
        "processing": None if result.processing is None else dict(result.processing),
        "limits": {
            "max_drop_points": result.limits.max_drop,
            "min_agreement": result.limits.min_agreement,
            "min_sqnr_db": result.limits.min_sqnr_db,
            "max_latency_ratio": result.limits.max_latency_ratio,
            "latency_gate": result.limits.latency,
            "max_slice_drop_points": result.limits.max_slice_drop,
            "max_robustness_drop_points": result.limits.max_robustness_drop,
            "judge_by": result.limits.judge_by,
        },
        "findings": [_finding(f) for f in result.findings],
        "profiles": [_outcome(o) for o in result.outcomes],
        "notes": list(result.notes),
        "tools": dict(result.tools),
        "host": dict(result.host),
    }


def _outcome(outcome: Outcome) -> dict[str, Any]:
    histogram = outcome.histogram
    return {
        "profile": outcome.profile,
        "title": outcome.title,
        "passed": outcome.passed,
        "summary": outcome.summary,
        "bundle": outcome.bundle,
        "bundle_digest": outcome.bundle_digest,
        "artifacts": [dict(a) for a in outcome.artifacts],
        "candidates": [_trial(t) for t in outcome.trials],
        "pareto": [_point(t) for t in outcome.trials],
        "search": None if outcome.searched is None else asdict(outcome.searched),
        "findings": [_finding(f) for f in outcome.findings],
        "layers": [_layer(c) for c in outcome.layers[:LAYERS_SHOWN]],
        "depth": [_layer(c) for c in outcome.depth],
        "explanation": None if outcome.explanation is None else plain.as_json(outcome.explanation),
        "histogram": None
        if histogram is None
        else {
            "output": histogram.output,
            "edges": list(histogram.edges),
            "counts": list(histogram.counts),
        },
        "fit": [] if outcome.fit is None else outcome.fit.row_fields(),
        "arm_checks": [dict(one) for one in outcome.arm],
        "npu_compilations": [dict(one) for one in outcome.npu],
        "fit_summary": None if outcome.fit is None else outcome.fit.summary_fields(),
        "notes": list(outcome.notes),
        **outcome.assessment.as_json(),
    }


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "name": trial.name,
        "recipe": trial.recipe,
        "precision": trial.precision,
        "pruned": trial.pruned,
        "bytes": trial.bytes,
        "state": trial.state.value,
        "selection": _score(trial.selection),
        "score": None if trial.score is None else _score(trial.score),
        "latency_ms": trial.latency_ms,
        "source_latency_ms": trial.source_ms,
        "latency_ratio": trial.latency_ratio,
        "findings": [_finding(f) for f in trial.findings],
    }


def _point(trial: Trial) -> dict[str, Any]:
    """A candidate as a point of the plot of quality against speed and size."""
    return {
        "name": trial.name,
        "recipe": trial.recipe,
        "pruning": trial.pruning,
        "precision": trial.precision,
        "bytes": trial.bytes,
        "predicted_us": trial.predicted_us,
        "latency_ratio": trial.latency_ratio,
        "sqnr_db": trial.selection.sqnr_db,
        "agreement": trial.selection.agreement,
        "state": trial.state.value,
        "on_front": trial.on_front,
    }


def _score(score: Score) -> Mapping[str, Any]:
    return score.model_dump(mode="json")


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "gate": finding.gate,
        "verdict": finding.verdict.value,
        "reason": finding.reason,
        "found": finding.found,
        "limit": finding.limit,
    }


def _layer(cost: LayerCost) -> dict[str, Any]:
    lowest = None if cost.sqnr_db is None else max(cost.sqnr_db, NOTHING_LEFT_DB)
    return {"layer": cost.node, "op": cost.op, "source": cost.source, "sqnr_db": lowest}
