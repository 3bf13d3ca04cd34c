"""Which tensors of a graph become integers, and with what parameters: statistics and a recipe in, a
`Quantization` out.

The pieces: `ranges.py` (one tensor's range and scale) and a target's `Rules` (what its kernels demand). What
is done about the errors afterwards, by biases and by rounding, is for `quantizer.py` to call. Nothing here
writes a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from edge_contracts.profile import DeviceProfile
from edge_convert.emitters import openvino_rules, tflite_rules
from edge_convert.graph import Array, Graph, Node, Op
from edge_convert.quantizing.copying import copies
from edge_convert.quantizing.quantization import Quantization, QuantParams
from edge_convert.quantizing.ranges import Range, activation_params, range_of, weight_codes, weight_params
from edge_convert.quantizing.simulate import bias_params
from edge_convert.quantizing.statistics import Extremes, Statistics
from edge_convert.recipe import Recipe

# The constant of one of these asks for no range: beyond the other operand's it saturates to the same result.
_LIMITS = frozenset({Op.MINIMUM, Op.MAXIMUM})


@dataclass(frozen=True)
class Rules:
    """What the kernels of a target demand of a quantization.

    Args:
        has_int8_form: Whether a node can run on int8 activations.
        quantizes_results: Integer kernels write codes, so that their result needs parameters, too.
            Otherwise only what such a node reads is quantized.
        integer_io: Inputs and outputs of the graph need parameters whatever reads or writes them.
        per_channel_dense: One weight scale per output of a dense layer instead of one for all.
        fixed_results: (scale, zero point) that a kernel writes whatever it is told.
        same_params: Operators whose float operands and result must share one set of parameters.
        whole: Operators that the accelerator runs as they are.
    """

    has_int8_form: Callable[[Graph, Node], bool]
    quantizes_results: bool
    integer_io: bool
    per_channel_dense: bool
    fixed_results: Mapping[Op, tuple[float, int]]
    same_params: frozenset[Op]
    whole: frozenset[Op] = frozenset()


def rules_for(profile: DeviceProfile) -> Rules:
    """The rules of a profile's target."""
    if profile.target == "openvino":
        return Rules(
            has_int8_form=openvino_rules.has_int8_form,
            quantizes_results=False,
            integer_io=False,
            per_channel_dense=True,
            fixed_results={},
            same_params=frozenset(),
        )
    accelerator = profile.accelerator
    on_edge_tpu = accelerator is not None and accelerator.kind == "edge-tpu"
    return Rules(
        has_int8_form=_for_edge_tpu if on_edge_tpu else tflite_rules.has_int8_form,
        quantizes_results=True,
        integer_io=profile.integer_io,
        per_channel_dense=profile.per_channel_dense,
        fixed_results=tflite_rules.FIXED_OUTPUT,
        same_params=tflite_rules.SAME_PARAMS,
        whole=tflite_rules.WHOLE_ON_EDGE_TPU if on_edge_tpu else frozenset(),
    )


def without(rules: Rules, names: frozenset[str]) -> Rules:
    """The rules with these nodes said to have no int8 form."""
    if not names:
        return rules
    return replace(
        rules, has_int8_form=lambda graph, node: node.name not in names and rules.has_int8_form(graph, node)
    )


def _for_edge_tpu(graph: Graph, node: Node) -> bool:
    """Whether a node may be int8 in a file for the Edge TPU.

    An int8 operator of a version that its compiler does not read makes it refuse the whole file; the
    same operator in float only stays on the CPU.
    """
    return node.op not in tflite_rules.BEYOND_EDGE_TPU and tflite_rules.has_int8_form(graph, node)


def choose(graph: Graph, statistics: Statistics | Extremes, recipe: Recipe, rules: Rules) -> Quantization:
    """Choose parameters for every tensor that the target can have as an integer; biases are not corrected.

    Args:
        statistics: Of this very graph; extremes are enough for a recipe that leaves no value out.
        recipe: One for int8.

    Raises:
        AssertionError: The recipe is not for int8.
    """
    assert recipe.activations is not None, f"{recipe.name} is not a recipe for int8"
    integer_nodes = _integer_nodes(graph, rules)
    ranges = _ranges(graph, statistics, recipe, rules, integer_nodes)
    params, stays_float = _activations(graph, rules, integer_nodes, ranges)
    integer_nodes = [node for node in integer_nodes if node.name not in stays_float]
    codes: dict[str, Array] = {}
    for node in integer_nodes:
        if node.op not in tflite_rules.WEIGHT_AXIS:
            continue
        name = node.inputs[1]
        weights = graph.constant(name)
        bias = graph.constant(node.inputs[2]) if len(node.inputs) == 3 else None
        found = weight_params(
            weights, _weight_axis(node, rules), recipe.weights, bias, float(params[node.inputs[0]].scale)
        )
        if name in params:
            found = replace(found, scale=np.maximum(found.scale, params[name].scale))
        params[name] = found
        codes[name] = weight_codes(weights, found)
    names = {node.name for node in integer_nodes}
    floats = frozenset(node.name for node in graph.nodes if node.name not in names)
    whole = frozenset(node.name for node in integer_nodes if node.op in rules.whole)
    result = Quantization(params, codes, floats, whole)
    for node in integer_nodes:
        if node.op in tflite_rules.WEIGHT_AXIS and len(node.inputs) == 3:
            params[node.inputs[2]] = bias_params(result, node)
    return result


