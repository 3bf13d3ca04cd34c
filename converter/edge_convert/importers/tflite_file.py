"""A TensorFlow Lite file as plain records: bounds checked, old and new fields brought to one form.

The generated flatbuffer code trusts its input; this module is where a truncated or hostile file is
turned into `SourceInvalid`. It interprets no operator: `tflite.py` and `edgetpu.py` do.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edge_contracts.errors import one_line
from edge_convert.errors import SourceInvalid

_IDENTIFIER = b"TFL3"
_SMALLEST_FILE = 16
# A real model has some thousands. The bound keeps a forged vector, whose entries may all point at one
# table, from costing minutes.
_MOST_ENTRIES = 100_000
_MOST_OUTPUTS = 1024  # of one operator
_WITHOUT_RESULT = frozenset({"CALL_ONCE", "ASSIGN_VARIABLE"})
# What the generated accessors raise when an offset leads out of the file or into nonsense.
READ_ERRORS = (struct.error, ValueError, IndexError, TypeError, OverflowError, KeyError, AttributeError)

_OPERATOR_NAMES: dict[int, str] = {
    number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)
}
_TYPE_NAMES: dict[int, str] = {
    number: name for name, number in vars(schema.TensorType).items() if isinstance(number, int)
}
# Element types that numpy has; FLOAT16 and the rest are refused where they are met.
NUMPY_TYPES = {
    "FLOAT32": "<f4",
    "FLOAT16": "<f2",
    "FLOAT64": "<f8",
    "INT8": "i1",
    "UINT8": "u1",
    "INT16": "<i2",
    "UINT16": "<u2",
    "INT32": "<i4",
    "UINT32": "<u4",
    "INT64": "<i8",
    "UINT64": "<u8",
    "BOOL": "?",
}


@dataclass(frozen=True, eq=False)
class QuantRecord:
    """Affine parameters as the file has them; one scale, or one per index of `axis`."""

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int64]
    axis: int


@dataclass(frozen=True, eq=False)
class TensorRecord:
    """One tensor of the file.

    Args:
        shape: As stored; a dimension that is dynamic in `signature` holds what the file's writer put.
        signature: The shape with -1 for dynamic dimensions, or None when the file has none.
        type: TensorFlow Lite's name: "FLOAT32", "INT8", ...
        raw: Stored bytes, or None for a tensor that is fed or computed.
        sparsity: The flatbuffer table when `raw` is in a sparse format.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    signature: tuple[int, ...] | None
    type: str
    raw: memoryview | None
    quantization: QuantRecord | None
    sparsity: Any
    is_variable: bool

    def elements(self) -> NDArray[Any]:
        """The stored elements in the tensor's shape.

        Raises:
            SourceInvalid: There are more or fewer than the shape needs, or of a type numpy lacks.
        """
        flat = self.stored()
        if flat.size != int(np.prod(self.shape, dtype=object)):
            raise SourceInvalid(
                f"tensor {self.name!r} has shape {list(self.shape)} but {flat.size} stored elements"
            )
        return flat.reshape(self.shape)

    def stored(self) -> NDArray[Any]:
        """The stored elements, flat."""
        assert self.raw is not None
        if self.type not in NUMPY_TYPES:
            raise SourceInvalid(
                f"tensor {self.name!r} has element type {self.type}; expected a float or integer"
            )
        dtype = np.dtype(NUMPY_TYPES[self.type])
        if len(self.raw) % dtype.itemsize:
            raise SourceInvalid(
                f"tensor {self.name!r} has {len(self.raw)} bytes, no multiple of {dtype.itemsize}"
            )
        return np.frombuffer(self.raw, dtype)


@dataclass(frozen=True, eq=False)
class OperatorRecord:
    """One operator of the file.

    Args:
        code: Name of the built-in ("CONV_2D"), or "CUSTOM".
        custom: Name of a custom operator, else "".
        inputs: Tensor indices; -1 is an absent optional.
        options: Its options of the flatbuffer object API, or None; of a custom operator, raw bytes.
    """

    index: int
    code: str
    custom: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any

    @property
    def kind(self) -> str:
        """What a table of handlers knows it by."""
        return self.custom or self.code

    @property
    def label(self) -> str:
        """How messages and reports name it: "CONV_2D #3"."""
        return f"{self.custom or self.code} #{self.index}"


