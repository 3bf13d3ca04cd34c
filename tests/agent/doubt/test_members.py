"""Which two models an application cannot tell apart but by their answers."""

from __future__ import annotations

from typing import Any

import pytest
from lineup_models import bundle

from edge_agent.doubt.members import differs
from edge_contracts.bundle import open_bundle
from edge_contracts.manifest import Manifest, TensorSpec
from edge_contracts.processing import Picture


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return open_bundle(bundle(0.5)).manifest


def of(manifest: Manifest, **fields: Any) -> Manifest:
    """The same contract for pictures of 8 x 8 pixels, with other fields of its input."""
    spec = TensorSpec(name="x", dtype="float32", shape=(1, 1, 8, 8), layout="NCHW")
    return manifest.model_copy(update={"inputs": (spec.model_copy(update=fields),)})


def test_a_model_that_states_no_layout_contradicts_none(manifest: Manifest) -> None:
    assert differs(of(manifest), of(manifest, layout="")) == ""
    assert differs(of(manifest, layout=""), of(manifest)) == ""


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"layout": "NHWC"},
            "other inputs: x float32 (1, 1, 8, 8) NHWC, expected x float32 (1, 1, 8, 8) NCHW",
        ),
        ({"shape": (1, 1, 8, 9)}, "other inputs: x float32 (1, 1, 8, 9) NCHW, expected"),
        ({"name": "y"}, "other inputs: y float32"),
        ({"dtype": "int8"}, "other inputs: x int8"),
        ({"prepare": Picture(kind="picture", resample="tf-bilinear")}, "how a file becomes an input"),
    ],
)
def test_what_is_found_and_what_was_expected_are_named(
    manifest: Manifest, fields: dict[str, Any], said: str
) -> None:
    found = differs(of(manifest), of(manifest, **fields))
    assert said in found
    assert "None" not in found


def test_other_colours_are_other_inputs(manifest: Manifest) -> None:
    assert "RGB" in differs(of(manifest, color_order="BGR"), of(manifest, color_order="RGB"))


def test_other_labels_are_listed(manifest: Manifest) -> None:
    other = manifest.model_copy(update={"labels": ("cat", "dog", "wolf")})
    assert differs(manifest, other) == "it has other labels: cat, dog, wolf, expected cat, dog, fox"
    assert differs(manifest, manifest) == ""