def _weight_axis(node: Node, rules: Rules) -> int | None:
    if node.op is Op.DENSE and not rules.per_channel_dense:
        return None
    return tflite_rules.WEIGHT_AXIS[node.op]


def _integer_nodes(graph: Graph, rules: Rules) -> list[Node]:
    """Nodes that can run in int8, each constant in one role only.

    A constant that is weights to one node and something else (or weights along another axis) to
    another one cannot have parameters for both; the later node stays in float.
    """
    roles: dict[str, tuple[str, int | None]] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        if not rules.has_int8_form(graph, node):
            continue
        wanted: dict[str, tuple[str, int | None]] = {}
        for position, name in enumerate(node.inputs):
            if not graph.tensor(name).is_constant:
                continue
            if node.op in tflite_rules.WEIGHT_AXIS and position > 0:
                wanted[name] = ("weights", _weight_axis(node, rules)) if position == 1 else ("bias", None)
            else:
                wanted[name] = ("operand", None)
        if all(roles.get(name, role) == role for name, role in wanted.items()):
            roles |= wanted
            nodes.append(node)
    return nodes


def _ranges(
    graph: Graph,
    statistics: Statistics | Extremes,
    recipe: Recipe,
    rules: Rules,
    integer_nodes: Iterable[Node],
) -> dict[str, Range]:
    """The real interval that each activation (and constant operand) asks for, by tensor name."""
    assert recipe.activations is not None
    names: dict[str, None] = {}
    for node in integer_nodes:
        names |= dict.fromkeys(tflite_rules.float_operands(graph, node))
        if rules.quantizes_results and graph.tensor(node.output).dtype == "float32":
            names[node.output] = None
    if rules.integer_io:
        rim = [port.tensor for port in (*graph.inputs, *graph.outputs)]
        names |= dict.fromkeys(name for name in rim if graph.tensor(name).dtype == "float32")
    seen = statistics.tensors
    readers = graph.consumers()
    ranges: dict[str, Range] = {}
    for name in names:
        data = graph.tensor(name).data
        if data is None:
            ranges[name] = range_of(seen[name], recipe.activations, _may_clip(graph, name))
        elif all(reader.op in _LIMITS for reader in readers[name]):
            ranges[name] = (0.0, 0.0)
        else:
            ranges[name] = (float(data.min()), float(data.max()))
    return ranges


def _may_clip(graph: Graph, name: str) -> bool:
    """Whether leaving a few values of this tensor out of its range can pay.

    What a clipped pixel loses is averaged away by its neighbours. A clipped input is lost for every
    layer, and in a vector (pooled features, logits) the outlier is the answer: measured on the speech
    and the small picture model, keeping both whole is worth 4 dB.
    """
    rim = {port.tensor for port in (*graph.inputs, *graph.outputs)}
    tensor = graph.tensor(name)
    return name not in rim and bool(tensor.shape) and tensor.size > tensor.shape[-1]


def _activations(
    graph: Graph,
    rules: Rules,
    integer_nodes: Iterable[Node],
    ranges: Mapping[str, Range],
) -> tuple[dict[str, QuantParams], set[str]]:
    """Parameters of all activations, those that must be equal being equal.

    Returns:
        By tensor name; and the names of the nodes whose kernel would fix other parameters than its
        result's group needs: they stay in float.
    """
    group_of = _groups(graph, rules, integer_nodes, ranges)
    wanted: dict[str, Range] = {}
    fixed: dict[str, dict[str, tuple[float, int]]] = {}
    for name, leader in group_of.items():
        low, high = wanted.get(leader, (0.0, 0.0))
        wanted[leader] = (min(low, ranges[name][0]), max(high, ranges[name][1]))
    for node in integer_nodes:
        if node.op is Op.PAD and node.op in rules.same_params:
            leader, value = group_of[node.output], float(node.attrs["value"])
            wanted[leader] = (min(wanted[leader][0], value), max(wanted[leader][1], value))
        if node.op in rules.fixed_results:
            fixed.setdefault(group_of[node.output], {})[node.name] = rules.fixed_results[node.op]
    stays_float: set[str] = set()
    params: dict[str, QuantParams] = {}
    for leader, interval in wanted.items():
        found = activation_params(*interval)
        demands = fixed.get(leader, {})
        if len(set(demands.values())) == 1:
            scale, zero_point = next(iter(demands.values()))
            only = QuantParams(np.asarray(scale, np.float32), np.asarray(zero_point, np.int32))
            if _covers(only, interval):
                found, demands = only, {}
        stays_float |= set(demands)
        params[leader] = found
    return {name: params[leader] for name, leader in group_of.items()}, stays_float


def _covers(params: QuantParams, interval: Range) -> bool:
    """Whether the codes reach over the interval, but for one step at either end."""
    scale, zero = float(params.scale), int(params.zero_point)
    return (-129 - zero) * scale <= interval[0] and interval[1] <= (128 - zero) * scale


def _groups(
    graph: Graph, rules: Rules, integer_nodes: Iterable[Node], ranges: Mapping[str, Range]
) -> dict[str, str]:
    """The leader of the group of tensors that must share parameters, by tensor name (union-find)."""
    leaders = {name: name for name in ranges}

    def leader(name: str) -> str:
        while leaders[name] != name:
            leaders[name] = leaders[leaders[name]]
            name = leaders[name]
        return name

    for node in integer_nodes:
        if node.op not in rules.same_params and not copies(graph, node):
            continue
        for name in tflite_rules.float_operands(graph, node):
            if node.output in leaders:
                leaders[leader(name)] = leader(node.output)
    return {name: leader(name) for name in ranges}
