"""What a Keras configuration may not name, told without TensorFlow."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edge_convert.errors import SourceInvalid, UnsupportedFeature
from edge_convert.importers.keras_config import check


def model(**layer: Any) -> str:
    dense = {
        "module": "keras.layers",
        "class_name": "Dense",
        "config": {"name": "d"},
        "registered_name": None,
    }
    inner = {"config": {"layers": [dense | layer]}, "class_name": "Functional", "module": "keras.src.models"}
    return json.dumps({"class_name": "Sequential", "config": {"layers": [inner]}})


def test_kerass_own_layers_are_taken() -> None:
    check(model())
    check(model(module="builtins", class_name="function", config="softmax"))
    check(model(module=None, class_name="Dense"))  # .h5 files name no module


@pytest.mark.parametrize("kind", ["Lambda", "TorchModuleWrapper", "TFSMLayer", "__lambda__"])
def test_a_layer_that_carries_code_is_refused_at_any_depth(kind: str) -> None:
    with pytest.raises(UnsupportedFeature, match=f"layer 'd' is a {kind}"):
        check(model(class_name=kind))


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ({"module": "os", "class_name": "system"}, r"os\.system"),
        ({"module": "keras_evil", "class_name": "X"}, r"keras_evil\.X"),
        ({"registered_name": "ours>Mine", "class_name": "Mine"}, "ours>Mine"),
        ({"module": None, "class_name": "ours>Mine"}, "ours>Mine"),
    ],
)
def test_a_class_from_outside_is_refused_by_name(part: dict[str, Any], named: str) -> None:
    with pytest.raises(UnsupportedFeature, match=named):
        check(model(**part))


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_what_is_not_json_is_refused(text: bytes) -> None:
    with pytest.raises(SourceInvalid):
        check(text)
