"""ONNX files into the float graph: batch 1, every size known, one node after the other.

What each operator means stands in the handlers of the `onnx_*` modules beside this one. Here is
the frame: reading the file, refusing what cannot be converted before anything is done (every
unsupported operator in one message), and evaluating what does not depend on the model's inputs,
which is how arithmetic on shapes disappears. The result still has transposes around every
convolution; `passes.simplify` removes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from edge_convert.errors import SourceInvalid, UnsupportedFeature, UnsupportedOperator
from edge_convert.fixed_inputs import NOTHING_FIXED, FixedInputs
from edge_convert.graph import Array, Graph, Port, Tensor
from edge_convert.importers import (
    onnx_conv,
    onnx_logic,
    onnx_math,
    onnx_matrix,
    onnx_norm,
    onnx_quantized,
    onnx_recurrent,
    onnx_reduce,
    onnx_resize,
    onnx_shape,
)
from edge_convert.importers.onnx_builder import Builder, Call, Handler, axis_of, check_count
from edge_convert.importers.onnx_file import (
    calls_of,
    constant_value,
    first_line,
    fixed_values,
    initializers,
    parsed,
    stated_shape,
    upgraded,
)
from edge_convert.importers.onnx_gelu import join_gelu
from edge_convert.importers.onnx_growth import GROWTH, of_broadcast
from edge_convert.shapes import is_sane
from edge_convert.validity import validate

HANDLERS: dict[str, Handler] = {
    **onnx_conv.HANDLERS,
    **onnx_logic.HANDLERS,
    **onnx_math.HANDLERS,
    **onnx_matrix.HANDLERS,
    **onnx_norm.HANDLERS,
    **onnx_quantized.HANDLERS,
    **onnx_recurrent.HANDLERS,
    **onnx_reduce.HANDLERS,
    **onnx_resize.HANDLERS,
    **onnx_shape.HANDLERS,
}

# Known whatever their input is, because every shape is.
SHAPE_READERS = frozenset({"Shape", "Size"})

BRANCH = "If"

# Never shape arithmetic, and slow in ONNX's own evaluation: of constants, too, they become nodes first.
_ALWAYS_NODES = frozenset(
    {
        "Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "LRN", "Resize", "Upsample",
        "LSTM", "GRU", "RNN", "Einsum", "DepthToSpace", "SpaceToDepth",
    }
)  # fmt: skip

_FLOATS = (
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.DOUBLE,
    onnx.TensorProto.BFLOAT16,
)
_INPUT_DTYPES = {
    **dict.fromkeys(_FLOATS, "float32"),
    onnx.TensorProto.INT32: "int32",
    onnx.TensorProto.INT64: "int64",
    onnx.TensorProto.BOOL: "bool",
}
# Element types that a float32 holds exactly; fed as float32 when the model's first step is a cast.
_SMALL_INTEGERS = (
    onnx.TensorProto.UINT8,
    onnx.TensorProto.INT8,
    onnx.TensorProto.UINT16,
    onnx.TensorProto.INT16,
)


def read(path: Path, fixed: FixedInputs = NOTHING_FIXED) -> Graph:
    """Read an ONNX file.

    Args:
        fixed: Sizes that the file leaves open, and inputs that become constants.

    Raises:
        SourceInvalid: Not an ONNX model, truncated, without its external data, or with weights
            that are not finite.
        UnsupportedOperator: Names every operator that has no place in the graph, with a node.
        UnsupportedFeature: An open size other than the batch that `fixed` does not give, an opset too
            old or too new, or a use of an operator that cannot be expressed.
    """
    model, opset = upgraded(path, parsed(path))
    constants = initializers(model.graph)
    constants |= fixed_values(model.graph, constants, fixed)
    outputs = [o.name for o in model.graph.output]
    calls = _computing(model.graph, opset, constants)
    _refuse_unsupported(calls, constants)
    _check_nodes(path, model)

    builder = Builder(known=dict(constants))
    inputs = _inputs(model.graph, calls, constants, builder, fixed)
    for call in calls:
        _import_call(builder, call)
    ports = tuple(_output_port(builder, name) for name in outputs)
    graph = Graph(path.stem, inputs, ports, tuple(builder.nodes), builder.tensors)
    return validate(graph.rewritten(graph.nodes))


def _computing(graph: onnx.GraphProto, opset: int, constants: dict[str, Array]) -> list[Call]:
    """The calls that compute something; elements of the Constant nodes go to `constants`."""
    calls = calls_of(graph, opset)
    for call in calls:
        if call.operator == "Constant":
            constants[call.outputs[0]] = constant_value(call)
    outputs = [o.name for o in graph.output]
    return join_gelu([c for c in calls if c.operator != "Constant"], constants, outputs)


# --- what is refused before anything is done -----------------------------------------------------


def _refuse_unsupported(calls: Sequence[Call], constants: Mapping[str, Array]) -> None:
    """Name every operator that depends on the model's inputs and has no handler."""
    known = {"", *constants}
    unsupported: dict[str, str] = {}
    for call in calls:
        evaluated = all(n in known for n in call.inputs) and "." not in call.operator
        if call.operator in SHAPE_READERS or (evaluated and not _has_body(call)):
            known.update(call.outputs)
        elif call.operator not in HANDLERS and call.operator != BRANCH:
            unsupported.setdefault(call.operator, call.name)
    if unsupported:
        raise UnsupportedOperator(
            "; ".join(f"operator {op} of node '{name}' is not supported" for op, name in unsupported.items())
        )


