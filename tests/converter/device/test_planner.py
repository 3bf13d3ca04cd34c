"""The memory planner: worked by hand, and against the arena that LiteRT really makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from fit_files import int8_candidate
from small_nets import Net, picture_net, pictures

from edge_convert import candidates
from edge_convert.device.planner import Usage, plan, usages_of_file, usages_of_graph
from edge_convert.graph import Graph, Op
from edge_convert.importers.tflite_file import parse


def test_tensors_that_never_meet_share_their_place() -> None:
    made = plan([Usage("a", 64, 0, 1), Usage("b", 64, 1, 2), Usage("c", 64, 2, 3), Usage("d", 64, 3, 4)])
    assert made.offsets == {"a": 0, "b": 64, "c": 0, "d": 64}
    assert made.arena_bytes == 128


def test_the_smallest_gap_that_is_large_enough_is_taken() -> None:
    # "big" and "top" wall two gaps in: 128 bytes at 256, when "mid" is gone, and 64 at 0
    usages = [
        Usage("big", 256, 1, 3),
        Usage("top", 192, 1, 3),
        Usage("mid", 128, 0, 0),
        Usage("small", 64, 3, 3),
    ]
    made = plan(usages, alignment=1)
    assert made.offsets == {"big": 0, "top": 256, "mid": 0, "small": 448}
    assert made.arena_bytes == 512, "what is needed at time 3; less cannot be"


def test_a_gap_between_two_tensors_is_filled() -> None:
    # by size: a 100 at 0; b 80 at 100 meets a; c 60 meets b alone, and fits below it
    made = plan([Usage("a", 100, 0, 1), Usage("b", 80, 1, 2), Usage("c", 60, 2, 3)], alignment=1)
    assert made.offsets == {"a": 0, "b": 100, "c": 0}
    assert made.arena_bytes == 180


def test_offsets_are_aligned() -> None:
    made = plan([Usage("a", 65, 0, 1), Usage("b", 10, 0, 1)])
    assert made.offsets == {"a": 0, "b": 128}
    assert made.arena_bytes == 138


def test_a_plan_never_lets_two_tensors_that_meet_overlap() -> None:
    net = picture_net()
    usages = usages_of_graph(net, 4)
    made = plan(usages)
    for one in usages:
        for other in usages:
            if one.tensor < other.tensor and one.meets(other):
                a, b = made.offsets[one.tensor], made.offsets[other.tensor]
                assert a + one.bytes <= b or b + other.bytes <= a


def arena_of_litert(content: bytes) -> tuple[int, int]:
    """Bytes from the lowest to the highest end of the tensors that LiteRT has laid out, and how many."""
    interpreter: Any = Interpreter(
        model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_REF, num_threads=1
    )
    interpreter.allocate_tensors()
    spans = []
    file = parse(content)
    for index in {i for operator in file.operators for i in (*operator.inputs, *operator.outputs)}:
        if index < 0 or file.tensors[index].raw is not None:
            continue
        view = interpreter.tensor(index)()
        start = view.__array_interface__["data"][0]
        spans.append((start, start + view.nbytes))
    return max(end for _, end in spans) - min(start for start, _ in spans), len(spans)


def shortcut_net() -> Graph:
    """Two long shortcuts that cross: what is alive is no chain."""
    net = Net({"x": (1, 12, 12, 3)})
    a = net.conv("x", 8, 3)
    b = net.conv(a, 24, 1)
    c = net.conv(b, 8, 3)
    d = net.node(Op.ADD, [a, c], activation="relu")
    e = net.conv(d, 24, 1)
    return net.graph(net.node(Op.ADD, [b, e], activation="none"))


def late_reader_net() -> Graph:
    """A sum that may not lie over its first operand, which is read again, and a reshape that may."""
    net = Net({"x": (1, 12, 12, 3)})
    a = net.conv("x", 8, 3)
    b = net.conv(a, 8, 3)
    c = net.node(Op.MUL, [a, b], activation="none")
    d = net.node(Op.RESHAPE, [c], shape=(1, 18, 8, 8))
    e = net.node(Op.RESHAPE, [net.conv(d, 8, 3)], shape=(1, 12, 12, 8))
    f = net.node(Op.SUB, [e, a], activation="none")
    return net.graph(net.conv(net.node(Op.SOFTMAX, [f], beta=1.0), 4, 3))


@pytest.mark.parametrize("make", [picture_net, shortcut_net, late_reader_net])
@pytest.mark.parametrize("form", ["float32", "int8"])
def test_the_plan_takes_what_litert_takes(make: Any, form: str) -> None:
    graph = make()
    if form == "int8":
        content = int8_candidate(graph, "coral-tpu", {"x": pictures(4)}).files[".tflite"]
    else:
        content = candidates.float_form(graph, "tflite").files[".tflite"]
    bytes_there, tensors = arena_of_litert(content)
    assert tensors > 5
    assert plan(usages_of_file(parse(content))).arena_bytes == bytes_there


def test_the_plan_takes_what_litert_takes_for_real_models(shared_data: Path) -> None:
    models = [
        *(shared_data / "models").glob("*_int8_ref.tflite"),
        *(shared_data / "models").glob("*_float32.tflite"),
    ]
    assert len(models) >= 8
    for path in [*models, shared_data / "coral" / "mobilenet_v1_0.25_128_quant.tflite"]:
        content = path.read_bytes()
        assert plan(usages_of_file(parse(content))).arena_bytes == arena_of_litert(content)[0], path.name
