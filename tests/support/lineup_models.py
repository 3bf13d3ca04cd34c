"""Open models with a calibration, for tests of the lineup: the tiny classifier of agent_bundles.

Its confidence at temperature 1 is its largest score: x of zeros is answered with 0.377, `SURE_X` with 0.98.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import agent_bundles
import numpy as np
from agent_bundles import BIAS, GOLDEN_X, WEIGHTS, build, reference
from ai_edge_litert import schema_py_generated as schema

from edge_agent.inference.request import Request
from edge_agent.inference.serving import Serving
from edge_agent.inference.session import Session
from edge_contracts.bundle import open_bundle
from edge_contracts.lineup import Role
from edge_contracts.manifest import Confidence

UNSURE_X = np.zeros((1, 4), np.float32)
SURE_X = np.array([[2.0, -2.0, 0.5, 2.0]], np.float32)
SURE, UNSURE = float(reference(SURE_X).max()), float(reference(UNSURE_X).max())


def calibrated(below: float | None, temperature: float = 1.0) -> dict[str, Any]:
    """The field of a manifest that says how sure its float artifact is."""
    stated = Confidence(
        scores="probabilities",
        floor=1e-6,
        temperature=temperature,
        abstain_below=below,
        risk_of="error",
        samples=200,
    )
    return {"confidence": {"float32": stated}}


def bundle(below: float | None = None, version: str = "1", **fields: Any) -> bytes:
    """An archive whose answers of smaller confidence should be withheld."""
    return build(version=version, manifest=calibrated(below) | fields)


def open_serving(
    folder: Path, archive: bytes, role: Role = "active", experiment: str = "", trial: bool = False
) -> Serving:
    """Extract a bundle and open it."""
    opened = open_bundle(archive)
    place = folder / opened.digest[-12:]
    if not place.exists():
        opened.extract(place)
    session = Session.open(place, opened.manifest)
    return Serving.begin(opened.digest, session, trial, role, experiment)


def ask(x: Any = SURE_X, origin: str = "", key: str = "", client: str = "test") -> Request:
    """A request."""
    return Request({"x": x}, client, origin=origin, routing_key=key)


@cache
def contrary(**fields: Any) -> bytes:
    """A bundle of a model that gives the opposite answers: weights and bias with the other sign."""
    none = (None, 0)
    model = agent_bundles._tflite(
        schema.TensorType.FLOAT32, -WEIGHTS, -BIAS, (none, none, none, none, none), (1, 1)
    )
    logits = -(GOLDEN_X.astype(np.float64) @ WEIGHTS.T.astype(np.float64) + BIAS)
    powers = np.exp(logits)
    expected = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return build(
        version="contrary",
        files={"artifacts/float32.tflite": model},
        expected=expected,
        manifest=calibrated(0.1) | fields,
    )
