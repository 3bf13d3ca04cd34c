"""Damaged model files: read, or refused by an error of ours on one line, and never a large allocation.

The long run, in children with a limit of memory and time, is benchmarks/fuzz_importers.py.
"""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper
from onnx_models import Network, floats, ints, saved
from small_nets import integer_file

from edge_convert.emitters.tflite import emit
from edge_convert.errors import ConvertError, UnsupportedFeature
from edge_convert.importers import load
from edge_convert.passes import simplify
from edge_convert.source import read_source

MOST_BYTES = 300_000_000  # of Python's allocations; the files have a few kilobytes
FEW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


def network(folder: Path) -> Path:
    net = Network({"x": ["n", 3, 8, 8]})
    y = net.node("Relu", net.conv("x", 3, 4))
    y = net.node("Resize", y, "", net.weight(np.asarray([1, 1, 2, 2], np.float32)), mode="linear")
    y = net.node("Pad", y, net.weight(ints(0, 0, 1, 1, 0, 0, 1, 1)))
    shape = net.node("Concat", net.weight(ints(1)), net.weight(ints(-1)), axis=0)
    return saved(net.model(net.node("Softmax", net.node("Reshape", y, shape))), folder)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("sound")
    path = network(folder)
    integers, _ = integer_file(folder)
    return {
        "onnx": path.read_bytes(),
        "float": emit(simplify(load(path))),
        "int8": integers.read_bytes(),
    }


def read_or_refused(content: bytes, folder: Path, suffix: str) -> None:
    path = folder / f"damaged{suffix}"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        read_source(path)
    except ConvertError as error:
        assert str(error) and "\n" not in str(error)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < MOST_BYTES


@pytest.mark.parametrize("kind", ["onnx", "float", "int8"])
def test_the_files_that_are_damaged_are_sound(kind: str, files: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / ("m.onnx" if kind == "onnx" else "m.tflite")
    path.write_bytes(files[kind])
    assert read_source(path).graph.nodes


@pytest.mark.parametrize("kind", ["onnx", "float", "int8"])
@FEW
@given(damage=st.data())
def test_damage_is_refused_or_does_no_harm(
    kind: str, damage: st.DataObject, files: dict[str, bytes], tmp_path: Path
) -> None:
    data = bytearray(files[kind])
    for place, value in damage.draw(
        st.lists(st.tuples(st.integers(0, len(data) - 1), st.binary(min_size=1, max_size=4)), max_size=4)
    ):
        data[place : place + len(value)] = value
    end = damage.draw(st.one_of(st.none(), st.integers(0, len(data))))
    read_or_refused(bytes(data[:end]), tmp_path, ".onnx" if kind == "onnx" else ".tflite")


HUGE = 2**40


def resized(net: Network) -> str:
    sizes = net.weight(ints(1, 3, HUGE, HUGE))
    y: str = net.node("Resize", "x", "", "", sizes, mode="nearest")
    return y


def padded(net: Network) -> str:
    y: str = net.node("Pad", "x", net.weight(ints(0, 0, HUGE, 0, 0, 0, 0, 0)), mode="edge")
    return y


def filled(net: Network) -> str:
    y: str = net.node("Add", "x", net.node("ConstantOfShape", net.weight(ints(HUGE, HUGE))))
    return y


def counted(net: Network) -> str:
    numbers = [net.weight(ints(v)[0]) for v in (0, HUGE, 1)]
    y: str = net.node("Gather", "x", net.node("Range", *numbers), axis=1)
    return y


def spread(net: Network) -> str:
    column, row = net.weight(floats(20_000, 1)), net.weight(floats(1, 20_000))
    y: str = net.node("Add", "x", net.node("Mul", column, row))
    return y


def dilated(net: Network) -> str:
    y: str = net.node("ConvTranspose", "x", net.weight(floats(3, 2, 3, 3)), dilations=[2**20, 2**20])
    return y


def stretched(net: Network) -> str:
    y: str = net.node("Expand", "x", net.weight(ints(HUGE, 3, 8, 8)))
    return y


@pytest.mark.parametrize("made", [resized, padded, filled, counted, spread, dilated, stretched])
def test_absurd_sizes_are_refused_before_they_are_allocated(made: Any, tmp_path: Path) -> None:
    net = Network({"x": ["n", 3, 8, 8]})
    path = saved(net.model(made(net)), tmp_path)
    tracemalloc.start()
    try:
        with pytest.raises(UnsupportedFeature, match=r"[a-z]+\d+"):  # the node is named
            load(path)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_an_input_of_absurd_size_is_refused(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, HUGE])
    out = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "test", [value], [out])
    path = saved(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path
    )
    with pytest.raises(UnsupportedFeature, match=r"input 'x' has shape .* too large"):
        load(path)
