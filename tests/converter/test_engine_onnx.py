"""Sources that OpenVINO does not open run in ONNX's own reference implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_models import Network, floats, ints, onnx_run, openvino_run, saved

from edge_convert.engine import OpenVinoEngine
from edge_convert.engine_onnx import OnnxReferenceEngine
from edge_convert.errors import SourceInvalid
from edge_convert.source import read_source


def network(folder: Path) -> Path:
    net = Network({"x": ["n", 4], "state": ["n", 4]})
    return saved(net.model(net.node("Tanh", net.node("Add", "x", "state"))), folder)


def branch_of_other_rank(folder: Path) -> Path:
    """A graph as exporters write it: one branch gives a rank that the other, never taken, does not."""
    sides = [
        helper.make_graph(
            [helper.make_node("Squeeze" if squeezes else "Identity", ["y"], ["result"])],
            "side", [], [helper.make_tensor_value_info("result", onnx.TensorProto.FLOAT, None)],
        )
        for squeezes in (True, False)
    ]  # fmt: skip
    net = Network({"x": ["n", 4]})
    net.nodes.append(helper.make_node("Unsqueeze", ["x", net.weight(ints(2))], ["y"]))
    size = net.node("Gather", net.node("Shape", "y"), net.weight(ints(2)[0]))
    one = net.node("Equal", size, net.weight(ints(1)[0]))
    return saved(net.model(net.node("If", one, then_branch=sides[0], else_branch=sides[1])), folder)


def test_it_gives_what_openvino_gives(tmp_path: Path) -> None:
    path = network(tmp_path)
    shapes = {"x": (1, 4), "state": (1, 4)}
    engine = OnnxReferenceEngine(path.read_bytes(), shapes)
    assert [(port.name, port.shape, port.dtype) for port in engine.inputs] == [
        ("x", (1, 4), "float32"),
        ("state", (1, 4), "float32"),
    ]
    feeds = {"x": floats(1, 4), "state": floats(1, 4, seed=1)}
    (got,) = engine.infer(feeds).values()
    np.testing.assert_allclose(got, openvino_run(path, feeds)[0], atol=1e-6)
    engine.repeat(feeds)()


def test_a_source_that_openvino_refuses_opens_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = branch_of_other_rank(tmp_path)
    source = read_source(path)
    x = floats(3, 4)

    def refuses(*arguments: object, **named: object) -> None:
        raise SourceInvalid("OpenVINO cannot open the model: If-13")

    monkeypatch.setattr(OpenVinoEngine, "__init__", refuses)
    own = source.open()
    assert own.engine.runtime == OnnxReferenceEngine.runtime
    (got,) = own.run({"x": x}).values()
    np.testing.assert_array_equal(got, np.stack([onnx_run(path, {"x": row[None]})[0] for row in x]))


def test_what_neither_runs_is_refused_in_openvinos_words(tmp_path: Path) -> None:
    node = helper.make_node("Unheard", ["x"], ["y"], domain="nobody")
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 4])
    out = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "test", [value], [out])
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("nobody", 1)], ir_version=8
    )
    with pytest.raises(SourceInvalid, match="ONNX's reference implementation cannot open the model"):
        OnnxReferenceEngine(model.SerializeToString(), {"x": (1, 4)})
    source = read_source(network(tmp_path))
    broken = type(source)(**{**vars(source), "content": model.SerializeToString()})
    with pytest.raises(SourceInvalid, match="OpenVINO cannot open the model"):
        broken.open()
