"""The rows of a fit: every operator of what was written, where it runs there, and the rule that says so.

One function for each kind of place: LiteRT on a CPU, the Edge TPU, OpenVINO on a CPU or an Intel NPU.
`of_candidate` finds the right one for a profile.
"""

from __future__ import annotations

from collections.abc import Mapping

from edge_contracts.profile import Accelerator, DeviceProfile
from edge_convert import costs
from edge_convert.candidates import Candidate
from edge_convert.device import edgetpu, npu_rules, planner
from edge_convert.device.edgetpu_rules import OPS, PARTITION
from edge_convert.device.fit import Fit, OnChip, Place, Row, judge
from edge_convert.device.tflite_costs import macs_of, parameter_bytes_of
from edge_convert.emitters.tflite_rules import has_int8_form
from edge_convert.graph import Graph, Node
from edge_convert.importers.tflite_file import ModelFile, OperatorRecord, parse
from edge_convert.quantizing.quantization import Quantization

LITERT = "ai.google.dev/edge/litert/models/ops_compatibility"
QUANTIZED = "ai.google.dev/edge/litert/models/quantization_spec"
OPENVINO_CPU = "docs.openvino.ai/2025/documentation/compatibility-and-support/supported-devices.html"
CUSTOM = "google-coral/edgetpu: a custom operator runs only where its own library is loaded"
_INTEGERS = {"INT8", "UINT8", "INT16"}
_BYTES = {"int8": 1, "float16": 2, "float32": 4}


def of_candidate(graph: Graph, candidate: Candidate, profile: DeviceProfile) -> Fit:
    """How what was written from a graph fits a profile."""
    if candidate.format == "tflite":
        return of_tflite(candidate.files[".tflite"], profile)
    return of_openvino(graph, candidate.quantization, candidate.recipe.precision, candidate.files, profile)


def of_tflite(content: bytes, profile: DeviceProfile) -> Fit:
    """How a TensorFlow Lite file fits.

    Raises:
        SourceInvalid: The bytes are no such file.
    """
    file = parse(content)
    activations = planner.plan(planner.usages_of_file(file)).arena_bytes
    parameters = _parameters(file)
    accelerator = profile.accelerator
    if accelerator is None or accelerator.kind != "edge-tpu":
        rows = [_on_cpu(file, operator) for operator in file.operators]
        return judge(profile, rows, parameters, activations, len(content), reasons=_in_float(rows))
    report = edgetpu.check(content)
    rows = [
        _on_edge_tpu(file, operator, verdict, report)
        for operator, verdict in zip(file.operators, report.operators, strict=True)
    ]
    blocked = [f"the compiler cannot read the file: {line}" for line in report.refused]
    if profile.integer_io and not (report.integer_inputs and report.integer_outputs):
        blocked.append("an input or output is not int8; the profile asks for int8 in and out")
    on_chip = _on_chip(accelerator, rows, report)
    return judge(profile, rows, parameters, activations, len(content), on_chip, blocked=blocked)


def of_openvino(
    graph: Graph,
    quantization: Quantization | None,
    precision: str,
    files: Mapping[str, bytes],
    profile: DeviceProfile,
) -> Fit:
    """How an OpenVINO model written from a graph fits."""
    npu = profile.accelerator is not None and profile.accelerator.kind == "intel-npu"
    rows = [_openvino_row(graph, node, quantization, precision, npu) for node in graph.nodes]
    width = _BYTES[precision]
    activations = planner.plan(planner.usages_of_graph(graph, width)).arena_bytes
    size = sum(len(content) for content in files.values())
    return judge(profile, rows, graph.parameters(), activations, size)


def _on_cpu(file: ModelFile, operator: OperatorRecord) -> Row:
    precision = _precision(file, operator)
    place, rule, source = Place.CPU, "LiteRT's float kernel", LITERT
    if operator.custom == edgetpu.CUSTOM_OPERATOR:
        place, rule, source = Place.NOWHERE, "compiled for the Edge TPU, a CPU cannot run it", CUSTOM
    elif operator.custom:
        place, rule, source = Place.NOWHERE, f"{operator.custom} is a custom operator", CUSTOM
    elif precision.startswith(("int", "uint")):
        rule, source = f"LiteRT's {precision} kernel", QUANTIZED
    return Row(
        operator.label,
        place,
        rule,
        source,
        precision,
        parameter_bytes_of(file, operator),
        macs_of(file, operator),
    )


