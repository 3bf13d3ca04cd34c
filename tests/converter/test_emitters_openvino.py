"""OpenVINO files: every operator against the numpy reference, and int8 that really runs as int8."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from small_nets import Net, picture_net, pictures, real_model, real_samples
from tflite_cases import CASES, Case, feeds_of, graph_of

from edge_contracts.profile import load_profile
from edge_convert import recipe, reference
from edge_convert.emitters.openvino import emit
from edge_convert.graph import Array, Graph, Node, Op, Port, Tensor
from edge_convert.measures import score
from edge_convert.quantizing import simulate
from edge_convert.quantizing.quantization import Quantization
from edge_convert.quantizing.quantize import rules_for
from edge_convert.quantizing.quantizer import Quantizer
from edge_convert.validity import validate

CORE = openvino.Core()
NPU = rules_for(load_profile("intel-npu"))


def compiled(xml: bytes, weights: bytes) -> Any:
    model = CORE.read_model(xml, weights)
    return CORE.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})


def answers(artifact: tuple[bytes, bytes], x: Array) -> Array:
    network = compiled(*artifact)
    return np.concatenate([np.array(network([sample[None]])[0]) for sample in x])


def behind_a_pool(graph: Graph) -> Graph:
    """The same with a pool of one pixel in front, so that the operator finds its input in NCHW."""
    source = graph.inputs[0].tensor
    shape = graph.tensor(source).shape
    assert graph.tensor(source).dtype == "float32"
    front = Node(
        Op.MAX_POOL2D,
        "front",
        ("fed",),
        (source,),
        {"kernel": (1, 1), "strides": (1, 1), "pads": (0, 0, 0, 0)},
    )
    tensors = dict(graph.tensors) | {"fed": Tensor("fed", shape)}
    inputs = (Port(graph.inputs[0].name, "fed", shape), *graph.inputs[1:])
    return validate(Graph("case", inputs, graph.outputs, (front, *graph.nodes), tensors))


def is_image(case: Case) -> bool:
    return bool(case.shapes) and len(case.shapes[0]) == 4 and case.shapes[0][0] == 1


def check(graph: Graph, feeds: list[Array]) -> None:
    wanted = reference.run(graph, dict(zip((p.name for p in graph.inputs), feeds, strict=True)))["y"]
    found = compiled(*emit(graph))(feeds)[0]
    assert found.shape == wanted.shape and found.dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_every_operator_gives_what_the_reference_gives(case: Case) -> None:
    rng = np.random.default_rng(5)
    check(graph_of(case, rng), feeds_of(case, rng))


@pytest.mark.parametrize("case", [c for c in CASES if is_image(c) and not c.flags], ids=lambda c: c.id)
def test_every_operator_gives_the_same_in_the_middle_of_a_chain(case: Case) -> None:
    rng = np.random.default_rng(6)
    check(behind_a_pool(graph_of(case, rng)), feeds_of(case, rng))


def test_names_and_layout_at_the_rim_are_the_graphs() -> None:
    network = compiled(*emit(picture_net()))
    assert network.input(0).get_names() == {"x"} and list(network.input(0).get_shape()) == [1, 12, 12, 3]
    assert network.output(0).get_names() == {"logits:0"}


def test_a_chain_of_image_operators_is_transposed_once() -> None:
    xml, _ = emit(picture_net())
    assert xml.count(b'type="Transpose"') == 1  # the input; after the mean a reshape is enough


def test_padding_is_written_as_numbers_and_shapes_are_static() -> None:
    xml, _ = emit(picture_net())
    assert b"same_" not in xml.lower() and b"<dim>-1</dim>" not in xml
    assert xml.count(b'auto_pad="explicit"') == 4


def quantized(graph: Graph, x: Array, name: str = "wi8_ai8_minmax_bc") -> Quantization:
    feeds = {graph.inputs[0].name: x}
    return Quantizer(graph, feeds).quantize(recipe.load(name), NPU)


def test_int8_convolutions_run_as_int8_on_the_cpu() -> None:
    graph = picture_net()
    network = compiled(*emit(graph, quantized(graph, pictures(32))))
    ran = Counter(
        (info["layerType"].astype(str), info["runtimePrecision"].astype(str))
        for info in (op.get_rt_info() for op in network.get_runtime_model().get_ordered_ops())
    )
    convolutions = {precision: n for (kind, precision), n in ran.items() if kind == "Convolution"}
    assert convolutions and set(convolutions) <= {"u8", "i8"}


def test_int8_weights_take_a_quarter_of_the_bytes() -> None:
    net = Net({"x": (1, 12, 12, 3)})
    graph = net.graph(net.conv(net.conv("x", 64, 3), 64, 3))
    exact, small = emit(graph)[1], emit(graph, quantized(graph, pictures(8)))[1]
    assert len(small) < 0.3 * len(exact)


def test_int8_answers_are_those_of_the_simulation() -> None:
    graph, x = picture_net(), pictures(24, seed=3)
    result = quantized(graph, pictures(32))
    simulated = simulate.evaluate(graph, result, {"x": x}, {"logits:0"})["logits:0"]
    ratio = score.sqnr_db(simulated, answers(emit(graph, result), x))
    assert ratio is None or ratio > 35.0


def test_float16_weights_take_half_the_bytes_and_stay_near() -> None:
    net = Net({"x": (1, 12, 12, 3)})
    graph = net.graph(net.conv(net.conv("x", 32, 3), 32, 3))
    x = pictures(4)
    exact, half = emit(graph), emit(graph, weights="float16")
    assert len(half[1]) < 0.55 * len(exact[1])
    assert (score.sqnr_db(answers(exact, x), answers(half, x)) or 99.0) > 55.0


_IN_ANOTHER_PROCESS = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
from small_nets import picture_net, pictures
from edge_contracts.profile import load_profile
from edge_convert import recipe
from edge_convert.emitters.openvino import emit
from edge_convert.quantizing.quantize import rules_for
from edge_convert.quantizing.quantizer import Quantizer
from edge_convert.quantizing.statistics import collect
graph, feeds = picture_net(), {"x": pictures(32)}
rules = rules_for(load_profile("intel-npu"))
result = Quantizer(graph, feeds).quantize(recipe.load("wi8_ai8_minmax_bc"), rules)
print(hashlib.sha256(b"".join(emit(graph, result))).hexdigest())
"""


