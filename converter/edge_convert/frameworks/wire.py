"""Messages between the converter and a framework's child process: a JSON header and named arrays.

Two lengths of eight bytes, the header, and an .npz that is read without pickle. Both ends use this
module; what the words in a header mean is between `reading.py` and the child.
"""

from __future__ import annotations

import io
import json
import os
import resource
import struct
import sys
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np

from edge_convert.errors import ConvertError
from edge_convert.graph import Array

_LENGTHS = struct.Struct(">QQ")
MAX_MESSAGE_BYTES = 4 << 30  # twice what a bundle may unpack to; a length beyond it is damage
CONTENT = "content"  # name of the array that carries a file

Header = Mapping[str, Any]
Arrays = Mapping[str, Array]
Handler = Callable[[Header, Arrays], tuple[Header, Arrays]]


def packed(header: Header, arrays: Arrays) -> bytes:
    """A message's bytes."""
    head = json.dumps(header).encode()
    body = io.BytesIO()
    np.savez(body, **arrays)  # type: ignore[arg-type]
    return _LENGTHS.pack(len(head), body.tell()) + head + body.getvalue()


def read(exactly: Callable[[int], bytes]) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read one message.

    Args:
        exactly: Gives so many bytes, or raises EOFError.

    Raises:
        EOFError: The other end is gone.
        ValueError: What came is not a message.
    """
    head_bytes, body_bytes = _LENGTHS.unpack(exactly(_LENGTHS.size))
    if head_bytes + body_bytes > MAX_MESSAGE_BYTES:
        raise ValueError(f"a message of {head_bytes + body_bytes} bytes")
    header = json.loads(exactly(head_bytes))
    with np.load(io.BytesIO(exactly(body_bytes)), allow_pickle=False) as archive:
        return header, {name: archive[name] for name in archive.files}


def file_array(content: bytes) -> Array:
    """A file's bytes as an array that a message can carry."""
    return np.frombuffer(content, np.uint8)


def serve(handlers: Mapping[str, Handler]) -> None:
    """Answer requests on the standard input until it ends; for the child.

    The standard output belongs to the protocol: what a framework prints goes to the standard error.
    Our own refusals and a missing module are answers; any other exception ends the child, and its
    last words tell the other end why. The command line's only word is the most memory it may take.
    """
    resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[1]),) * 2)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    requests = sys.stdin.buffer
    while True:
        try:
            header, arrays = read(lambda count: _exactly(requests, count))
        except EOFError:
            return
        try:
            reply, results = handlers[header["do"]](header, arrays)
        except ConvertError as error:
            reply, results = {"refused": type(error).__name__, "why": str(error)}, {}
        except ModuleNotFoundError as error:
            reply, results = {"missing": error.name or "", "why": str(error)}, {}
        answers.write(packed(reply, results))
        answers.flush()


def _exactly(stream: BinaryIO, count: int) -> bytes:
    content = stream.read(count)
    if len(content) != count:
        raise EOFError
    return content