@dataclass(frozen=True, eq=False)
class ModelFile:
    """The first subgraph of a file and what is said about the whole.

    Args:
        subgraphs: How many there are; more than one means control flow.
    """

    tensors: tuple[TensorRecord, ...]
    operators: tuple[OperatorRecord, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    subgraphs: int


def parse(content: bytes) -> ModelFile:
    """Read a file.

    Raises:
        SourceInvalid: It is not a TensorFlow Lite file, is truncated, or points outside itself.
    """
    if not content:
        raise SourceInvalid("the file is empty; expected a TensorFlow Lite model")
    if len(content) < _SMALLEST_FILE or content[4:8] != _IDENTIFIER:
        raise SourceInvalid("not a TensorFlow Lite file: the identifier 'TFL3' is not at byte 4")
    try:
        return _parse(content)
    except READ_ERRORS as error:
        raise SourceInvalid(
            f"the TensorFlow Lite file is truncated or damaged ({type(error).__name__}: {one_line(error)})"
        ) from error


def _parse(content: bytes) -> ModelFile:
    model = schema.Model.GetRootAs(content, 0)
    if model.SubgraphsLength() < 1:
        raise SourceInvalid("the file holds no subgraph, so no model")
    codes = [
        _code(model.OperatorCodes(i)) for i in range(_count(model.OperatorCodesLength(), "operator codes"))
    ]
    buffers = _count(model.BuffersLength(), "buffers")
    graph = model.Subgraphs(0)
    tensors = tuple(
        _tensor(content, model, buffers, index, graph.Tensors(index))
        for index in range(_count(graph.TensorsLength(), "tensors"))
    )
    operators = tuple(
        _operator(codes, len(tensors), index, graph.Operators(index))
        for index in range(_count(graph.OperatorsLength(), "operators"))
    )
    inputs, outputs = _indices(graph.InputsAsNumpy()), _indices(graph.OutputsAsNumpy())
    for index in (*inputs, *outputs):
        if not 0 <= index < len(tensors):
            raise SourceInvalid(f"the model's inputs or outputs name tensor {index} of {len(tensors)}")
    return ModelFile(tensors, operators, inputs, outputs, model.SubgraphsLength())


def _count(length: int, what: str) -> int:
    if length > _MOST_ENTRIES:
        raise SourceInvalid(f"the file claims {length} {what}; at most {_MOST_ENTRIES} are read")
    return length


def _code(code: Any) -> tuple[str, str, int]:
    # files written before 2020 have only the one-byte field; newer ones have 127 there for newer operators
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    name = _OPERATOR_NAMES.get(number, f"operator {number}")
    custom = _text(code.CustomCode()) if name == "CUSTOM" else ""
    return name, custom, code.Version()


def _operator(codes: list[tuple[str, str, int]], tensors: int, index: int, operator: Any) -> OperatorRecord:
    record = schema.OperatorT.InitFromObj(operator)
    if record.opcodeIndex >= len(codes):
        raise SourceInvalid(f"operator #{index} names code {record.opcodeIndex} of {len(codes)}")
    name, custom, version = codes[record.opcodeIndex]
    inputs, outputs = _indices(record.inputs), _indices(record.outputs)
    if not (name not in _WITHOUT_RESULT) <= len(outputs) <= _MOST_OUTPUTS:
        raise SourceInvalid(f"{name} #{index} has {len(outputs)} outputs; expected 1 to {_MOST_OUTPUTS}")
    for wanted in (*inputs, *outputs):
        if not -1 <= wanted < tensors:
            raise SourceInvalid(f"{name} #{index} names tensor {wanted} of {tensors}")
    options = record.builtinOptions
    if custom:
        options = b"" if record.customOptions is None else bytes(bytearray(record.customOptions))
    return OperatorRecord(index, name, custom, version, inputs, outputs, options)


def _tensor(content: bytes, model: Any, buffers: int, index: int, tensor: Any) -> TensorRecord:
    shape = _indices(tensor.ShapeAsNumpy())
    signature = None if tensor.ShapeSignatureIsNone() else _indices(tensor.ShapeSignatureAsNumpy())
    if tensor.Buffer() >= max(buffers, 1):
        raise SourceInvalid(f"tensor #{index} names buffer {tensor.Buffer()} of {buffers}")
    return TensorRecord(
        index=index,
        name=_text(tensor.Name()) or f"tensor_{index}",
        shape=shape,
        signature=signature or None,
        type=_TYPE_NAMES.get(tensor.Type(), f"type {tensor.Type()}"),
        raw=_raw(content, model.Buffers(tensor.Buffer())) if buffers else None,
        quantization=_quantization(tensor.Quantization()),
        sparsity=tensor.Sparsity(),
        is_variable=bool(tensor.IsVariable()),
    )


def _raw(content: bytes, buffer: Any) -> memoryview | None:
    if buffer is None:
        return None
    if buffer.DataLength() > 0:
        return memoryview(buffer.DataAsNumpy())
    # files beyond 2 GB keep their buffers behind the flatbuffer; offsets 0 and 1 mean "not so"
    start, size = buffer.Offset(), buffer.Size()
    if start <= 1:
        return None
    if start + size > len(content):
        raise SourceInvalid(
            f"a buffer lies at byte {start} to {start + size}; the file has {len(content)} bytes"
        )
    return memoryview(content)[start : start + size]


def _quantization(table: Any) -> QuantRecord | None:
    if table is None or table.ScaleLength() == 0:
        return None
    scale = np.asarray(table.ScaleAsNumpy(), np.float32)
    zero_point = np.asarray(table.ZeroPointAsNumpy(), np.int64) if table.ZeroPointLength() else None
    if zero_point is None or zero_point.size != scale.size:
        zero_point = np.full(scale.shape, 0 if zero_point is None else zero_point[0], np.int64)
    return QuantRecord(scale, zero_point, int(table.QuantizedDimension()))


def _indices(vector: Any) -> tuple[int, ...]:
    # the generated accessor gives the number 0, the object API None, for a vector that is not there
    if vector is None or isinstance(vector, int):
        return ()
    if vector.size > _MOST_ENTRIES:
        raise SourceInvalid(f"a list of {vector.size} tensor indices or dimensions; the file is damaged")
    return tuple(int(v) for v in vector)


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode("utf-8", errors="replace")
