"""Inputs from a pipe: .npy arrays one after the other, or bytes with their length before them.

A record that begins with NumPy's magic is an array as `numpy.save` writes it: one sample, with or without
the batch axis, or pixels. Any other begins with four bytes, its length (big-endian), and is a picture or a
sound, told by its first bytes. A record that the contract does not take costs itself; a pipe that breaks
off inside one, or claims an absurd length, ends: there is no way to find the next record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import StreamLost
from edge_agent.inference.source import Frame
from edge_agent.input.prepare import MAX_BYTES
from edge_contracts import npy
from edge_contracts.arrays import DAMAGE

_NUMPY = np.lib.format.MAGIC_PREFIX
_MEDIA = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG": "image/png",
    b"RIFF": "audio/wav",
    b"{": "application/json",
    b"[": "application/json",
}
UNKNOWN = "application/octet-stream"
_LENGTH = 4  # bytes


def pipe_frames(stream: BinaryIO, name: str, wanted: Callable[[], bool]) -> Iterator[Frame]:
    """Every record of a pipe.

    Args:
        name: For origins.
        wanted: Asked before each record; nothing of a pipe is left out.

    Raises:
        StreamLost: It breaks off inside a record, or is nothing of the kind.
    """
    number = 0
    while start := stream.read(_LENGTH):
        wanted()
        origin = f"{name}:{number}"
        if start == _NUMPY[:_LENGTH]:
            yield Frame(partial(_loaded, _array(stream, origin)), "", origin)
        else:
            payload = _payload(start, stream, origin)
            yield Frame(partial(_loaded, payload), media_type_of(payload), origin)
        number += 1


def media_type_of(payload: bytes) -> str:
    """What bytes are, by how they begin."""
    return next((kind for magic, kind in _MEDIA.items() if payload.startswith(magic)), UNKNOWN)


def _loaded(content: bytes | NDArray[Any]) -> bytes | NDArray[Any]:
    return content


def _payload(start: bytes, stream: BinaryIO, origin: str) -> bytes:
    length = int.from_bytes(start, "big")
    if len(start) < _LENGTH or not 0 < length <= MAX_BYTES:
        raise StreamLost(
            f"{origin} begins with {start!r}: neither an .npy array nor a length of 1 to {MAX_BYTES}"
        )
    return _exactly(stream, length, origin)


def _array(stream: BinaryIO, origin: str) -> NDArray[Any]:
    rest = _NUMPY[_LENGTH:]
    if _exactly(stream, len(rest), origin) != rest:
        raise StreamLost(f"{origin} begins like an .npy array and is none")
    try:
        major = _exactly(stream, 2, origin)[0]
        header = npy.read_header_after_magic(stream, major)
    except DAMAGE as error:
        raise StreamLost(f"{origin} is a damaged .npy array: {' '.join(str(error).split())[:200]}") from None
    size = header.count * header.dtype.itemsize
    if size > MAX_BYTES:
        raise StreamLost(
            f"{origin} is an array of {header.dtype} {header.shape}: more than {MAX_BYTES} bytes"
        )
    values = np.frombuffer(_exactly(stream, size, origin), header.dtype)
    return values.reshape(header.shape, order="F" if header.in_columns else "C")


def _exactly(stream: BinaryIO, size: int, origin: str) -> bytes:
    content = stream.read(size) if size else b""
    if len(content) < size:
        raise StreamLost(f"{origin} breaks off: {len(content)} of {size} bytes came")
    return content
