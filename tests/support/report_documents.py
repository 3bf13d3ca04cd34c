"""Reports in their JSON form with every field that the page knows, for tests. No tests."""

from __future__ import annotations

from typing import Any

from edge_convert.explain.picture import data_address

HOSTILE = "</svg></style><script>alert('x')</script>\"'&\u202egnp.exe\x00"


def picture() -> str:
    """A data address of a small picture."""
    import numpy as np

    return data_address(np.arange(12 * 12 * 3, dtype=np.uint8).reshape(12, 12, 3))


def candidate(name: str, state: str, **changes: Any) -> dict[str, Any]:
    """One candidate."""
    score = {
        "samples": 9,
        "agreement": 0.98,
        "sqnr_db": 22.5,
        "metric": "accuracy",
        "source": 0.9,
        "artifact": 0.88,
    }
    return {
        "recipe": name,
        "precision": "int8",
        "pruned": False,
        "bytes": 95_000,
        "state": state,
        "selection": score,
        "score": score,
        "latency_ms": 0.04,
        "source_latency_ms": 0.12,
        "latency_ratio": 0.33,
        "findings": [
            {"gate": "latency", "verdict": "pass", "reason": name, "found": 0.33, "limit": 1.1},
        ],
    } | changes


def corrupted(name: str, severity: int) -> dict[str, Any]:
    """Figures under one corruption."""
    return {
        "corruption": name,
        "severity": severity,
        "source": 0.8,
        "artifact": 0.75,
        "drop_points": 5.0,
        "interval_points": [1.0, 9.0],
        "agreement": 0.9,
        "sqnr_db": 17.0,
    }


