"""What is in a model and what would become of it on a profile; nothing is converted or written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edge_contracts.profile import DeviceProfile
from edge_convert import candidates, costs, taken
from edge_convert.candidates import Candidate
from edge_convert.device import fit_rows
from edge_convert.device.fit import Fit
from edge_convert.graph import Array, Graph
from edge_convert.quantizing.quantize import choose, rules_for
from edge_convert.quantizing.statistics import collect
from edge_convert.source import Source

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


def fit_source(source: Source, profile: DeviceProfile) -> Fit:
    """How what a build would make of a source fits: of one that is quantized already, the file itself."""
    if taken.applies(source, profile, "auto"):
        return fit_rows.of_tflite(source.content, profile)
    return fit(source.graph, profile)


def fit(graph: Graph, profile: DeviceProfile) -> Fit:
    """How a file of the model would fit in the profile's first precision; a build judges by measuring."""
    return fit_rows.of_candidate(graph, _probe(graph, profile), profile)


def _probe(graph: Graph, profile: DeviceProfile) -> Candidate:
    """A file of the model on made-up inputs: its operators are right, its ranges are not."""
    precision = profile.precisions[0]
    if precision != "int8":
        return candidates.float_form(graph, profile.target, precision)
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
    return candidates.written(graph, profile.target, recipe, quantization)
