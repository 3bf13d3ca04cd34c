"""A TensorFlow Lite file as a float graph.

Old files (one-byte operator field, no signature), weights in half precision, in 8 bits or sparse, and
a dynamic batch axis are brought to the one form; files that are quantized throughout become the float
model that they stand for. Refused are files compiled for the Edge TPU, and whatever keeps state or
branches. The parts: `tflite_file.py` (bytes), `tflite_builder.py`, operators by kind (`tflite_windows.py`,
`tflite_moves.py`, `tflite_ops.py`, `tflite_logic.py` ...), `tflite_folds.py` (shape arithmetic),
`tflite_sparsity.py`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_convert.errors import ConvertError, SourceInvalid, UnsupportedFeature, UnsupportedOperator
from edge_convert.fixed_inputs import NOTHING_FIXED, FixedInputs
from edge_convert.graph import DTYPES, Array, Graph, Port, Tensor
from edge_convert.importers import (
    tflite_custom,
    tflite_logic,
    tflite_moves,
    tflite_ops,
    tflite_quantized,
    tflite_windows,
)
from edge_convert.importers.tflite_builder import Builder, Handler
from edge_convert.importers.tflite_file import NUMPY_TYPES, ModelFile, OperatorRecord, TensorRecord, parse
from edge_convert.importers.tflite_folds import FOLDS, fold
from edge_convert.shapes import is_sane
from edge_convert.validity import validate

HANDLERS: dict[str, Handler] = {
    **tflite_moves.HANDLERS,
    **tflite_ops.HANDLERS,
    **tflite_windows.HANDLERS,
    **tflite_logic.HANDLERS,
    **tflite_custom.HANDLERS,
    **tflite_quantized.HANDLERS,
}
_COMPILED_FOR_EDGE_TPU = "edgetpu-custom-op"
# These hand a stored tensor on; `Builder` gives the float elements of it anyway.
_TRANSPARENT = frozenset({"DENSIFY", "DEQUANTIZE"})
_STATE = frozenset({"CALL_ONCE", "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"})
_SHAPE_QUESTIONS = frozenset({"SHAPE", "RANK"})


def read(path: Path, fixed: FixedInputs = NOTHING_FIXED) -> Graph:
    """Read a file.

    Args:
        fixed: Sizes that the file leaves open.

    Raises:
        SourceInvalid: Not a model, truncated, compiled, or with NaN weights.
        UnsupportedOperator: Operators outside the set; all of them are named.
        UnsupportedFeature: A use of an operator that the graph cannot say.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SourceInvalid(f"{path}: {error.strerror or error}") from error
    try:
        return _graph(path.stem, parse(content), fixed)
    except ConvertError as error:
        raise type(error)(f"{path.name}: {error}") from error


def _graph(name: str, file: ModelFile, fixed: FixedInputs) -> Graph:
    _refuse_other_kinds(file)
    if fixed.values:
        raise UnsupportedFeature("values of inputs can be fixed in ONNX sources only")
    fixed.check_used([file.tensors[index].name for index in file.inputs], ())
    builder = Builder(file)
    inputs = []
    for index in file.inputs:
        record = file.tensors[index]
        if not is_sane(_static_shape(record, fixed)):
            raise UnsupportedFeature(f"input {record.name!r} has shape {record.shape}; that is too large")
        tensor = builder.feed(index, _static_shape(record, fixed), _input_dtype(record))
        inputs.append(_port(record, tensor.name, tensor.shape))
    blocked = _walk(builder, file)
    if blocked:
        raise UnsupportedOperator(_listing(blocked))
    outputs = []
    for index in file.outputs:
        record = file.tensors[index]
        if index not in builder.values:
            raise UnsupportedFeature(f"output {record.name!r} does not depend on the model's inputs")
        tensor = builder.values[index]
        outputs.append(_port(record, tensor.name, tensor.shape))
    read_names = {n for node in builder.nodes for n in (*node.inputs, *node.outputs)}
    read_names |= {port.tensor for port in (*inputs, *outputs)}
    tensors = {n: t for n, t in builder.tensors.items() if n in read_names}
    return validate(Graph(name, tuple(inputs), tuple(outputs), tuple(builder.nodes), tensors))


def _walk(builder: Builder, file: ModelFile) -> list[OperatorRecord]:
    """Read every operator; give those that are outside the set."""
    blocked: list[OperatorRecord] = []
    unknown: set[int] = set()  # what a blocked operator would have computed
    for call in file.operators:
        builder.call = call
        depends = bool(unknown.intersection(call.inputs))
        folded = None if depends else _fold(builder, call)
        if folded is not None:
            builder.known.update(zip(call.outputs, folded, strict=False))
        elif call.kind in HANDLERS and not depends:
            start = len(builder.nodes)
            builder.bind(_handled(builder, call), start)
        else:
            unknown.update(i for i in call.outputs if i >= 0)
            if call.kind not in HANDLERS and not (depends and _may_fold(file, call)):
                blocked.append(call)
    return blocked


