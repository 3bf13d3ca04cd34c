"""The review ring: inputs that somebody should look at, encrypted, bounded in bytes and in number.

One file for each input, written beside and renamed: a power cut leaves it whole or not there, and a
damaged one costs itself only. Room is made before anything is written, so that the folder is never
larger than its bounds, not for a moment. Commands and the daemon may use it at the same time.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta
from numpy.typing import NDArray

from edge_agent.device.home import write_durably
from edge_agent.doubt.vault import OVERHEAD_BYTES, Vault, forget_key
from edge_agent.errors import HomeInvalid, ReviewDamaged
from edge_contracts.arrays import read_npz, write_npz
from edge_contracts.digest import Digest
from edge_contracts.errors import ContractError
from edge_contracts.model import Count, Finite, Frozen, canonical_json, parse_json

FORMAT = "edgefleet.review/1"
SUFFIX = ".review"
NEW = ".new"  # what `write_durably` writes beside
LENGTH = struct.Struct(">I")  # of the sealed head, in front of everything
_NAME = re.compile(rf"[0-9]{{12,18}}{re.escape(SUFFIX)}")
Reason = Literal["uncertain", "disagreement", "label"]


class Head(Frozen):
    """What is known of one input that is kept.

    Args:
        request: What the client called it.
        time_ms: The device's clock, Unix milliseconds.
        bundle: Digest of the model that answered.
        answer, answer_name: Class that it gave; None where the task has no classes.
        label, label_name: The right class, once somebody has said it.
        other: Class that a shadow gave ("disagreement").
    """

    format: Literal["edgefleet.review/1"] = "edgefleet.review/1"
    request: Annotated[str, Meta(max_length=300)] = ""
    time_ms: Count
    bundle: Digest
    artifact: str
    reason: Reason
    confidence: Finite | None = None
    answer: int | None = None
    answer_name: Annotated[str, Meta(max_length=200)] = ""
    label: int | None = None
    label_name: Annotated[str, Meta(max_length=200)] = ""
    other: int | None = None


@dataclass(frozen=True)
class Entry:
    """One input that is kept.

    Args:
        number: Grows with each that is kept; the smallest is the oldest.
        size_bytes: Of its file.
        damage: Why it cannot be read, "" when it can; `head` is None then.
    """

    number: int
    size_bytes: int
    head: Head | None
    damage: str = ""


@dataclass(frozen=True)
class Bounds:
    """How much may be kept.

    Args:
        max_bytes: Of all files, one that is being written included.
    """

    max_bytes: int
    max_count: int


class ReviewRing:
    """The folder of one agent.

    Args:
        folder: Made when something is kept for the first time.
        key: Key file, likewise.
    """

    def __init__(self, folder: Path, key: Path) -> None:
        """Take the places; nothing is read or written yet."""
        self._folder, self._key = folder, key

    def keep(self, head: Head, inputs: Mapping[str, NDArray[Any]], bounds: Bounds) -> bool:
        """Keep an input; the oldest ones go where room is needed.

        Returns:
            Whether it is kept: not if it alone is larger than the bounds.

        Raises:
            HomeInvalid: The disk is full or failed, or the key cannot be used.
        """
        body = write_npz(inputs)
        with self._locked():
            vault = Vault.at(self._key, make=True)
            number = max((number for number, _ in self._files()), default=-1) + 1
            while self._path(number).exists():  # something that nobody here has put there
                number += 1
            content = _sealed(vault, number, head, body)
            if not self._make_room(len(content), bounds, 1):
                return False
            write_durably(self._path(number), content)
        return True

    def label(self, request: str, class_of: Callable[[Head], tuple[int, str]], bounds: Bounds) -> Head | None:
        """Note the right class of the newest kept input of that name.

        Args:
            class_of: Says number and name of the class for what is known of the input, or refuses.

        Returns:
            What is known of it now; None when no such input is kept.

        Raises:
            FeedbackRefused: By `class_of`.
            HomeInvalid: As `keep`.
        """
        if not self._key.exists():
            return None
        with self._locked():
            vault = Vault.at(self._key, make=False)
            for number, _ in reversed(self._files()):
                try:
                    head, rest = self._open_head(vault, number)
                    if head.request != request:
                        continue
                    body = vault.open(rest, _context(number, "body"))
                except (ReviewDamaged, ContractError):
                    continue
                label, name = class_of(head)
                labelled = head.model_copy(update={"label": label, "label_name": name[:200]})
                content = _sealed(vault, number, labelled, body)
                if not self._make_room(len(content), bounds, 0, spare=number):
                    return None
                write_durably(self._path(number), content)
                return labelled
        return None

    def entries(self) -> list[Entry]:
        """All that is kept, oldest first; inputs stay encrypted.

        Raises:
            HomeInvalid: The folder or the key cannot be read.
        """
        files = self._files()
        if not files:
            return []
        vault = Vault.at(self._key, make=False)
        found = []
        for number, size_bytes in files:
            try:
                head, _ = self._open_head(vault, number)
            except (ReviewDamaged, ContractError) as error:
                found.append(Entry(number, size_bytes, None, str(error)))
            else:
                found.append(Entry(number, size_bytes, head))
        return found

    def load(self, number: int) -> tuple[Head, dict[str, NDArray[Any]]]:
        """One input with what is known of it.

        Raises:
            ReviewDamaged: It is not there (any more), damaged, or sealed with another key.
            HomeInvalid: As `entries`.
        """
        vault = Vault.at(self._key, make=False)
        head, rest = self._open_head(vault, number)
        what = _context(number, "body")
        try:
            return head, read_npz(vault.open(rest, what), what)
        except ContractError as error:
            raise ReviewDamaged(str(error)) from None

    @property
    def identity(self) -> str:
        """Changes when everything was forgotten and numbers begin anew; "" when nothing was ever kept."""
        try:
            key = self._key.read_bytes()
        except OSError:
            return ""
        return hashlib.sha256(b"edgefleet.review/1 identity" + key).hexdigest()[:16]

    def clear(self) -> int:
        """Forget everything: the key first, then the files; how many there were.

        Raises:
            HomeInvalid: Something cannot be removed.
        """
        if not self._folder.exists():
            forget_key(self._key)
            return 0
        with self._locked():
            forget_key(self._key)
            files = self._files()
            try:
                for number, _ in files:
                    self._path(number).unlink(missing_ok=True)
            except OSError as error:
                raise HomeInvalid(f"cannot empty {self._folder}: {error.strerror}") from None
        return len(files)

    def _open_head(self, vault: Vault, number: int) -> tuple[Head, bytes]:
        try:
            content = self._path(number).read_bytes()
        except FileNotFoundError:
            raise ReviewDamaged(f"no input {number} is kept (any more)") from None
        except OSError as error:
            raise HomeInvalid(f"cannot read {self._path(number)}: {error.strerror}") from None
        what = _context(number, "head")
        if len(content) < LENGTH.size:
            raise ReviewDamaged(f"{what} is cut off after {len(content)} bytes")
        (length,) = LENGTH.unpack_from(content)
        sealed, rest = content[LENGTH.size : LENGTH.size + length], content[LENGTH.size + length :]
        if len(sealed) < length or len(rest) < OVERHEAD_BYTES:
            raise ReviewDamaged(f"{what} is cut off after {len(content)} bytes")
        return parse_json(Head, vault.open(sealed, what), what, FORMAT), rest

    def _make_room(self, size_bytes: int, bounds: Bounds, more: int, spare: int = -1) -> bool:
        """Remove the oldest until so many bytes and entries more are within the bounds."""
        files = self._files()
        total, count = sum(size for _, size in files), len(files)
        if size_bytes > bounds.max_bytes or more > bounds.max_count:
            return False
        for number, size in files:
            if total + size_bytes <= bounds.max_bytes and count + more <= bounds.max_count:
                return True
            if number != spare:
                _remove(self._path(number))
                total, count = total - size, count - 1
        return total + size_bytes <= bounds.max_bytes and count + more <= bounds.max_count

    def _files(self) -> list[tuple[int, int]]:
        """Number and size of each file, oldest first."""
        found = []
        with suppress(FileNotFoundError), os.scandir(self._folder) as listing:
            for item in listing:
                if _NAME.fullmatch(item.name) and item.is_file(follow_symlinks=False):
                    with suppress(FileNotFoundError):
                        found.append((int(item.name.removesuffix(SUFFIX)), item.stat().st_size))
        return sorted(found)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:012d}{SUFFIX}"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Be the only one that changes the folder; what a power cut left half written is removed."""
        try:
            self._folder.mkdir(exist_ok=True, mode=0o700)
            handle = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise HomeInvalid(f"cannot write {self._folder}: {error.strerror}") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            for left in self._folder.glob(f"*{SUFFIX}{NEW}"):
                _remove(left)
            yield
        finally:
            os.close(handle)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise HomeInvalid(f"cannot remove {path}: {error.strerror}") from None


def _sealed(vault: Vault, number: int, head: Head, body: bytes) -> bytes:
    sealed = vault.seal(canonical_json(head), _context(number, "head"))
    return LENGTH.pack(len(sealed)) + sealed + vault.seal(body, _context(number, "body"))


def _context(number: int, part: str) -> str:
    """Binds a sealed part to its place: one cannot be put where another was."""
    return f"review {number} {part}"
