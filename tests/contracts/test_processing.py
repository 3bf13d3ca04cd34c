"""Rules of the tensor contract: which fit their tensors, which are refused, and old manifests without any."""

from __future__ import annotations

from typing import Any

import agent_bundles
import input_bundles
import pytest

from edge_contracts.bundle import open_bundle
from edge_contracts.faults import ValidationError
from edge_contracts.manifest import FORMAT, Manifest, TensorSpec
from edge_contracts.model import canonical_json, parse_json
from edge_contracts.processing import Anchors, Checks, Picture, Processing

RGB = {"shape": (1, 8, 8, 3), "layout": "NHWC", "color_order": "RGB"}
PICTURE = {"kind": "picture", "resample": "pillow-bilinear"}


def fault(inputs: dict[str, Any], **more: Any) -> str:
    with pytest.raises(ValidationError) as error:
        input_bundles.manifest(inputs, **more)
    return str(error.value)


def test_a_manifest_without_rules_keeps_its_bytes_and_its_name() -> None:
    manifest = open_bundle(agent_bundles.build()).manifest
    written = canonical_json(manifest)
    assert not any(word in written for word in (b"prepare", b"checks", b"interpret"))


def test_a_manifest_with_rules_comes_back_from_its_json() -> None:
    rules = {"prepare": PICTURE | {"mean": [1, 2, 3]}, "checks": {"constant": "refuse", "stuck_after": 5}}
    manifest = input_bundles.manifest(RGB | rules, interpret={"kind": "classes", "activation": "softmax"})
    again = parse_json(Manifest, canonical_json(manifest), "manifest.json", FORMAT)
    assert again == manifest
    assert isinstance(again.inputs[0].prepare, Picture)
    assert again.inputs[0].checks == Checks(constant="refuse", stuck_after=5)


@pytest.mark.parametrize(
    ("tensor", "rule", "told"),
    [
        (RGB | {"layout": ""}, {}, "needs a layout"),
        (RGB | {"color_order": ""}, {}, "needs a colour order"),
        (RGB | {"shape": (1, 8, 8, 4)}, {}, "1 or 3 channels, the tensor 4"),
        (RGB | {"shape": (1, 3)}, {}, "needs a layout"),
        (RGB | {"shape": (1, 8, 8, 1)}, {"mean": (1, 2, 3)}, "3 numbers, the tensor 1 channel"),
        (RGB | {"dtype": "int8"}, {}, "pixels become 0 to 255, which int8 cannot hold"),
        (RGB | {"dtype": "bool"}, {}, "cannot become bool"),
        (RGB, {"fit": "crop", "shorter_side": 7}, "leaves less than 8 x 8"),
        (RGB, {"fit": "crop"}, "needs it"),
        (RGB, {"shorter_side": 9}, "goes with"),
        (RGB, {"mean": (1, 2)}, "expected 1 or 3"),
        (RGB, {"resample": "bilinear"}, "pillow-bilinear"),
    ],
)
def test_a_picture_that_cannot_fill_its_tensor_is_refused(
    tensor: dict[str, Any], rule: dict[str, Any], told: str
) -> None:
    assert told in fault(tensor | {"prepare": PICTURE | rule})


def test_the_span_of_a_picture_is_that_of_black_and_white() -> None:
    rule = Picture.model_validate(PICTURE | {"divisor": 255, "mean": (0, 0.5, 1), "std": (1, 0.5, 2)})
    assert rule.span() == (-1.0, 1.0)


def test_sound_and_tables_must_fill_the_tensor() -> None:
    sound = {"kind": "sound", "sample_rate_hz": 8000}
    assert "one row of numbers" in fault({"shape": (1, 2, 3), "prepare": sound})
    assert "sound becomes float32" in fault({"shape": (1, 6), "dtype": "int8", "prepare": sound})
    one = {"kind": "number", "name": "a"}
    table = {"kind": "table", "columns": [one, {"name": "b", "kind": "category", "values": ["x", "y"]}]}
    assert "the columns make 3 numbers, the tensor holds 2" in fault({"shape": (1, 2), "prepare": table})
    assert "same name" in fault({"shape": (1, 2), "prepare": table | {"columns": [one, one]}})
    assert "above high" in fault(
        {"shape": (1, 1), "prepare": table | {"columns": [one | {"low": 2, "high": 1}]}}
    )


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"kind": "detections", "boxes": "b"}, "there are 'boxes', 'scores'"),
        ({"kind": "detections", "boxes": "boxes"}, "expected (1, k, 6)"),
        ({"kind": "detections", "boxes": "boxes", "scores": "scores"}, "go together"),
        ({"kind": "candidates", "output": "scores", "unit": "share"}, "no class is left"),
        ({"kind": "candidates", "output": "boxes"}, "in pixels"),
        ({"kind": "grid"}, "grid"),
    ],
)
def test_an_interpretation_that_does_not_fit_the_outputs_is_refused(rule: dict[str, Any], told: str) -> None:
    outputs = (TensorSpec(name="boxes", shape=(1, 6, 4)), TensorSpec(name="scores", shape=(1, 6, 2)))
    with pytest.raises(ValidationError) as error:
        input_bundles.manifest({"shape": (1, 4)}, outputs, interpret=rule)
    assert told in str(error.value)


def test_anchors_are_counted_against_the_outputs() -> None:
    rule = {
        "kind": "anchors",
        "boxes": "boxes",
        "scores": "scores",
        "grids": [{"rows": 1, "columns": 3, "sizes": [(1, 1), (2, 2)]}],
        "scale": (1, 1, 1, 1),
    }
    for shape, fits in (((1, 6, 4), True), ((1, 5, 4), False), ((1, 6, 6), False)):
        outputs = (TensorSpec(name="boxes", shape=shape), TensorSpec(name="scores", shape=(1, 6, 2)))
        if fits:
            stated = input_bundles.manifest({"shape": (1, 4)}, outputs, interpret=rule).interpret
            assert isinstance(stated, Anchors)
        else:
            with pytest.raises(ValidationError, match="the anchors make"):
                input_bundles.manifest({"shape": (1, 4)}, outputs, interpret=rule)


def test_the_file_of_a_publisher_has_known_keys_only() -> None:
    Processing.model_validate({"inputs": {"x": {"prepare": PICTURE}}, "interpret": {"kind": "classes"}})
    with pytest.raises(ValidationError, match=r"unknown key .*resiz"):
        Processing.model_validate({"inputs": {"x": {"prepare": PICTURE | {"resiz": 3}}}})