def _handled(builder: Builder, call: OperatorRecord) -> list[Tensor]:
    try:
        made = HANDLERS[call.kind](builder, call.options)
    except AttributeError as error:
        if error.obj is not call.options:
            raise
        raise SourceInvalid(f"{call.label}: its options are missing or of another operator") from error
    results = made if isinstance(made, list) else [made]
    records = [builder.file.tensors[index] for index in call.outputs]
    return [tflite_quantized.saturated(builder, x, r) for x, r in zip(results, records, strict=False)]


def _fold(builder: Builder, call: OperatorRecord) -> list[Array] | None:
    """What the operator computes when that does not depend on the model's inputs."""
    given = [position for position in range(len(call.inputs)) if builder.has(position)]
    if call.code in _SHAPE_QUESTIONS and given and call.inputs[0] in builder.values:
        shape = builder.values[call.inputs[0]].shape
        return [np.array(shape if call.code == "SHAPE" else len(shape), np.int32)]
    if not given or not all(builder.is_known(position) for position in given):
        return None
    if call.code in _TRANSPARENT:
        return [builder.elements(0, "the weights")]
    if call.code not in FOLDS:
        return None
    folded = fold(call.label, call.code, [builder.elements(p, "an operand") for p in given], call.options)
    if folded is None:
        return None
    types = [NUMPY_TYPES.get(builder.file.tensors[index].type) for index in call.outputs]
    if None in types:
        raise UnsupportedFeature(f"{call.label}: gives {builder.file.tensors[call.outputs[0]].type}")
    with np.errstate(invalid="ignore"):  # a forged number; whatever it becomes is checked as a shape
        return [value.astype(dtype) for value, dtype in zip(folded, types, strict=False)]


def _may_fold(file: ModelFile, call: OperatorRecord) -> bool:
    """Whether an operator outside the set could be shape arithmetic, had what comes before been read."""
    if call.code in _SHAPE_QUESTIONS:
        return True
    types = {file.tensors[i].type for i in call.inputs if i >= 0}
    return call.code in FOLDS and not any(t.startswith("FLOAT") for t in types)


def _refuse_other_kinds(file: ModelFile) -> None:
    """Refuse files that are no float models, before anything else is said about their operators."""
    if any(call.custom == _COMPILED_FOR_EDGE_TPU for call in file.operators):
        raise SourceInvalid(
            "compiled for the Edge TPU, cannot be a source; give the model that it was compiled from"
        )
    stateful = [f"tensor {record.name!r}" for record in file.tensors if record.is_variable]
    stateful += [call.label for call in file.operators if call.code in _STATE]
    if stateful:
        raise UnsupportedFeature(
            f"{stateful[0]} keeps state between inferences, so that no golden input has one answer; "
            "export the model with its state as an input and an output"
        )


def _listing(blocked: list[OperatorRecord]) -> str:
    first: dict[str, int] = {}
    for call in blocked:
        first.setdefault(call.custom or call.code, call.index)
    named = ", ".join(f"{name} (#{index})" for name, index in first.items())
    return f"operators outside the supported set: {named}"


def _static_shape(record: TensorRecord, fixed: FixedInputs) -> tuple[int, ...]:
    """The shape with what is dynamic in it fixed: the first axis to 1, others as the user says."""
    signature = record.signature if record.signature and len(record.signature) == len(record.shape) else None
    stated = [None if size < 0 else size for size in signature or record.shape]
    if any(size is not None and size < 1 for size in stated):
        raise UnsupportedFeature(
            f"input {record.name!r} has shape {list(record.shape)}; every dimension must be positive"
        )
    if None not in stated and not fixed.shapes:
        return record.shape  # the first axis, too: a file of this format is exported for what it is fed
    return fixed.of(record.name, stated)


def _input_dtype(record: TensorRecord) -> str:
    if tflite_quantized.is_codes(record):
        return "float32"
    dtype = record.type.lower()
    if dtype not in DTYPES:
        raise UnsupportedFeature(
            f"input {record.name!r} has element type {record.type}; expected one of {', '.join(DTYPES)}"
        )
    return dtype


def _port(record: TensorRecord, tensor: str, shape: tuple[int, ...]) -> Port:
    return Port(record.name, tensor, shape, layout="NHWC" if len(shape) == 4 else "")
