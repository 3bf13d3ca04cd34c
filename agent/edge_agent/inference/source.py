"""What sources give, and inputs from a folder: .npz and .npy files, answered row by row, each file once,
and whatever files the bundle's contract takes (pictures, sound, tables).

A file that arrives later is picked up; one that changes is read again; one that is bad is refused
once and the stream goes on. Half-written files wait: names that start with a dot or end in .part or
.tmp are not looked at, and others must keep their size and time for a moment. The folder and the files
are read here; time comes in as an argument and nobody sleeps.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import SourceMissing
from edge_agent.inference.contract import ONLY_INPUT
from edge_agent.input.prepare import MAX_BYTES as MAX_PAYLOAD
from edge_agent.input.prepare import SUFFIXES
from edge_agent.input.view import View
from edge_contracts import npy
from edge_contracts.arrays import DAMAGE, read_npz
from edge_contracts.errors import FormatInvalid, NoMemory, one_line

ARRAYS = (".npz", ".npy")
UNFINISHED = (".part", ".tmp")
SETTLE_S = 0.5  # a file that kept its size and time for so long is complete
SCAN_S = 1.0  # how often the folder is looked at while there is nothing to do
MAX_BYTES = 512 << 20  # of one file, unpacked
_NPY_MAGIC = b"\x93NUMPY"


@dataclass(frozen=True, eq=False)
class Sample:
    """One input.

    Args:
        inputs: By name as in the file, shape (1, ...); a .npy file's array is called "x".
        origin: File and row, such as "day1.npz:17".
        view: Which part of a picture the model sees; None for what is no picture.
    """

    inputs: Mapping[str, NDArray[Any]]
    origin: str
    view: View | None = None


@dataclass(frozen=True, eq=False)
class Frame:
    """One input of which the open model's contract has yet to make tensors; see `input/framing.py`.

    Args:
        load: The bytes of `media_type`; without one RGB pixels, or an array as it is. It may raise
            FormatInvalid.
        refused: Told when no input could be made of it.
    """

    load: Callable[[], bytes | NDArray[Any]]
    media_type: str
    origin: str
    refused: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Missed:
    """Inputs that came and could not wait: counted, never answered.

    Args:
        reason: Such as "dropped" or "camera-lost", as windows count it.
    """

    reason: str
    count: int


@dataclass(frozen=True)
class BadFile:
    """A file that was refused, once; `code` is what telemetry counts."""

    name: str
    detail: str
    code: str = "bad-file"


@dataclass(frozen=True)
class Nothing:
    """There is no input now.

    Args:
        wait_s: Ask again after so long.
        idle: Nor will there be one soon, as far as the source knows.
    """

    wait_s: float
    idle: bool = True


Item = Sample | Frame | BadFile | Missed | Nothing


class Source(Protocol):
    """Where inputs come from: `FolderSource`, `input/stream.py`."""

    def next(self, now_s: float) -> Item:
        """What there is now."""


@runtime_checkable
class Announcing(Protocol):
    """A source that says when there is something, so that nobody has to ask."""

    def announce(self, wake: Callable[[], None]) -> None:
        """Call this, from any thread, when something has come."""


@dataclass(frozen=True)
class _Version:
    """A file as it was at one moment; another time or size is another file."""

    name: str
    mtime_ns: int
    size: int


class FolderSource:
    """A stream of samples from a folder.

    Args:
        loop: Begin again with all good files when there is nothing new.
        rate_per_s: At most so many samples a second, or None for as fast as they are asked for.

    Raises:
        SourceMissing: There is no such folder.
    """

    def __init__(self, folder: Path, loop: bool = False, rate_per_s: float | None = None) -> None:
        """Look whether the folder is there; nothing is read yet."""
        if not folder.is_dir():
            raise SourceMissing(f"{folder} is not a folder; make it and put input files into it")
        if rate_per_s is not None and not rate_per_s > 0:
            raise ValueError(f"the rate must be above 0, found {rate_per_s}")
        self._folder = folder
        self._loop = loop
        self._interval_s = 0.0 if rate_per_s is None else 1 / rate_per_s
        self._due_s = -np.inf
        self._scan_at_s = -np.inf
        self._settling: dict[_Version, float] = {}
        self._done: dict[_Version, bool] = {}  # whether it was good
        self._queue: deque[_Version] = deque()
        self._open: tuple[str, dict[str, NDArray[Any]], int, int] | None = None  # name, arrays, row, rows

    def next(self, now_s: float) -> Item:
        """What there is now.

        Args:
            now_s: Monotonic seconds.
        """
        if now_s < self._due_s:
            return Nothing(self._due_s - now_s)
        while self._open is None:
            if not self._queue:
                self._scan(now_s)
            if not self._queue and self._loop:
                self._queue.extend(version for version, good in self._done.items() if good)
            if not self._queue:
                return Nothing(max(0.0, self._scan_at_s - now_s))
            version = self._queue.popleft()
            if media_type := SUFFIXES.get(Path(version.name).suffix.lower()):
                self._wait_for_rate(now_s)
                return self._frame(version, media_type)
            if bad := self._start(version):
                return bad
        name, arrays, row, rows = self._open
        self._open = (name, arrays, row + 1, rows) if row + 1 < rows else None
        self._wait_for_rate(now_s)
        return Sample({key: values[row : row + 1] for key, values in arrays.items()}, f"{name}:{row}")

    def _wait_for_rate(self, now_s: float) -> None:
        """A rate is kept on average over short delays, but a long pause is not caught up with."""
        self._due_s = max(self._due_s, now_s - 2 * self._interval_s) + self._interval_s

    def _frame(self, version: _Version, media_type: str) -> Frame:
        """A whole file as one input, or a table's rows as one batch."""

        def refused() -> None:
            self._done[version] = False

        self._done[version] = True
        path = self._folder / version.name
        return Frame(lambda: read_payload(path), media_type, version.name, refused)

    def _scan(self, now_s: float) -> None:
        """Look for new files, and queue those that have settled, oldest first."""
        if now_s < self._scan_at_s:
            return
        present = _list(self._folder)
        self._scan_at_s = now_s + SCAN_S
        if present is None:
            return
        self._done = {version: good for version, good in self._done.items() if version in present}
        self._settling = {
            version: self._settling.get(version, now_s)
            for version in sorted(present, key=lambda v: (v.mtime_ns, v.name))
            if version not in self._done
        }
        settled = [version for version, since in self._settling.items() if now_s - since >= SETTLE_S]
        for version in settled:
            del self._settling[version]
        self._queue.extend(settled)
        if self._settling:
            self._scan_at_s = now_s + SETTLE_S

    def _start(self, version: _Version) -> BadFile | None:
        """Open a file as the one that samples come from."""
        first_time = version not in self._done
        try:
            arrays, rows = _read(self._folder / version.name)
        except (FormatInvalid, NoMemory) as error:
            self._done[version] = False
            return BadFile(version.name, str(error)) if first_time else None
        self._done[version] = True
        self._open = (version.name, arrays, 0, rows)
        return None


