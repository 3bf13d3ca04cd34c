"""The tensors of the Open Inference Protocol as numpy has them: names, JSON numbers, raw bytes.

Binary data is little-endian and row-major, as the protocol's binary extension says. Sizes are compared
before anything is allocated, so that a shape of 2^60 elements costs nothing. What the values may be is
the contract's business.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import CallRefused

DATATYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
}
_NAMES = {dtype: name for name, dtype in DATATYPES.items()}
_KINDS = {"b": "b", "u": "iu", "i": "iu", "f": "iuf"}  # what JSON may hold for each kind of dtype
MAX_DIMENSIONS = 32


def datatype_of(dtype: str) -> str:
    """The protocol's name of a contract's dtype."""
    return _NAMES[dtype]


def refuse(message: str) -> CallRefused:
    """A request that cannot be understood."""
    return CallRefused(400, "bad-request", message)


def read_shape(raw: Any, name: str) -> tuple[int, ...]:
    """A shape out of JSON.

    Raises:
        CallRefused: It is not a list of sizes.
    """
    if (
        not isinstance(raw, list)
        or not 1 <= len(raw) <= MAX_DIMENSIONS
        or any(type(size) is not int or not 0 <= size < 1 << 62 for size in raw)
    ):
        raise refuse(f"input {name!r}: shape must be a list of sizes, found {raw!r:.80}")
    return tuple(raw)


def read_dtype(raw: Any, name: str) -> np.dtype[Any]:
    """A dtype out of the protocol's name.

    Raises:
        CallRefused: It is none that a model here takes.
    """
    if not isinstance(raw, str) or raw not in DATATYPES:
        raise refuse(f"input {name!r}: datatype {raw!r:.80} is not one of {', '.join(DATATYPES)}")
    return np.dtype(DATATYPES[raw])


def from_bytes(content: memoryview, dtype: np.dtype[Any], shape: tuple[int, ...], name: str) -> NDArray[Any]:
    """An array over a request's own bytes: nothing is copied on a little-endian machine.

    Raises:
        CallRefused: The bytes are more or fewer than the shape needs.
    """
    needed = math.prod(shape) * dtype.itemsize
    if len(content) != needed:
        raise refuse(
            f"input {name!r}: {len(content)} bytes of binary data, "
            f"shape {list(shape)} of {datatype_of(dtype.name)} needs {needed}"
        )
    values = np.frombuffer(content, dtype.newbyteorder("<")).reshape(shape)
    if dtype.kind == "b" and values.view(np.uint8).max(initial=0) > 1:
        raise refuse(f"input {name!r}: a BOOL is a byte 0 or 1")
    return values if sys.byteorder == "little" else values.astype(dtype)


def from_json(raw: Any, dtype: np.dtype[Any], shape: tuple[int, ...], name: str) -> NDArray[Any]:
    """An array out of JSON numbers, flat or nested, in row-major order.

    Raises:
        CallRefused: Not as many as the shape needs, of another kind, or beyond the dtype's limits.
    """
    if not isinstance(raw, list):
        raise refuse(f"input {name!r}: data must be a list, found {type(raw).__name__}")
    try:
        values = np.array(raw)
    except (ValueError, OverflowError, TypeError):
        raise refuse(f"input {name!r}: data is not an array of numbers (rows of different length?)") from None
    if values.size != math.prod(shape):
        raise refuse(
            f"input {name!r}: data holds {values.size} numbers, shape {list(shape)} needs {math.prod(shape)}"
        )
    if values.size and values.dtype.kind not in _KINDS[dtype.kind]:
        raise refuse(f"input {name!r}: data holds {_plainly(values)}, expected {datatype_of(dtype.name)}")
    if values.size and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        low, high = int(values.min()), int(values.max())
        if low < limits.min or high > limits.max:
            raise refuse(
                f"input {name!r}: data reaches from {low} to {high}, "
                f"{datatype_of(dtype.name)} from {limits.min} to {limits.max}"
            )
    with np.errstate(over="ignore"):  # what overflows becomes infinite, and the contract refuses that
        return values.astype(dtype).reshape(shape)


def to_bytes(values: NDArray[Any]) -> bytes:
    """An output as binary data."""
    return values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()


def to_json(values: NDArray[Any]) -> Sequence[Any]:
    """An output as flat JSON numbers; what JSON cannot hold (NaN, infinity) is null."""
    flat = values.reshape(-1)
    if flat.dtype.kind == "f" and not np.isfinite(flat).all():
        flat = np.where(np.isfinite(flat), flat, None)  # type: ignore[call-overload]
    listed: list[Any] = flat.tolist()
    return listed


def _plainly(values: NDArray[Any]) -> str:
    kinds = {"b": "booleans", "i": "integers", "u": "integers", "f": "fractions", "U": "text"}
    return kinds.get(values.dtype.kind, "something that is no number, or too large for one")
