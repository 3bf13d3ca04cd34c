"""The golden gate end to end: the converter's choice and the agent's judgement, on a real int8 artifact.

Another set of kernels must pass, and inputs that are wired wrongly must not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from small_nets import picture_classifier, pictures

from edge_agent.inference.golden import compare
from edge_contracts.manifest import FileRef, Golden
from edge_contracts.profile import load_profile
from edge_convert import golden
from edge_convert.binding import Model
from edge_convert.candidates import float_form, written
from edge_convert.engine import LiteRtEngine
from edge_convert.graph import Array
from edge_convert.measures.score import worst_sqnr_db
from edge_convert.quantizing.quantize import rules_for
from edge_convert.quantizing.quantizer import Quantizer
from edge_convert.recipe import load


@dataclass(frozen=True, eq=False)
class Gate:
    """An artifact, its golden inputs and what the manifest says of them."""

    model: Model
    other_kernels: Model
    asked: Array
    limits: Golden

    def judge(self, model: Model, asked: Array) -> str:
        """Why it fails, or ""."""
        (expected, found) = self.model.run({"x": self.asked}), model.run({"x": asked})
        return compare(expected, found, "classification", self.limits).reason


@pytest.fixture(scope="module")
def gate() -> Gate:
    graph = picture_classifier()
    x = {"x": pictures(200)}
    quantization = Quantizer(graph, x).quantize(load("wi8_ai8_mse_bc"), rules_for(load_profile("arm-cpu")))
    candidate = written(graph, "tflite", load("wi8_ai8_mse_bc"), quantization)
    (content,) = candidate.files.values()
    other = replace(candidate.model, engine=LiteRtEngine(content, delegate=False))
    source, answers = float_form(graph, "tflite").model.run(x), candidate.model.run(x)
    chosen = golden.choose(x, source, [answers], "classification")
    asked = x["x"][chosen.indices]
    between = worst_sqnr_db(candidate.model.run({"x": asked}), other.run({"x": asked}))
    limits = Golden(
        file=FileRef(path="golden.npz", digest="sha256:" + "0" * 64, bytes=0),
        count=len(asked),
        min_agreement=golden.MIN_AGREEMENT,
        min_sqnr_db=golden.limit_db([between]),
        kinds=chosen.kinds,
    )
    return Gate(candidate.model, other, asked, limits)


def test_the_samples_are_of_both_kinds(gate: Gate) -> None:
    assert set(gate.limits.kinds) == {"sure", "boundary"}


def test_another_set_of_kernels_passes(gate: Gate) -> None:
    assert gate.judge(gate.other_kernels, gate.asked) == ""


FAULTS: dict[str, Callable[[Array], Array]] = {
    "colours in the other order": lambda x: x[..., ::-1].copy(),
    "rows and columns swapped": lambda x: x.transpose(0, 2, 1, 3).copy(),
    "channels first, read as channels last": lambda x: x.transpose(0, 3, 1, 2).copy().reshape(x.shape),
    "twice the scale": lambda x: x * np.float32(2),
    "half the scale": lambda x: x / np.float32(2),
    "a tenth more": lambda x: x * np.float32(1.1),
    "centred on zero": lambda x: x - np.float32(0.5),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_inputs_that_are_wired_wrongly_fail(gate: Gate, fault: str) -> None:
    assert gate.judge(gate.model, FAULTS[fault](gate.asked)) != ""
