"""A TensorFlow Lite flatbuffer under construction: tensors, buffers, operators, and the bytes.

It knows the file format and nothing of our graph: `tflite.py` decides what to write. The same
calls in the same order give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge_convert.emitters.tflite_versions import Operand, oldest_runtime, required
from edge_convert.graph import Array
from edge_convert.quantizing.quantization import QuantParams

_SCHEMA_VERSION = 3
_FILE_IDENTIFIER = b"TFL3"
_BUFFER_ALIGNMENT = 16  # schema.fbs: Buffer.data is force_align:16, kernels load vectors from it
_FIRST_CODE_BEYOND_INT8 = 127  # the old one-byte opcode field holds this for every newer operator
_MIN_RUNTIME_BYTES = 16  # TensorFlow reserves 16 bytes, padded with zeros

_TYPE_NAMES = {
    "float32": "FLOAT32",
    "float16": "FLOAT16",
    "int8": "INT8",
    "int32": "INT32",
    "int64": "INT64",
    "bool": "BOOL",
}


class _AlignedBuffer(schema.BufferT):  # type: ignore[misc]  # the generated class is untyped
    """A buffer whose elements start at a multiple of 16; the generated writer aligns to 4 at most."""

    def Pack(self, builder: Any) -> int:
        if self.data is None:
            return int(super().Pack(builder))
        raw = self.data.tobytes()
        builder.StartVector(1, len(raw), _BUFFER_ALIGNMENT)
        builder.head = builder.head - len(raw)
        builder.Bytes[builder.head : builder.head + len(raw)] = raw
        vector = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, vector)
        return int(schema.BufferEnd(builder))


@dataclass
class ModelWriter:
    """Collects one subgraph; `finish` gives the file.

    Args:
        description: Free text in the file.
    """

    description: str
    _tensors: list[Any] = field(default_factory=list)
    _operands: list[Operand] = field(default_factory=list)
    _names: set[str] = field(default_factory=set)
    _buffers: list[Any] = field(default_factory=lambda: [schema.BufferT()])  # 0 is the empty one
    _buffer_of: dict[bytes, int] = field(default_factory=dict)
    _codes: dict[tuple[str, int], int] = field(default_factory=dict)
    _operators: list[Any] = field(default_factory=list)

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        data: Array | None = None,
        params: QuantParams | None = None,
    ) -> int:
        """Add a tensor and return its index.

        Args:
            name: Taken as it is when it is free, else with a number behind.
            dtype: numpy's name of the element type.
            data: The constant's elements, or None for a computed or fed tensor.
        """
        entry = schema.TensorT()
        entry.name = self._free_name(name)
        entry.shape = np.array(shape, np.int32)
        entry.type = getattr(schema.TensorType, _TYPE_NAMES[dtype])
        entry.hasRank = True
        entry.buffer = 0 if data is None else self._buffer(np.ascontiguousarray(data))
        if params is not None:
            entry.quantization = schema.QuantizationParametersT()
            entry.quantization.scale = np.atleast_1d(np.asarray(params.scale, np.float32))
            entry.quantization.zeroPoint = np.atleast_1d(np.asarray(params.zero_point, np.int64))
            entry.quantization.quantizedDimension = params.axis or 0
        self._tensors.append(entry)
        per_channel = params is not None and np.size(params.scale) > 1
        scale = 0.0 if params is None or per_channel else float(np.ravel(params.scale)[0])
        self._operands.append(Operand(_TYPE_NAMES[dtype], tuple(shape), per_channel, scale))
        return len(self._tensors) - 1

    def operator(self, code: str, inputs: Sequence[int], outputs: Sequence[int], options: Any = None) -> None:
        """Add an operator in the lowest version that says it.

        Args:
            code: Name in `schema.BuiltinOperator`.
            options: An options object of the flatbuffer object API, or None.
        """
        version = required(
            code, [self._operands[i] for i in inputs], [self._operands[o] for o in outputs], options
        )
        entry = schema.OperatorT()
        entry.opcodeIndex = self._codes.setdefault((code, version), len(self._codes))
        entry.inputs = np.array(inputs, np.int32)
        entry.outputs = np.array(outputs, np.int32)
        if options is not None:
            union_member = type(options).__name__.removesuffix("T")
            entry.builtinOptionsType = getattr(schema.BuiltinOptions, union_member)
            entry.builtinOptions = options
        self._operators.append(entry)

    def finish(self, inputs: Sequence[tuple[str, int]], outputs: Sequence[tuple[str, int]]) -> bytes:
        """The file.

        Args:
            inputs: (name in the signature, tensor index), in the order of the file.
        """
        subgraph = schema.SubGraphT()
        subgraph.name = "main"
        subgraph.tensors = self._tensors
        subgraph.operators = self._operators
        subgraph.inputs = np.array([index for _, index in inputs], np.int32)
        subgraph.outputs = np.array([index for _, index in outputs], np.int32)

        model = schema.ModelT()
        model.version = _SCHEMA_VERSION
        model.description = self.description
        model.operatorCodes = [_operator_code(code, version) for code, version in self._codes]
        model.subgraphs = [subgraph]
        model.metadata = [self._min_runtime_version()]
        model.signatureDefs = [_signature(inputs, outputs)]
        model.buffers = self._buffers

        builder = flatbuffers.Builder(1024 + sum(len(raw) + 64 for raw in self._buffer_of))
        builder.Finish(model.Pack(builder), file_identifier=_FILE_IDENTIFIER)
        return bytes(builder.Output())

    def _free_name(self, wanted: str) -> str:
        # TensorFlow's converter strings the names of all that it fused together: an eighth of a small file
        wanted = wanted.split(";", 1)[0]
        name, number = wanted, 1
        while name in self._names:
            name, number = f"{wanted}_{number}", number + 1
        self._names.add(name)
        return name

    def _buffer(self, data: Array) -> int:
        raw = data.astype(data.dtype.newbyteorder("<")).tobytes()
        if raw not in self._buffer_of:
            entry = _AlignedBuffer()
            entry.data = np.frombuffer(raw, np.uint8)
            self._buffer_of[raw] = len(self._buffers)
            self._buffers.append(entry)
        return self._buffer_of[raw]

    def _min_runtime_version(self) -> Any:
        text = oldest_runtime(list(self._codes)).encode().ljust(_MIN_RUNTIME_BYTES, b"\0")
        entry = schema.MetadataT()
        entry.name = "min_runtime_version"
        entry.buffer = self._buffer(np.frombuffer(text, np.uint8))
        return entry


def _operator_code(code: str, version: int) -> Any:
    number = getattr(schema.BuiltinOperator, code)
    entry = schema.OperatorCodeT()
    entry.builtinCode = number
    entry.deprecatedBuiltinCode = min(number, _FIRST_CODE_BEYOND_INT8)
    entry.version = version
    return entry


def _signature(inputs: Sequence[tuple[str, int]], outputs: Sequence[tuple[str, int]]) -> Any:
    entry = schema.SignatureDefT()
    entry.signatureKey = "serving_default"
    entry.subgraphIndex = 0
    entry.inputs = [_tensor_map(name, index) for name, index in inputs]
    entry.outputs = [_tensor_map(name, index) for name, index in outputs]
    return entry


def _tensor_map(name: str, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name = name
    entry.tensorIndex = index
    return entry