def test_the_same_graph_gives_the_same_bytes_twice_and_in_another_process(tmp_path: Path) -> None:
    graph = picture_net()
    result = quantized(graph, pictures(32))
    first = emit(graph, result)
    assert emit(graph, result) == first
    support = Path(__file__).parents[1] / "support"
    command = [sys.executable, "-c", _IN_ANOTHER_PROCESS, str(support)]
    other = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert other.stdout.split()[-1] == hashlib.sha256(b"".join(first)).hexdigest()


def test_nothing_in_the_file_tells_the_version_that_wrote_it() -> None:
    xml, _ = emit(picture_net())
    assert openvino.__version__.split("-")[0].encode() not in xml


_LISTENING = """
import sys
seen = []
sys.addaudithook(lambda event, args: seen.append(event) if event.startswith("socket.") else None)
sys.path.insert(0, sys.argv[1])
from small_nets import picture_net
from edge_convert.emitters.openvino import emit
emit(picture_net())
print([event for event in seen if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto")])
"""


def test_writing_a_model_opens_no_connection() -> None:
    support = Path(__file__).parents[1] / "support"
    command = [sys.executable, "-c", _LISTENING, str(support)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[-2] == "[]"


@pytest.mark.parametrize("key", ["kws", "ic", "vww", "ad"])
def test_real_models_answer_as_openvino_does_from_the_source(shared_data: Path, key: str) -> None:
    graph = real_model(shared_data, key)
    x = real_samples(shared_data, key, "evaluation", 4)
    source = {
        "kws": "kws_dscnn",
        "ic": "ic_resnet8",
        "vww": "vww_mobilenetv1",
        "ad": "ad_autoencoder",
    }[key]
    theirs = CORE.read_model(shared_data / "models" / f"{source}_float32.tflite")
    theirs.reshape([1, *x.shape[1:]])
    network = CORE.compile_model(theirs, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    wanted = np.concatenate([np.array(network([sample[None]])[0]) for sample in x])
    found = answers(emit(graph), x)
    np.testing.assert_allclose(found, wanted, atol=1e-4 * max(1.0, float(np.abs(wanted).max())))


@pytest.mark.parametrize(("key", "least_db"), [("kws", 29.0), ("vww", 29.0), ("ic", 20.0)])
def test_real_models_in_int8_lose_little(shared_data: Path, key: str, least_db: float) -> None:
    graph = real_model(shared_data, key)
    result = quantized(graph, real_samples(shared_data, key, "calibration", 120), "wi8_ai8_mse_bc")
    unseen = real_samples(shared_data, key, "evaluation", 60)
    exact = reference.run(graph, {graph.inputs[0].name: unseen})[graph.outputs[0].name]
    assert (score.sqnr_db(exact, answers(emit(graph, result), unseen)) or 99.0) >= least_db
