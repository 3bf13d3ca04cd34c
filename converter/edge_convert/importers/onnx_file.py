"""The bytes of an ONNX file as calls and constants: parsed, opset checked, damage named.

What the operators mean is left to the handlers; nothing here knows a shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.external_data_helper
import onnx.inliner
import onnx.version_converter
from google.protobuf.message import DecodeError

from edge_convert.errors import SourceInvalid, UnsupportedFeature
from edge_convert.fixed_inputs import FixedInputs
from edge_convert.graph import Array
from edge_convert.importers.onnx_builder import Call

OLDEST_OPSET = 11
# older files are brought to an opset that all of ONNX's own adapters lead to
_UPGRADED_FROM, _UPGRADED_TO = 7, 13


def parsed(path: Path) -> onnx.ModelProto:
    """Read the file, its external weights, and its local functions where they are called.

    Raises:
        SourceInvalid: Not there, not an ONNX model, truncated, or without its external weights.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SourceInvalid(f"{path}: cannot be read: {error.strerror}") from error
    if not content:
        raise SourceInvalid(f"{path}: the file is empty; expected an ONNX model")
    try:
        model = onnx.load_model_from_string(content)
    except (DecodeError, RuntimeError, ValueError) as error:
        raise SourceInvalid(f"{path}: not an ONNX model, or truncated ({len(content)} bytes)") from error
    if not model.graph.node or not model.graph.output or not model.opset_import:
        raise SourceInvalid(f"{path}: not an ONNX model: it has no graph of operators")
    if any(onnx.external_data_helper.uses_external_data(t) for t in model.graph.initializer):
        try:
            onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
        except (OSError, ValueError, onnx.checker.ValidationError) as error:
            raise SourceInvalid(
                f"{path}: weights kept in another file cannot be read: {first_line(error)}"
            ) from error
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    return model


