"""The Edge TPU check against real files and the documents' rules, and how the compiler is run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from tflite_cases import CASES, feeds_of, graph_of, int8_cases, quantized

from edge_convert.device.edgetpu import (
    NOT_COMPILED,
    EdgeTpuReport,
    OperatorVerdict,
    check,
    compile_with_edgetpu_compiler,
)
from edge_convert.device.tflite_costs import parameter_bytes_of
from edge_convert.emitters.tflite import emit
from edge_convert.emitters.tflite_rules import BEYOND_EDGE_TPU
from edge_convert.emitters.tflite_writer import ModelWriter
from edge_convert.errors import ConvertError, SourceInvalid
from edge_convert.importers.tflite_file import parse
from edge_convert.quantizing.quantization import QuantParams

PARAMS = QuantParams(np.asarray(0.1, np.float32), np.asarray(3, np.int32))


def int8(case_id: str, per_channel: bool = True) -> bytes:
    case = next(c for c in CASES if c.id == case_id)
    rng = np.random.default_rng(8)
    graph = graph_of(case, rng)
    return emit(graph, quantized(graph, feeds_of(case, rng), per_channel))


def mapped_share(report: EdgeTpuReport) -> float:
    """Share of the operators that are mapped; 0 for a file that the compiler cannot read."""
    return 0.0 if report.refused else float(np.mean([o.mapped for o in report.operators]))


def first_unmapped(report: EdgeTpuReport) -> OperatorVerdict | None:
    return next((o for o in report.operators if not o.mapped), None)


def why_unmapped(report: EdgeTpuReport) -> str:
    found = first_unmapped(report)
    assert found is not None and found.reason is not None
    return found.reason.text


def _parameter_bytes(content: bytes) -> int:
    file = parse(content)
    return sum(parameter_bytes_of(file, operator) for operator in file.operators)


# --- the check ------------------------------------------------------------------------------------


def test_a_model_that_coral_publishes_is_mapped_whole(shared_data: Path) -> None:
    content = (shared_data / "coral" / "mobilenet_v1_0.25_128_quant.tflite").read_bytes()
    report = check(content)
    assert (mapped_share(report), first_unmapped(report)) == (1.0, None)
    assert len(report.operators) == 31
    assert report.integer_inputs and report.integer_outputs and not report.refused
    # MobileNetV1 0.25 has 470 thousand parameters
    assert 470_000 < _parameter_bytes(content) < 500_000


def test_its_compiled_twin_is_recognised(shared_data: Path) -> None:
    content = (shared_data / "coral" / "mobilenet_v1_0.25_128_quant_edgetpu.tflite").read_bytes()
    report = check(content)
    assert [o.code for o in report.operators] == ["edgetpu-custom-op"]


def test_a_custom_operator_is_not_mapped(shared_data: Path) -> None:
    report = check((shared_data / "coral" / "model_invoking_error.tflite").read_bytes())
    assert mapped_share(report) == 0
    assert "fake-op-double is not among" in why_unmapped(report)


def test_a_float_model_is_not_mapped_at_all(shared_data: Path) -> None:
    report = check((shared_data / "models" / "ic_resnet8_float32.tflite").read_bytes())
    assert mapped_share(report) == 0
    assert not report.integer_inputs and not report.integer_outputs


def test_a_dynamic_batch_is_not_mapped(shared_data: Path) -> None:
    report = check((shared_data / "models" / "ic_resnet8_int8_ref.tflite").read_bytes())
    assert "dynamic shape [-1, 32, 32, 3]" in why_unmapped(report)


@pytest.mark.parametrize(
    "case_id",
    [
        "conv2d same, no bias",
        "conv2d torch strided",
        "depthwise_conv2d multiplier",
        "transpose_conv2d 4x4, relu",
        "average_pool2d same",
        "max_pool2d padded, all positive",
        "add",
        "mean",
        "pad",
        "concat",
        "prelu",
        "resize_bilinear half pixel",
        "sigmoid",
        "slice",
        "softmax",
        "tanh",
    ],
)
def test_what_the_documents_list_is_mapped(case_id: str) -> None:
    report = check(int8(case_id))
    assert mapped_share(report) == 1.0, first_unmapped(report)
    assert not report.refused


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (int8("slice strided"), r"strides \[1, 2, 3, 1\]; only 1"),
        (int8("softmax three axes"), r"input has shape \[1, 3, 10\]; one dimension"),
        (int8("dense three axes", per_channel=False), r"output has shape \[1, 3, 5\]; one dimension"),
        (int8("dense"), "5 scales, one is supported"),
        (int8("concat constant"), "1 of 2 parts are constant"),
        (int8("add five axes"), r"shape \[1, 2, 3, 2, 2\]; only the innermost three"),
        (int8("leaky_relu"), "LEAKY_RELU is not among the supported operators"),
        (int8("max_pool2d padded, all negative"), "PADV2 is not among"),
        (int8("matmul"), "BATCH_MATMUL is not among"),
    ],
)
def test_what_the_documents_exclude_is_not_mapped(content: bytes, words: str) -> None:
    unmapped = first_unmapped(check(content))
    assert unmapped is not None and unmapped.reason is not None
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(unmapped.reason.text)


def test_a_dense_layer_with_one_scale_is_mapped() -> None:
    assert mapped_share(check(int8("dense", per_channel=False))) == 1.0


@pytest.mark.parametrize(
    ("case_id", "words"),
    [
        ("conv2d grouped", "CONV_2D #0: version 6, the compiler reads up to 5"),  # edgetpu issue 631
        ("exp", "EXP #0: version 2, the compiler reads up to 1"),  # libedgetpu issue 71
        ("tile", "TILE #0: version 3, the compiler reads up to 2"),
        ("gelu", "GELU #0: the compiler does not know it"),
    ],
)
def test_one_version_that_is_too_new_refuses_the_file(case_id: str, words: str) -> None:
    report = check(int8(case_id))
    assert any(line.startswith(words) for line in report.refused), report.refused
    assert mapped_share(report) == 0


def test_the_rules_name_every_int8_form_that_is_too_new() -> None:
    """Grouped convolutions (CONV_2D 6) and GELU are too new in float, too."""
    too_new = set()
    for case in int8_cases():
        graph = graph_of(case, np.random.default_rng(8))
        if check(int8(case.id)).refused and not check(emit(graph)).refused:
            too_new.add(case.op)
    assert too_new == BEYOND_EDGE_TPU


def chain(*codes: str, float_input: bool = False) -> bytes:
    """int8 operators one after the other."""
    writer = ModelWriter("test")
    if float_input:
        first = writer.tensor("x", (1, 8), "float32")
    else:
        first = writer.tensor("x", (1, 8), "int8", params=PARAMS)
    current = first
    for number, code in enumerate(codes):
        following = writer.tensor(f"t{number}", (1, 8), "int8", params=PARAMS)
        writer.operator(code, [current], [following])
        current = following
    return writer.finish([("x", first)], [("y", current)])


def test_what_follows_the_first_operator_on_the_cpu_stays_there() -> None:
    report = check(chain("RELU", "HARD_SWISH", "RELU6", "TANH"))
    assert [o.mapped for o in report.operators] == [True, False, False, False]
    assert mapped_share(report) == 0.25
    reasons = [o.reason.text for o in report.operators if o.reason]
    assert "HARD_SWISH is not among" in reasons[0]
    assert "HARD_SWISH #1" in reasons[1]
    assert "RELU6 #2" in reasons[2]


def test_a_quantize_at_a_float_input_does_not_keep_the_rest_off() -> None:
    report = check(chain("QUANTIZE", "RELU", "TANH", float_input=True))
    assert [o.mapped for o in report.operators] == [False, True, True]
    assert not report.integer_inputs and report.integer_outputs


def test_parameters_are_weights_of_one_byte_and_biases_of_four() -> None:
    assert _parameter_bytes(int8("dense", per_channel=False)) == 5 * 12 + 5 * 4


def test_a_concatenation_with_constant_zeros_is_mapped() -> None:
    def joined(value: int) -> bytes:
        writer = ModelWriter("test")
        x = writer.tensor("x", (1, 4), "int8", params=PARAMS)
        c = writer.tensor("c", (1, 4), "int8", np.full((1, 4), value, np.int8), PARAMS)
        y = writer.tensor("y", (1, 8), "int8", params=PARAMS)
        options = schema.ConcatenationOptionsT()
        options.axis = 1
        writer.operator("CONCATENATION", [x, c], [y], options)
        return writer.finish([("x", x)], [("y", y)])

    assert mapped_share(check(joined(3))) == 1.0  # 3 is the code of zero
    assert mapped_share(check(joined(0))) == 0.0


@pytest.mark.parametrize(
    ("shape", "axes", "mapped"),
    [
        ((1, 1, 5, 10), [0, 1], True),
        ((1, 5, 1, 10), [2], False),
        ((1, 5, 1, 10), [], False),
        ((1, 1, 1, 10), [], True),
        ((1, 5, 10), [-3], True),
    ],
)
def test_only_leading_ones_may_be_squeezed_away(
    shape: tuple[int, ...], axes: list[int], mapped: bool
) -> None:
    writer = ModelWriter("test")
    x = writer.tensor("x", shape, "int8", params=PARAMS)
    gone = {a % len(shape) for a in axes} or {i for i, d in enumerate(shape) if d == 1}
    y = writer.tensor("y", tuple(d for i, d in enumerate(shape) if i not in gone), "int8", params=PARAMS)
    options = schema.SqueezeOptionsT()
    options.squeezeDims = np.array(axes, np.int32)
    writer.operator("SQUEEZE", [x], [y], options)
    assert (mapped_share(check(writer.finish([("x", x)], [("y", y)]))) == 1.0) is mapped


def test_bytes_that_are_no_model_are_refused() -> None:
    with pytest.raises(SourceInvalid, match="not a TensorFlow Lite file"):
        check(b"x" * 100)


def test_damaged_bytes_are_refused_or_judged_but_never_crash() -> None:
    content = int8("dense", per_channel=False)
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        try:
            check(bytes(damaged))
        except ConvertError as error:
            assert "\n" not in str(error)


# --- the compiler -----------------------------------------------------------------------------------


def install(folder: Path, script: str) -> None:
    """A program of the compiler's name.

    The compiler is closed and cannot be had here, so what it computes is not tested: these scripts
    stand for it only to see what it is given and what becomes of its failures.
    """
    folder.mkdir(exist_ok=True)
    program = folder / "edgetpu_compiler"
    program.write_text("#!/bin/sh\n" + script)
    program.chmod(0o755)


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return folder


def test_without_the_compiler_there_is_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compile_with_edgetpu_compiler(b"model") is None
    assert NOT_COMPILED == "not compiled: edgetpu_compiler is not on PATH"


# The lines are those of compiler 15.0 in google-coral/edgetpu issue 358.
SPEAKING = """
echo "Edge TPU Compiler version 16.0.384591198"
echo "Total number of operations: 69"
{extra}
while [ "$1" != "-o" ]; do shift; done
cp "$3" "$2/model_edgetpu.tflite"
echo "ADD 3 Mapped to Edge TPU" > "$2/model_edgetpu.log"
"""


def test_the_compiler_gets_the_model_and_its_words_come_back(bin_folder: Path) -> None:
    install(bin_folder, SPEAKING.format(extra='echo "Number of operations that will run on Edge TPU: 40"'))
    result = compile_with_edgetpu_compiler(b"the model")
    assert result is not None
    assert result.artifact == b"the model"
    assert (result.version, result.operators, result.operators_mapped) == ("16.0.384591198", 69, 40)
    assert "ADD 3 Mapped to Edge TPU" in result.log


def test_a_compiler_that_maps_all_counts_only_the_total(bin_folder: Path) -> None:
    install(bin_folder, SPEAKING.format(extra=""))
    result = compile_with_edgetpu_compiler(b"the model")
    assert result is not None and result.operators_mapped == 69


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ('echo "Invalid model: model.tflite"; exit 1', "Invalid model.*exit code 1"),
        ("exit 0", ""),
        ("kill -SEGV $$", "exit code -11"),
        ("exec sleep 60", "no result within 0.5 s"),
    ],
    ids=["refuses", "writes nothing", "crashes", "hangs"],
)
def test_a_compiler_that_fails_gives_its_words_and_no_artifact(
    bin_folder: Path, script: str, words: str
) -> None:
    install(bin_folder, script)
    result = compile_with_edgetpu_compiler(b"the model", timeout_s=0.5)
    assert result is not None and result.artifact is None
    with pytest.raises(AssertionError, match=f"(?s){words}"):
        raise AssertionError(result.log)


def test_nothing_is_left_behind(bin_folder: Path, tmp_path: Path) -> None:
    install(bin_folder, "exit 1")
    compile_with_edgetpu_compiler(b"the model")
    assert [p.name for p in tmp_path.iterdir()] == ["bin"]


def test_a_program_that_cannot_be_started_is_reported(bin_folder: Path, tmp_path: Path) -> None:
    (bin_folder / "edgetpu_compiler").write_text("#!/nowhere/interpreter\n")
    (bin_folder / "edgetpu_compiler").chmod(0o755)
    result: Any = compile_with_edgetpu_compiler(b"the model")
    assert result.artifact is None and "could not be started" in result.log
