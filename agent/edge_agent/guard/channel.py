"""The tensors between a model in a child process and its proxy: one piece of shared memory, one socket.

Inputs and outputs lie in a memory file without a name, made by the child when it knows its tensors and
handed over by the socket; packets of a byte say whose turn it is. A file without a name leaves nothing
behind, whichever side is killed and how. There and back is 9 to 10 us here for the tensors of a keyword
or of a camera picture; the picture's bytes through the socket take 12 us (`benchmarks/isolation.py`).
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import ChildFailed
from edge_agent.runtimes.base import TensorShape

ALIGNMENT = 64  # a cache line: what vector instructions like
MAX_OPENING = 1 << 20  # bytes of the packet that describes the tensors
MAX_TEXT = 1000  # bytes of an error's text
RUN = b"r"
DONE = b"\0"
FAILED = b"\1"


@dataclass(frozen=True)
class Place:
    """Where one tensor lies."""

    shape: TensorShape
    offset: int


@dataclass(frozen=True)
class Layout:
    """Where all tensors lie.

    Args:
        size_bytes: Of the memory.
    """

    inputs: Mapping[str, Place]
    outputs: Mapping[str, Place]
    size_bytes: int

    @staticmethod
    def of(inputs: Mapping[str, TensorShape], outputs: Mapping[str, TensorShape]) -> Layout:
        """Put tensors one behind the other."""
        end = 0
        places: list[dict[str, Place]] = []
        for tensors in (inputs, outputs):
            found = {}
            for name, shape in tensors.items():
                found[name] = Place(shape, end)
                end = _aligned(end + _size_bytes(shape))
            places.append(found)
        return Layout(places[0], places[1], max(ALIGNMENT, end))

    def as_json(self) -> dict[str, Any]:
        """What crosses the socket."""
        return {
            "inputs": {n: [p.shape.dtype, list(p.shape.shape)] for n, p in self.inputs.items()},
            "outputs": {n: [p.shape.dtype, list(p.shape.shape)] for n, p in self.outputs.items()},
        }

    @staticmethod
    def parse(raw: Mapping[str, Any]) -> Layout:
        """The layout that the other side has worked out from the same shapes."""
        inputs, outputs = (
            {str(n): TensorShape(str(d), tuple(int(s) for s in shape)) for n, (d, shape) in raw[kind].items()}
            for kind in ("inputs", "outputs")
        )
        return Layout.of(inputs, outputs)

    def views(self, memory: mmap.mmap) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
        """Inputs and outputs as arrays in the memory."""
        return (
            {name: _view(memory, place) for name, place in self.inputs.items()},
            {name: _view(memory, place) for name, place in self.outputs.items()},
        )


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a channel; packets keep their bounds, and the end of one side is seen by the other."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.set_inheritable(True)
    return ours, theirs


def set_timeout(channel: socket.socket, timeout_s: float) -> None:
    """Wait for a packet at most so long; BlockingIOError then. 0 waits for ever.

    The kernel's own timeout: Python's asks `poll` before each `recv`, one more call into the kernel.
    """
    whole = int(timeout_s)
    value = struct.pack("@ll", whole, int((timeout_s - whole) * 1e6))
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)


def offer(channel: socket.socket, layout: Layout) -> mmap.mmap:
    """Make the memory and hand it over with its layout; the child's side."""
    handle = os.memfd_create("edge-agent-tensors", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(handle, layout.size_bytes)
        memory = mmap.mmap(handle, layout.size_bytes)
        packet = json.dumps(layout.as_json()).encode()
        socket.send_fds(channel, [packet], [handle])
    finally:
        os.close(handle)
    return memory


def refuse(channel: socket.socket, code: str, detail: str) -> None:
    """Say why there is no model; the child's side."""
    channel.send(json.dumps({"failed": code, "detail": detail[:MAX_TEXT]}).encode())


def accept(channel: socket.socket) -> tuple[Layout, mmap.mmap]:
    """Take the memory; the parent's side.

    Raises:
        BlockingIOError: Nothing came in time.
        ConnectionError: The child is gone.
        ChildFailed: It says why there is no model, or does not keep to the protocol.
    """
    packet, handles, _, _ = socket.recv_fds(channel, MAX_OPENING, 1)
    if not packet:
        raise ConnectionResetError("the child is gone")
    try:
        raw = json.loads(packet)
        if "failed" in raw:
            raise ChildFailed(str(raw["failed"]), str(raw["detail"]))
        layout = Layout.parse(raw)
        # sealed by us: reading behind the end of a file that the child has shrunk would kill this process
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(handles[0], fcntl.F_ADD_SEALS, seals)
        if os.fstat(handles[0]).st_size != layout.size_bytes:
            raise ChildFailed("no-answer", "the model's process offers memory of another size")
        return layout, mmap.mmap(handles[0], layout.size_bytes)
    except (ValueError, KeyError, TypeError, IndexError, OSError) as error:
        raise ChildFailed("no-answer", f"the model's process answered {packet[:80]!r} ({error})") from None
    finally:
        for handle in handles:
            os.close(handle)


def _view(memory: mmap.mmap, place: Place) -> NDArray[Any]:
    return np.ndarray(place.shape.shape, np.dtype(place.shape.dtype), memory, place.offset)


def _size_bytes(shape: TensorShape) -> int:
    return int(np.prod(shape.shape, dtype=np.int64)) * np.dtype(shape.dtype).itemsize


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