def profile(name: str = "arm-cpu", word: str = "word", **changes: Any) -> dict[str, Any]:
    """Everything that is known about one profile; `word` stands wherever a file's names do."""
    top = [{"class": 0, "name": word, "score": 0.6}, {"class": 1, "name": "b", "score": 0.4}]
    heat = [[0.1, -0.2], [0.3, 0.0]]
    reliability = [
        {"samples": 5, "confidence": 0.6, "right": 0.4},
        {"samples": 4, "confidence": 0.9, "right": 1.0},
    ]
    attacked = {
        "median_distance": 0.04, "withstands_small": 0.5, "fooled": 1.0, "also_fools_the_other": None,
        "questions_per_sample": 900.0,
    }  # fmt: skip
    chosen = candidate(word, "chosen")
    other = candidate("wf16", "not needed", score=None, latency_ratio=None, bytes=150_000)
    return {
        "profile": name,
        "title": word,
        "passed": True,
        "summary": word,
        "bundle": f"{word}.bundle",
        "bundle_digest": "sha256:00",
        "artifacts": [
            {
                "id": word,
                "format": "tflite",
                "precision": "int8",
                "runtimes": ["litert"],
                "bytes": 95_000,
                "compiled_for": "",
                "not_compiled": word,
            }
        ],
        "candidates": [chosen, other],
        "pareto": [
            {
                "name": word,
                "recipe": word,
                "pruning": "none",
                "precision": "int8",
                "bytes": 95_000,
                "predicted_us": 40.0,
                "latency_ratio": 0.33,
                "sqnr_db": 22.5,
                "agreement": 0.98,
                "state": "chosen",
                "on_front": True,
            },
            {
                "name": "wf16",
                "recipe": "wf16",
                "pruning": "none",
                "precision": "float16",
                "bytes": 150_000,
                "predicted_us": 120.0,
                "latency_ratio": None,
                "sqnr_db": None,
                "agreement": 1.0,
                "state": "not needed",
                "on_front": True,
            },
        ],
        "search": {
            "recipe": "auto", "prefer": word, "budget_s": 60.0, "tried": 2, "used_s": 3.2, "ended": word,
        },
        "findings": [],
        "layers": [
            {"layer": word, "op": "conv2d", "source": word, "sqnr_db": 12.0},
            {"layer": "b", "op": "dense", "source": "", "sqnr_db": -300.0},
        ],
        "depth": [
            {"layer": word, "op": "conv2d", "source": word, "sqnr_db": 32.0},
            {"layer": "b", "op": "dense", "source": "", "sqnr_db": 21.0},
        ],
        "histogram": {"output": word, "edges": [-1.0, 0.0, 1.0], "counts": [3, 4]},
        "confidence": {
            "labelled": True,
            "samples": 9,
            "source": {"ece": 0.055, "interval": [0.03, 0.09], "reliability": reliability},
            "artifact": {"ece": 0.059, "interval": None, "reliability": reliability},
            "calibrated": None,
            "divergence": 0.02,
            "temperature": {"value": 1.06, "fitted_to": word, "samples": 200, "divergence": 0.03},
            "abstain": {
                "target_risk": 0.05,
                "confidence": 0.95,
                "samples": 200,
                "threshold": {
                    "below": 0.96, "coverage": 0.56, "risk_bound": 0.036,
                    "held_out_coverage": 0.562, "held_out_risk": 0.018,
                },
                "curve": [{"coverage": 0.1, "risk": 0.0}, {"coverage": 1.0, "risk": 0.12}],
            },
        },
        "robustness": {
            "mode": "attack",
            "samples": 9,
            "metric": "accuracy",
            "truth": word,
            "clean": corrupted("clean", 0),
            "rows": [corrupted(word, 1), corrupted(word, 3), corrupted("jpeg", 3)],
            "worst": {"corruption": word, "drop_points": 4.5, "interval_points": [1.0, 8.0]},
            "skipped": [{"corruption": word, "reason": word}],
            "attack": {"method": word, "samples": 4, "small": 0.03, "source": attacked, "artifact": attacked},
        },
        "fit_summary": {
            "reasons": [word],
            "predicted_ms": {"int8": 0.0011},
            "prediction": word,
            "rates_from": word,
        },
        "npu_compilations": [
            {
                "precision": "int8", "platform": word, "compiler": word, "compiled": False,
                "estimate_us": 12.0, "blob_bytes": 9000, "refusal": word,
            }
        ],
        "arm_checks": [
            {
                "artifact": word, "cpu": word, "samples": 4, "worst_lsb": 1, "sqnr_db": 40.0,
                "same_class": 1.0, "instructions": 1_234_567, "passed": True, "reason": word,
            }
        ],
        "fit": [{"operator": word, "mapped": False, "where": word, "rule": word, "source": word}],
        "notes": [word],
        "warnings": [word],
        "metrics": [
            {
                "name": "accuracy", "title": word, "unit": "share", "higher_is_better": True, "primary": True,
                "samples": 9, "source": 0.9, "artifact": 0.88, "difference": -0.02,
                "intervals": {"difference": [-0.05, 0.01]}, "level": 0.95, "method": word,
            }
        ],
        "slices": {
            "metric": "accuracy", "limit_points": 5.0, "level": 0.95,
            "rows": [
                {
                    "group": word, "name": word, "samples": 4, "source": 0.9, "artifact": 0.7,
                    "drop_points": 20.0,
                    "interval_points": [5.0, 40.0], "at_least_points": 5.0, "verdict": "fail",
                }
            ],
        },
        "explanation": {
            "changes": {
                "samples": 9, "changed": 1, "lost": 1, "gained": 0, "median_margin_changed": 0.2,
                "median_margin_all": 0.9,
                "shown": [
                    {
                        "sample": 3, "label": 0, "label_name": word, "source": top, "artifact": top[::-1],
                        "picture": picture(),
                    }
                ],
            },
            "furthest": [],
            "occlusion": [
                {
                    "sample": 3, "why": word, "class": 0, "name": word, "source": heat, "artifact": heat,
                    "rank_correlation": 0.97, "picture": picture(),
                }
            ],
            "permutation": None,
            "notes": [word],
        },
    } | changes  # fmt: skip


def document(word: str = "word", *profiles: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A whole report."""
    return {
        "format": "edgefleet.report/1",
        "name": word,
        "version": "1.0.0",
        "passed": True,
        "refusal": "",
        "task": "classification",
        "source": {
            "name": word,
            "digest": "sha256:00",
            "bytes": 318_000,
            "format": "tflite",
            "operators": 2,
            "parameters": 77_000,
            "inputs": [{"name": word, "shape": [1, 8, 8, 3], "layout": "NHWC"}],
            "outputs": [{"name": word, "shape": [1, 2]}],
        },
        "data": {
            "calibration": {"file": word, "digest": "sha256:01", "samples": 9},
            "evaluation": None,
            "ranges": 5,
            "selection": 2,
            "held_out": 2,
            "labelled": True,
            "inputs": {},
        },
        "limits": {"max_latency_ratio": 1.1},
        "findings": [{"gate": "source", "verdict": "pass", "reason": word, "found": 1, "limit": 0}],
        "profiles": list(profiles) or [profile(word=word)],
        "notes": [word],
        "tools": {"numpy": word},
        "host": {"machine": word},
    } | changes
