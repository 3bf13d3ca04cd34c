"""Explaining one input, in the child process that has the model open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import InputRefused
from edge_agent.explain.variants import Ask, features_of, importance, occlusion, picture_axes
from edge_agent.inference.contract import ContractCheck
from edge_agent.inference.golden import read_golden
from edge_agent.inference.session import Session
from edge_agent.input.boxes import sigmoid
from edge_agent.input.files import read_file
from edge_agent.input.interpret import label, probabilities
from edge_contracts.manifest import Manifest, TensorSpec
from edge_contracts.processing import Anchors, Candidates, Classes, Detections

Arrays = Mapping[str, NDArray[Any]]


def relaxed(manifest: Manifest) -> Manifest:
    """The manifest without what its contract refuses beyond shape and dtype: a covered picture is odd."""
    specs = tuple(spec.model_copy(update={"checks": None, "prepare": None}) for spec in manifest.inputs)
    return manifest.model_copy(update={"inputs": specs})


def explain(session: Session, manifest: Manifest, folder: Path, path: Path, row: int) -> dict[str, Any]:
    """What the answer to one sample of a file rests on.

    Args:
        session: Of the `relaxed` manifest.
        folder: Of the extracted bundle.
        row: Which sample, where the file holds several.

    Returns:
        `watched` (the figure), `figure` (its value), `view`, and for each input by name either `heat`
        (rows by columns) or `features` with `falls`; numbers that JSON can hold.

    Raises:
        InputRefused: The contract does not allow the input, or the file has no such row.
    """
    prepared = read_file(path, manifest)
    ContractCheck(manifest.inputs)(prepared.inputs)
    answer = session.infer(prepared.inputs)
    if not 0 <= row < answer.samples:
        raise InputRefused("shape", f"{path.name} has {answer.samples} samples; there is no {row}")
    sample = {name: values[row] for name, values in answer.inputs.items()}
    others = read_golden(folder, manifest, session.artifact.id).inputs
    output = {name: values[row : row + 1] for name, values in answer.outputs.items()}
    words, watch = _watched(manifest, output)
    parts: dict[str, Any] = {}
    for spec in manifest.inputs:
        ask = _ask(session, sample, spec, watch)
        if axes := picture_axes(spec):
            usual = others[spec.name].mean(axis=0).astype(spec.dtype)
            parts[spec.name] = {"heat": occlusion(ask, sample[spec.name], axes, usual).tolist()}
        else:
            named = features_of(spec)
            falls = importance(ask, sample[spec.name], named, others[spec.name])
            parts[spec.name] = {"features": [f.name for f in named], "falls": falls.tolist()}
    return {
        "watched": words,
        "figure": watch(output),
        "runtime": session.runtime,
        "view": None if prepared.view is None else asdict(prepared.view),
        "inputs": parts,
    }


def _ask(session: Session, sample: Arrays, spec: TensorSpec, watch: Any) -> Ask:
    """Ask the model for variants of one input, the others as they are; one by one, for the memory's sake."""

    def ask(variants: NDArray[Any]) -> NDArray[np.float64]:
        figures = []
        for variant in variants:
            inputs = {name: values[np.newaxis] for name, values in sample.items()}
            answer = session.infer(inputs | {spec.name: variant[np.newaxis]})
            figures.append(watch(answer.outputs))
        return np.array(figures)

    return ask


def _watched(manifest: Manifest, output: Arrays) -> tuple[str, Any]:
    """What is watched, in words and as a figure of outputs of one sample.

    A classifier's best score; a detector's surest score; of anything else how far the first output stays
    from where it was, as a share of its size, below 0 (so that a fall is a move).
    """
    rule, first = manifest.interpret, manifest.outputs[0].name
    if isinstance(rule, Detections) and not rule.scores:
        return "the surest box's score", lambda outputs: float(outputs[rule.boxes][0, :, 4].max())
    if isinstance(rule, Detections):
        return "the surest box's score", lambda outputs: float(outputs[rule.scores].max())
    if isinstance(rule, Candidates | Anchors):
        return "the surest box's score", lambda outputs: _surest(rule, outputs)
    if isinstance(rule, Classes) or manifest.task == "classification":
        activation = rule.activation if isinstance(rule, Classes) else "none"

        def scores(outputs: Arrays) -> NDArray[Any]:
            return np.asarray(probabilities(outputs[first].reshape(1, -1), activation)[0])

        best = int(scores(output).argmax())
        return f"the score of {label(manifest.labels, best)}", lambda outputs: float(scores(outputs)[best])
    before = output[first].astype(np.float64)
    size = float(np.sqrt(np.mean(before**2))) or 1.0

    def stays(outputs: Arrays) -> float:
        return -float(np.sqrt(np.mean((outputs[first] - before) ** 2))) / size

    return f"how far {first!r} moves, as a share of its size", stays


def _surest(rule: Candidates | Anchors, outputs: Arrays) -> float:
    if isinstance(rule, Anchors):
        scores = outputs[rule.scores][0].reshape(rule.count, -1)
        return float(probabilities(scores, rule.activation)[:, int(rule.background) :].max())
    values = outputs[rule.output][0]
    rows = (values.T if rule.along == "columns" else values)[:, 4:]
    scores = sigmoid(rows) if rule.activation == "sigmoid" else rows
    return float((scores[:, 1:] * scores[:, :1] if rule.objectness else scores).max())
