"""Answers of a model as people and programs read them: top classes, tables, JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.doubt.confidence import ConfidenceRule
from edge_agent.inference.oneshot import OneShot
from edge_agent.input.interpret import interpret

FLAGGED = {
    "out-of-range": "out-of-range of what the model was made with",
    "constant": "the same value everywhere",
    "schema": "outside what their table's columns may be",
}
UNSURE = "nothing is sure enough"
ROWS = 20  # a person reads no more; --json and --output hold them all


def top_class(scores: NDArray[Any], labels: tuple[str, ...]) -> list[tuple[str, float]]:
    """The best class of each sample with its score.

    Args:
        scores: Shape (n, classes).
        labels: By class; a class without one is called by its number.
    """
    flat = scores.reshape(scores.shape[0], -1)
    best = flat.argmax(axis=1)
    return [
        (labels[index] if index < len(labels) else str(index), float(row[index]))
        for index, row in zip(best.tolist(), flat, strict=True)
    ]


def as_json(shot: OneShot) -> dict[str, Any]:
    """Everything, for a program; a number that JSON cannot hold (NaN, infinity) is null."""
    result: dict[str, Any] = {
        "name": shot.manifest.name,
        "version": shot.manifest.version,
        "bundle": shot.digest,
        "signature": "verified" if shot.signed_by else "not checked",
        "signed_by": shot.signed_by,
        "artifact": shot.choice.option.artifact,
        "runtime": shot.runtime,
        "fallback": shot.choice.fallback,
        "samples": int(shot.latency_ms.size),
        "outputs": {name: _plain(values) for name, values in shot.outputs.items()},
        "latency_ms": {
            "median": float(np.median(shot.latency_ms)),
            "p95": float(np.quantile(shot.latency_ms, 0.95)),
        },
        "flagged": dict(shot.flagged),
    }
    confidence, uncertain = _doubt(shot)
    if confidence is not None:
        result |= {"confidence": list(confidence), "uncertain": list(uncertain)}
    if shot.manifest.interpret is not None:
        result["answers"] = interpret(shot.manifest, shot.outputs, shot.view)
    if shot.manifest.task == "classification":
        first = shot.outputs[shot.manifest.outputs[0].name]
        result["top"] = [
            {"class": name, "score": score if np.isfinite(score) else None}
            for name, score in top_class(first, shot.manifest.labels)
        ]
    return result


def as_text(shot: OneShot) -> str:
    """What a person wants to know, a line for each of the first samples."""
    option, samples = shot.choice.option, int(shot.latency_ms.size)
    _, uncertain = _doubt(shot)
    lines = [f"{shot.manifest.name} {shot.manifest.version}: {option.artifact} in {shot.runtime}"]
    if shot.choice.fallback:
        lines.append(f"fallback: {shot.choice.fallback}")
    if shot.manifest.interpret is not None:
        first_rows = {name: values[:ROWS] for name, values in shot.outputs.items()}
        for row, answer in enumerate(interpret(shot.manifest, first_rows, shot.view)):
            lines += [f"{row:>6}  {line}{_mark(uncertain[row])}" for line in _lines(answer)]
    elif shot.manifest.task == "classification":
        first = shot.outputs[shot.manifest.outputs[0].name]
        for row, (name, score) in enumerate(top_class(first[:ROWS], shot.manifest.labels)):
            lines.append(f"{row:>6}  {name}  {score:.4f}{_mark(uncertain[row])}")
    else:
        for name, values in shot.outputs.items():
            flat = values[:ROWS].reshape(min(samples, ROWS), -1)
            lines.append(f"{name} {values.shape}")
            for row, numbers in enumerate(flat):
                shown = " ".join(f"{number:.4g}" for number in numbers[:8])
                lines.append(f"{row:>6}  {shown}{' ...' if numbers.size > 8 else ''}")
    if samples > ROWS:
        lines.append(f"        ... {samples - ROWS} more; --json or --output for all")
    if unsure := sum(uncertain):
        lines.append(f"warning: {unsure} of {samples} answers are uncertain, do not act on them as on others")
    for reason, count in shot.flagged.items():
        lines.append(f"warning: {count} of {samples} samples are {FLAGGED.get(reason, reason)}")
    median, p95 = np.median(shot.latency_ms), np.quantile(shot.latency_ms, 0.95)
    lines.append(f"latency of one inference: median {median:.3g} ms, p95 {p95:.3g} ms over {samples}")
    return "\n".join(lines)


def _doubt(shot: OneShot) -> tuple[tuple[float, ...] | None, tuple[bool, ...]]:
    """The confidence of each sample, where the bundle has a calibration, and whether it is too small."""
    rule = ConfidenceRule.of(shot.manifest, shot.choice.option.artifact)
    if rule is None:
        return None, (False,) * int(shot.latency_ms.size)
    confidence = rule(shot.outputs)
    return confidence, tuple(not rule.is_sure(one) for one in confidence)


def _mark(is_uncertain: bool) -> str:
    return "  uncertain" if is_uncertain else ""


def _lines(answer: Mapping[str, Any]) -> list[str]:
    """An answer of `interpret` as a person reads it: a line of classes, or one for each box."""
    if "top" in answer:
        return [
            "  ".join(f"{one['class']}  {_score(one)}" for one in answer["top"]) or "nothing is sure enough"
        ]
    lines = []
    for one in answer["boxes"]:
        left, top, right, bottom = one["box"]
        lines.append(f"{one['class']}  {_score(one)}  at {left:.3f} {top:.3f} to {right:.3f} {bottom:.3f}")
    return lines or [UNSURE]


def _score(one: Mapping[str, Any]) -> str:
    return "not a number" if one["score"] is None else f"{one['score']:.4f}"


def _plain(values: NDArray[Any]) -> Any:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        values = np.where(np.isfinite(values), values, None)  # type: ignore[call-overload]
    return values.tolist()
