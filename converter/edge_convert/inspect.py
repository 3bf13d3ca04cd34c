"""What is in a model and what would become of it on a profile; nothing is converted or written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_contracts.profile import DeviceProfile
from edge_convert import candidates, costs, edgetpu
from edge_convert.emitters.tflite_rules import INT8_KERNELS
from edge_convert.graph import Array, Graph
from edge_convert.parts import NPU_NOT_COMPILED, operator_rows
from edge_convert.quantize import choose, rules_for
from edge_convert.source import Source
from edge_convert.statistics import collect

_PROBE_SAMPLES = 4  # made-up inputs: enough to write a file whose operators can be looked at


@dataclass(frozen=True)
class Tensor:
    """An input or output as the source has it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    layout: str


@dataclass(frozen=True)
class Contents:
    """What a model is made of.

    Args:
        operators: Count and multiply-accumulates by operator of the float graph, the costliest first.
    """

    name: str
    digest: str
    bytes: int
    format: str
    hybrid: bool
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    operators: Mapping[str, tuple[int, int]]
    parameters: int
    macs: int


@dataclass(frozen=True)
class Fit:
    """What a profile would make of a model.

    Args:
        fits: Whether an artifact could be installed there.
        reasons: Sentences for people, the decisive ones first.
        operators: Row by row where a static check of the accelerator was possible.
        predicted_ms: By precision, from the profile's sustained rate: a prediction, no measurement.
    """

    profile: str
    title: str
    fits: bool
    reasons: tuple[str, ...]
    operators: tuple[Mapping[str, Any], ...]
    predicted_ms: Mapping[str, float]


def contents(source: Source) -> Contents:
    """Count what is in a model."""
    graph = source.graph
    counts = Counter(node.op.value for node in graph.nodes)
    work: Counter[str] = Counter()
    for node in graph.nodes:
        work[node.op.value] += costs.macs_of(graph, node)
    order = sorted(counts, key=lambda op: (-work[op], -counts[op], op))
    return Contents(
        source.name,
        source.digest,
        source.size,
        source.format,
        source.hybrid,
        tuple(Tensor(p.name, p.shape, graph.tensor(p.tensor).dtype, p.layout) for p in graph.inputs),
        tuple(Tensor(p.name, p.shape, graph.tensor(p.tensor).dtype, p.layout) for p in graph.outputs),
        {op: (counts[op], work[op]) for op in order},
        graph.parameters(),
        costs.macs(graph),
    )


def fit(graph: Graph, profile: DeviceProfile) -> Fit:
    """Judge by sizes and operators alone; a build judges by measuring."""
    precision = profile.precisions[0]
    width = {"int8": 1, "float16": 2, "float32": 4}[precision]
    size = graph.parameters() * width
    running = size + costs.peak_activation_bytes(graph, width)
    reasons = []
    fits = size <= profile.artifact_bytes and running <= profile.memory_bytes
    reasons.append(f"about {size} bytes of weights in {precision}, {profile.artifact_bytes} allowed")
    reasons.append(f"about {running} bytes with activations, {profile.memory_bytes} allowed")
    rows: tuple[Mapping[str, Any], ...] = ()
    kind = profile.accelerator.kind if profile.accelerator else ""
    if profile.accelerator is not None and kind == "edge-tpu":
        report = edgetpu.check(_probe(graph, profile), profile.accelerator.memory_bytes)
        least = profile.accelerator.min_mapped_share
        fits = fits and report.mapped_share >= least
        reasons.insert(
            0, f"{report.mapped_share:.0%} of the operators map onto the Edge TPU, {least:.0%} asked for"
        )
        rows = operator_rows(report)
    elif profile.target == "tflite" and precision == "int8":
        in_float = Counter(node.op.value for node in graph.nodes if node.op not in INT8_KERNELS)
        if in_float:
            named = ", ".join(f"{op} ({count})" for op, count in sorted(in_float.items()))
            reasons.append(f"stay in float, for want of an int8 kernel: {named}")
        else:
            reasons.append("every operator has an int8 kernel")
    if kind == "intel-npu":
        reasons.append(NPU_NOT_COMPILED)
    work = costs.macs(graph)
    predicted = {
        str(name): 1000 * work / rate for name, rate in sorted(profile.macs_per_second.items()) if rate > 0
    }
    return Fit(profile.name, profile.title, fits, tuple(reasons), rows, predicted)


def _probe(graph: Graph, profile: DeviceProfile) -> bytes:
    """An int8 file of the model on made-up inputs: its operators are right, its ranges are not."""
    random = np.random.RandomState(0)
    feeds: dict[str, Array] = {}
    for port in graph.inputs:
        dtype = graph.tensor(port.tensor).dtype
        shape = (_PROBE_SAMPLES, *port.shape[1:])
        feeds[port.name] = (
            random.standard_normal(shape).astype(np.float32)
            if dtype == "float32"
            else np.zeros(shape, np.dtype(dtype))
        )
    recipe = candidates.recipes_for("int8")[0]
    quantization = choose(graph, collect(graph, feeds), recipe, rules_for(profile))
    made = candidates.written(graph, profile.target, recipe, quantization)
    return made.files[".tflite"]