def _check_nodes(path: Path, model: onnx.ModelProto) -> None:
    """Refuse a node with the wrong number of inputs, an unknown attribute and the like, in ONNX's words.

    Only nodes: exporters write graphs that the check of a whole model refuses for things that do
    not matter here, such as an output without a shape.
    """
    context = onnx.checker.C.CheckerContext()
    context.ir_version = model.ir_version
    context.opset_imports = {o.domain: o.version for o in model.opset_import}
    for node in _nodes_without_bodies(model.graph.node):
        try:
            onnx.checker.check_node(node, context)
        except (onnx.checker.ValidationError, ValueError) as error:
            raise SourceInvalid(
                f"{path}: node {node.name!r} is not valid ONNX: {first_line(error)}"
            ) from error


def _nodes_without_bodies(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """All nodes, those of branches too; not those with a branch, which reads what is out of sight."""
    for node in nodes:
        bodies = [a.g for a in node.attribute if a.HasField("g")]
        if not bodies:
            yield node
        for body in bodies:
            yield from _nodes_without_bodies(body.node)


def _has_body(call: Call) -> bool:
    return any(isinstance(value, onnx.GraphProto) for value in call.attrs.values())


# --- one node after the other --------------------------------------------------------------------


def _import_call(builder: Builder, call: Call) -> None:
    if call.operator in SHAPE_READERS and call.inputs[0] not in builder.known:
        builder.known[call.outputs[0]] = _shape_value(call, builder.values[call.inputs[0]].shape)
        return
    if call.operator == BRANCH:
        _import_branch(builder, call)
        return
    if _has_body(call):
        raise UnsupportedOperator(f"operator {call.operator} of node '{call.name}' is not supported")
    if call.operator not in _ALWAYS_NODES and all(name in builder.known for name in call.inputs if name):
        _check_growth(builder, call)
        for name, value in zip(call.outputs, _evaluate(builder, call), strict=False):
            builder.known[name] = value
        return
    if call.operator not in HANDLERS:  # of a branch; those of the model itself were looked at before
        raise UnsupportedOperator(f"operator {call.operator} of node '{call.name}' is not supported")
    onnx_quantized.check_codes(builder, call)
    builder.call = call
    start = len(builder.nodes)
    try:
        results = HANDLERS[call.operator](builder, call)
    except (IndexError, KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        # shapes or attributes that contradict each other, which ONNX's own check does not see
        raise SourceInvalid(f"{call.source} is not consistent: {first_line(error)}") from error
    builder.bind(call, results if isinstance(results, list) else [results], start)


def _import_branch(builder: Builder, call: Call) -> None:
    """If: the branch that a known condition takes; else both, and a SELECT of what they give."""
    condition = call.inputs[0]
    if condition in builder.known:
        taken = "then_branch" if builder.known[condition].all() else "else_branch"
        for name, result in zip(call.outputs, _inlined(builder, call, taken), strict=False):
            if isinstance(result, Tensor):
                builder.values[name] = result
            else:
                builder.known[name] = result
        return
    sides = [_inlined(builder, call, branch) for branch in ("then_branch", "else_branch")]
    builder.call = call
    start = len(builder.nodes)
    chosen = []
    for output, pair in zip(call.outputs, zip(*sides, strict=False), strict=False):
        x, y = (r if isinstance(r, Tensor) else builder.constant(r, f"{output}:side") for r in pair)
        if x.shape != y.shape:
            raise call.refuse(f"its branches give {x.shape} and {y.shape}; they must be the same")
        chosen.append(onnx_logic.choose(builder, builder.operand(call, 0), x, y))
    builder.bind(call, chosen, start)


def _inlined(builder: Builder, call: Call, branch: str) -> list[Tensor | Array]:
    """What a branch gives; names that are its own are forgotten, for the other branch may have them too."""
    body = call.attrs.get(branch)
    if not isinstance(body, onnx.GraphProto):
        raise SourceInvalid(f"{call.source} has no {branch}")
    values, known = dict(builder.values), dict(builder.known)
    constants = initializers(body)
    calls = _computing(body, call.opset, constants)
    builder.known |= constants
    for inner in calls:
        _import_call(builder, inner)
    results: list[Tensor | Array] = []
    for output in body.output:
        if output.name in builder.known:
            results.append(builder.known[output.name])
        elif output.name in builder.values:
            results.append(builder.values[output.name])
        else:
            raise SourceInvalid(
                f"{call.source}: output {output.name!r} of its {branch} is computed by no node"
            )
    builder.values, builder.known = values, known
    return results


def _shape_value(call: Call, shape: tuple[int, ...]) -> Array:
    if call.operator == "Size":
        return np.asarray(np.prod(shape, dtype=np.int64), np.int64)
    start, end = call.attrs.get("start", 0), call.attrs.get("end")
    return np.asarray(shape[start:end], np.int64)


def _dequantized(builder: Builder, call: Call) -> Array:
    """DequantizeLinear of constants; ONNX's reference has none for the older opsets."""
    codes = builder.elements(call, 0, "the codes").astype(np.float32)
    parts = [np.ravel(builder.known[name]).astype(np.float32) for name in call.inputs[1:] if name]
    if parts[0].size > 1:
        axis = axis_of(call, int(call.attrs.get("axis", 1)), codes.ndim)
        if any(part.size != codes.shape[axis] for part in parts):
            raise call.refuse("scales in blocks are not supported")
        parts = [part.reshape([-1 if i == axis else 1 for i in range(codes.ndim)]) for part in parts]
    zero = parts[1] if len(parts) > 1 else np.float32(0)
    result: Array = (codes - zero) * parts[0]
    return result


def _check_growth(builder: Builder, call: Call) -> None:
    """Refuse a node that would blow a few constant numbers up to gigabytes."""
    values = [builder.known[name] for name in call.inputs if name]
    check_count(call, GROWTH.get(call.operator, of_broadcast)(call, values))


def _evaluate(builder: Builder, call: Call) -> list[Array]:
    """Elements of a node whose inputs are all known, by ONNX's own reference implementation."""
    if call.operator == "DequantizeLinear":
        return [_dequantized(builder, call)]
    names = [name for name in call.inputs if name]
    node = onnx.helper.make_node(
        call.operator,
        list(call.inputs),
        list(call.outputs),
        **{
            key: onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
            for key, value in call.attrs.items()
        },
    )
    unique = list(dict.fromkeys(names))
    graph = onnx.helper.make_graph(
        [node],
        "known",
        [onnx.ValueInfoProto(name=name) for name in unique],
        [onnx.ValueInfoProto(name=name) for name in call.outputs if name],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", call.opset)])
    try:
        with np.errstate(all="ignore"):
            values = ReferenceEvaluator(model).run(None, {name: builder.known[name] for name in unique})
    except (ValueError, TypeError, IndexError, RuntimeError, NotImplementedError, ArithmeticError) as error:
        raise call.refuse(f"cannot be evaluated on its constant inputs: {first_line(error)}") from error
    results = iter(values)
    return [np.asarray(next(results)) if name else np.zeros(0) for name in call.outputs]


# --- what goes in and out ------------------------------------------------------------------------


def _inputs(
    graph: onnx.GraphProto,
    calls: Sequence[Call],
    constants: Mapping[str, Array],
    builder: Builder,
    fixed: FixedInputs,
) -> tuple[Port, ...]:
    ports = []
    for value in graph.input:
        if value.name in constants:
            continue
        shape = fixed.of(value.name, stated_shape(value))
        if not is_sane(shape):
            raise UnsupportedFeature(f"input {value.name!r} has shape {shape}; that is too large")
        dtype = _input_dtype(value.name, value.type.tensor_type.elem_type, calls)
        tensor = Tensor(builder.unique(value.name), shape, dtype)
        builder.tensors[tensor.name] = builder.values[value.name] = tensor
        ports.append(Port(value.name, tensor.name, shape))
    if not ports:
        raise SourceInvalid("the model has no inputs")
    return tuple(ports)


def _input_dtype(name: str, element_type: int, calls: Sequence[Call]) -> str:
    if element_type in _INPUT_DTYPES:
        return _INPUT_DTYPES[element_type]
    readers = [c for c in calls if name in c.inputs]
    if element_type in _SMALL_INTEGERS and all(
        c.operator == "Cast" and c.attrs["to"] in _FLOATS for c in readers
    ):
        return "float32"
    names = {number: label for label, number in onnx.TensorProto.DataType.items()}
    label = names.get(element_type, str(element_type))
    raise UnsupportedFeature(f"input {name!r} has element type {label}; expected float, int32, int64 or bool")


def _output_port(builder: Builder, name: str) -> Port:
    if name in builder.known:
        raise UnsupportedFeature(f"output {name!r} does not depend on the model's inputs")
    if name not in builder.values:
        raise SourceInvalid(f"output {name!r} is computed by no node")
    tensor = builder.values[name]
    return Port(name, tensor.name, tensor.shape)
