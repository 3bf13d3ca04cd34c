"""Arrays in NumPy's own form (`.npy`, NEP 1), read by any number of threads at once.

numpy parses the header with `ast.literal_eval`, and in CPython 3.11 two threads that do so at once may end in
"SystemError: AST constructor recursion depth mismatch", though either header is well: the depth is counted in
one place for the whole interpreter (gh-106905). So headers are parsed one after another here, and everything
that reads arrays reads them here. What follows a header is read outside the lock.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from math import prod
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

MAX_HEADER_BYTES = 10_000  # as numpy: a literal that is longer may take very long to parse
_PARSING = threading.Lock()
_READERS = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}


@dataclass(frozen=True)
class Header:
    """What an array's header claims.

    Args:
        in_columns: Whether the first index changes fastest (Fortran's order).
    """

    shape: tuple[int, ...]
    in_columns: bool
    dtype: np.dtype[Any]

    @property
    def count(self) -> int:
        """Elements, in Python's integers, which do not overflow."""
        return prod(self.shape)


def read_header(stream: IO[bytes]) -> Header:
    """Read up to the first byte of the values.

    Raises:
        ValueError: It is no header of version 1 or 2, breaks off, or is too long. Nothing is unpickled, and
            an array of objects is refused.
        OSError: The stream cannot be read.
    """
    return _parsed(stream, np.lib.format.read_magic(stream)[0])


def read_header_after_magic(stream: IO[bytes], major: int) -> Header:
    """As `read_header`, of a stream whose first 8 bytes were read already and said this major version."""
    return _parsed(stream, major)


def read_array(stream: IO[bytes], at_most: int) -> NDArray[Any]:
    """Read one array; a stream that goes on after it is left there.

    Args:
        at_most: Bytes that the stream can hold: a header that claims more takes no memory.

    Raises:
        ValueError: As `read_header`, or the values break off.
        MemoryError: It is whole, as far as that can be known, and there is no memory for it.
        OSError: The stream cannot be read.
    """
    header = read_header(stream)
    if header.count * header.dtype.itemsize > at_most:
        raise ValueError(f"claims {header.shape} of {header.dtype}, and has {at_most} bytes")
    if not header.dtype.itemsize:
        return np.zeros(header.shape, header.dtype)
    flat: NDArray[Any] = np.empty(header.count, header.dtype)
    view, filled = flat.view(np.uint8).data, 0
    while filled < len(view):
        content = stream.read(min(len(view) - filled, 1 << 20))
        if not content:
            raise ValueError(f"breaks off: {filled} of {len(view)} bytes of values")
        view[filled : filled + len(content)] = content
        filled += len(content)
    return flat.reshape(header.shape, order="F" if header.in_columns else "C")


def _parsed(stream: IO[bytes], major: int) -> Header:
    read = _READERS.get(major)
    if read is None:
        raise ValueError(f"is an .npy array of version {major}, 1 and 2 are read")
    with _PARSING:
        shape, in_columns, dtype = read(stream, max_header_size=MAX_HEADER_BYTES)
    if dtype.hasobject:
        raise ValueError("holds objects; only numbers are read, nothing is unpickled")
    if any(size < 0 for size in shape):
        raise ValueError(f"claims the shape {shape}")
    return Header(shape, in_columns, dtype)