def read_payload(path: Path) -> bytes:
    """The bytes of a file that a contract makes an input of.

    Raises:
        FormatInvalid: It cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_PAYLOAD + 1)
    except OSError as error:
        raise FormatInvalid(f"cannot read {path}: {error.strerror or error}") from None


def _list(folder: Path) -> set[_Version] | None:
    """The files that could hold inputs; None when the folder is not there now (it may come back)."""
    try:
        names = os.listdir(folder)
    except OSError:
        return None
    found = set()
    for name in names:
        suffix = Path(name).suffix.lower()
        if name.startswith(".") or suffix in UNFINISHED or suffix not in (*ARRAYS, *SUFFIXES):
            continue
        try:
            status = (folder / name).stat()
        except OSError:
            continue  # deleted since it was listed
        if stat.S_ISREG(status.st_mode):
            found.add(_Version(name, status.st_mtime_ns, status.st_size))
    return found


def _read(path: Path) -> tuple[dict[str, NDArray[Any]], int]:
    """The arrays of a file and how many rows they have.

    Raises:
        FormatInvalid: It is not what its suffix says, or its arrays have no rows or different numbers.
    """
    is_npy = path.suffix.lower() == ".npy"
    arrays = {ONLY_INPUT: _read_npy(path)} if is_npy else read_npz(path, path.name, MAX_BYTES)
    rows = {values.shape[0] if values.ndim else 0 for values in arrays.values()}
    if len(rows) != 1 or rows == {0}:
        shapes = ", ".join(f"{name!r} {values.shape}" for name, values in arrays.items())
        raise FormatInvalid(f"{path.name}: arrays must have the same number of rows, at least 1; {shapes}")
    return arrays, rows.pop()


def _read_npy(path: Path) -> NDArray[Any]:
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > MAX_BYTES:
                raise FormatInvalid(f"{path.name} is larger than {MAX_BYTES} bytes")
            if stream.read(len(_NPY_MAGIC)) != _NPY_MAGIC:
                raise FormatInvalid(f"{path.name} is not an .npy file")
            stream.seek(0)
            array = npy.read_array(stream, size)
    except OSError as error:
        raise FormatInvalid(f"cannot read {path.name}: {error.strerror or error}") from None
    except MemoryError:
        raise NoMemory(f"{path.name}: there is no memory for it") from None
    except DAMAGE as error:
        text = one_line(error)
        raise FormatInvalid(f"{path.name} is damaged or holds objects: {text}") from None
    return array