def external_files(path: Path, content: bytes) -> tuple[Path, ...]:
    """The files beside an ONNX file that hold weights of it, in the order of their names."""
    if b"location" not in content:  # the key that an external tensor must have
        return ()
    graph = onnx.load_model_from_string(content).graph
    found = {
        entry.value
        for tensor in graph.initializer
        if onnx.external_data_helper.uses_external_data(tensor)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return tuple(path.parent / name for name in sorted(found))


def first_line(error: Exception) -> str:
    """What a library's error says, in one line."""
    return (str(error) or type(error).__name__).splitlines()[0]


def upgraded(path: Path, model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """The model and its opset; one older than 11 is brought to 13 by ONNX's own converter.

    Raises:
        SourceInvalid: The file states no opset.
        UnsupportedFeature: The opset is newer than this ONNX, or older than ONNX converts.
    """
    versions = [o.version for o in model.opset_import if o.domain in ("", "ai.onnx")]
    newest = onnx.defs.onnx_opset_version()
    if not versions:
        raise SourceInvalid(f"{path}: the file does not state the version of its operators")
    opset = int(versions[0])
    if _UPGRADED_FROM <= opset < OLDEST_OPSET:
        try:
            return onnx.version_converter.convert_version(model, _UPGRADED_TO), _UPGRADED_TO
        except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
            raise UnsupportedFeature(
                f"{path}: opset {opset} cannot be upgraded ({first_line(error)}); "
                f"export it with {OLDEST_OPSET} to {newest}"
            ) from error
    if not OLDEST_OPSET <= opset <= newest:
        raise UnsupportedFeature(
            f"{path}: opset {opset}; expected {OLDEST_OPSET} to {newest}: export it with one of these"
        )
    return model, opset


def _array(tensor: onnx.TensorProto, what: str) -> Array:
    try:
        array: Array = onnx.numpy_helper.to_array(tensor)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise SourceInvalid(f"{what} {tensor.name!r} is damaged: {first_line(error)}") from error
    if array.dtype.kind == "f":
        # a single infinity is a bound of Clip, a single NaN what a choice never takes; else damage
        bad = ~np.isfinite(array)
        if array.size > 1 and bad.any():
            raise SourceInvalid(
                f"{what} {tensor.name!r} has {int(bad.sum())} elements that are NaN or infinite"
            )
    return array


def initializers(graph: onnx.GraphProto) -> dict[str, Array]:
    """Elements of every initializer.

    Raises:
        SourceInvalid: One is damaged, or not finite.
        UnsupportedFeature: One is sparse.
    """
    if graph.sparse_initializer:
        raise UnsupportedFeature(f"initializer {graph.sparse_initializer[0].values.name!r} is sparse")
    return {t.name: _array(t, "initializer") for t in graph.initializer}


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    attrs: dict[str, Any] = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if attribute.type == onnx.AttributeProto.TENSOR:
            value = _array(value, f"a tensor of node {node.name or node.output[0]!r}:")
        elif isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        attrs[attribute.name] = value
    return attrs


def calls_of(graph: onnx.GraphProto, opset: int) -> list[Call]:
    """The nodes, each with a name of its own."""
    calls = []
    taken: set[str] = set()
    for index, node in enumerate(graph.node):
        if not all(isinstance(text, str) for text in (node.op_type, node.domain, node.name, *node.input)):
            raise SourceInvalid(f"node {index} is damaged: one of its names is not text")
        domain = "" if node.domain in ("", "ai.onnx") else f"{node.domain}."
        name = node.name or next((o for o in node.output if o), f"{node.op_type}_{index}")
        while name in taken:
            name = f"{name}_{index}"
        taken.add(name)
        calls.append(
            Call(domain + node.op_type, name, tuple(node.input), tuple(node.output), _attributes(node), opset)
        )
    return calls


def constant_value(call: Call) -> Array:
    """Elements of a Constant node, in whichever of its forms."""
    value = next(iter(call.attrs.values()))
    if isinstance(value, np.ndarray):
        return value
    if "value_float" in call.attrs or "value_floats" in call.attrs:
        return np.asarray(value, np.float32)
    if "value_int" in call.attrs or "value_ints" in call.attrs:
        return np.asarray(value, np.int64)
    raise call.refuse(f"a constant of the form {next(iter(call.attrs))} is not supported")


def stated_shape(value: onnx.ValueInfoProto) -> tuple[int | str | None, ...]:
    """An input's shape as the file has it: sizes, names of open axes, None for one without a name.

    Raises:
        UnsupportedFeature: It is no tensor, or of unknown rank.
    """
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not kind.HasField("shape"):
        raise UnsupportedFeature(f"input {value.name!r} is not a tensor of known rank")
    return tuple(
        int(d.dim_value) if d.HasField("dim_value") and d.dim_value > 0 else d.dim_param or None
        for d in kind.shape.dim
    )


def fixed_values(
    graph: onnx.GraphProto, constants: Mapping[str, Array], fixed: FixedInputs
) -> dict[str, Array]:
    """Elements of the inputs that were given a value, in the element type and shape of the file.

    Raises:
        SourceInvalid: A name that is no input's, or the wrong number of elements.
    """
    inputs = [value for value in graph.input if value.name not in constants]
    axes = [size for value in inputs for size in stated_shape(value) if isinstance(size, str)]
    fixed.check_used([value.name for value in inputs], axes)
    values: dict[str, Array] = {}
    for value in inputs:
        if value.name in fixed.values:
            dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
            shape = tuple(1 if not isinstance(d, int) else d for d in stated_shape(value))
            given = np.asarray(fixed.values[value.name])
            if given.size != np.prod(shape, dtype=object):
                raise SourceInvalid(
                    f"{given.size} values for input {value.name!r}, which has shape {list(shape)}"
                )
            values[value.name] = given.reshape(shape).astype(dtype)
    return values


# Any of these computing from the model's inputs makes its own answers noisy.
_QUANTIZING = frozenset({"QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"})


def is_quantized(content: bytes) -> bool:
    """Whether the model rounds its activations to codes."""
    model = onnx.load_model_from_string(content)
    return any(node.op_type in _QUANTIZING for node in model.graph.node)


def with_values(content: bytes, fixed: FixedInputs) -> bytes:
    """The same file with inputs turned into constants, for a runtime that is to run it so."""
    model = onnx.load_model_from_string(content)
    stored = {t.name: np.zeros(0) for t in model.graph.initializer}
    values = fixed_values(model.graph, stored, fixed)
    kept = [value for value in model.graph.input if value.name not in values]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(v, name) for name, v in values.items())
    return bytes(model.SerializeToString())