def _on_edge_tpu(
    file: ModelFile,
    operator: OperatorRecord,
    verdict: edgetpu.OperatorVerdict,
    report: edgetpu.EdgeTpuReport,
) -> Row:
    rule, source = verdict.note or "among the supported operators, within their limits", OPS
    place = Place.ACCELERATOR
    if operator.custom == edgetpu.CUSTOM_OPERATOR:
        rule, source = "compiled for it already", PARTITION
    elif report.refused and verdict.reason is None:
        place, rule, source = Place.CPU, "the compiler cannot read the file it is in", PARTITION
    elif verdict.reason is not None:
        place = Place.NOWHERE if operator.custom else Place.CPU
        rule, source = verdict.reason.text, verdict.reason.source
    return Row(
        operator.label,
        place,
        rule,
        source,
        _precision(file, operator),
        parameter_bytes_of(file, operator),
        macs_of(file, operator),
    )


def _on_chip(accelerator: Accelerator, rows: list[Row], report: edgetpu.EdgeTpuReport) -> OnChip | None:
    if accelerator.memory_bytes is None:
        return None
    needed = sum(row.parameter_bytes for row in rows if row.place is Place.ACCELERATOR)
    kept = min(needed, accelerator.memory_bytes)
    alone = [verdict.alone and not report.refused for verdict in report.operators]
    stretches = sum(able and not (i and alone[i - 1]) for i, able in enumerate(alone))
    return OnChip(
        needed,
        accelerator.memory_bytes,
        kept,
        needed - kept,
        int(any(row.place is Place.ACCELERATOR for row in rows)),
        stretches,
    )


def _openvino_row(
    graph: Graph, node: Node, quantization: Quantization | None, precision: str, npu: bool
) -> Row:
    in_int8 = precision == "int8" and (quantization is None or node.name not in quantization.float_nodes)
    in_int8 = in_int8 and has_int8_form(graph, node)
    found = "int8" if in_int8 else ("float16" if npu else "float32")
    place, rule, source = Place.CPU, "OpenVINO's CPU device", OPENVINO_CPU
    if npu:
        place, rule, source = npu_rules.verdict(graph, node)
    stored = [graph.tensor(name) for name in node.inputs if graph.tensor(name).is_constant]
    width = 1 if in_int8 else _BYTES["float16" if precision != "float32" else "float32"]
    return Row(
        f"{node.op} {node.name}",
        place,
        rule,
        source,
        found,
        sum(t.size * (width if t.dtype == "float32" else 8 if t.dtype == "int64" else 4) for t in stored),
        costs.macs_of(graph, node),
    )


def _precision(file: ModelFile, operator: OperatorRecord) -> str:
    """Of the first computed result, as people write it."""
    for index in (*operator.outputs, *operator.inputs):
        if index >= 0:
            return file.tensors[index].type.lower()
    return ""


def _parameters(file: ModelFile) -> int:
    """Numbers in the constants that are weights and biases of operators that multiply."""
    read = {
        index
        for operator in file.operators
        for index in operator.inputs
        if index >= 0
        and file.tensors[index].raw is not None
        and file.tensors[index].type not in ("INT64", "BOOL")
    }
    shapes = (file.tensors[index] for index in read)
    return sum(
        _elements(tensor.shape) for tensor in shapes if tensor.quantization or tensor.type.startswith("FLOAT")
    )


def _elements(shape: tuple[int, ...]) -> int:
    count = 1
    for dimension in shape:
        count *= max(dimension, 1)
    return count


def _in_float(rows: list[Row]) -> list[str]:
    """What stays in float in a file that has integers."""
    integers = [row for row in rows if row.precision in {name.lower() for name in _INTEGERS}]
    floats = sorted(
        {row.operator.split(" #")[0] for row in rows if row.precision == "float32"} - {"DEQUANTIZE"}
    )
    if not integers:
        return []
    return [f"stay in float: {', '.join(floats)}"] if floats else ["every operator runs on integers"]
