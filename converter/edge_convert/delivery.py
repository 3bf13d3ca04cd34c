"""Delivery: everything that a build writes appears in the output folder at once, or nothing does.

Files are collected in a hidden folder beside their places. One rename of that folder is the moment of
commitment: a build that dies before it leaves the output as it was, and one that dies after it is finished
by the next build. What a dead build left behind is told from a living one's by a lock on its folder.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from edge_contracts.on_disk import sync_folder

_COLLECTED = ".edge-convert-new."
_COMMITTED = ".edge-convert-done."
_STOPPERS = {signal.SIGINT, signal.SIGTERM}


class Delivery:
    """Files on their way into one folder; the `with` block takes back what it did not commit."""

    def __init__(self, folder: Path) -> None:
        """Finish or clear away what dead builds left, and make the folder where it is missing.

        Raises:
            OSError: The folder cannot be made or written.
        """
        self.folder = folder
        self._made = _make(folder)
        recover(folder)
        self._stage = Path(tempfile.mkdtemp(dir=folder, prefix=_COLLECTED))
        self._lock = os.open(self._stage, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def __enter__(self) -> Delivery:
        """Nothing more to set up."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take back what was not committed, and the folders that were made for it."""
        os.close(self._lock)
        shutil.rmtree(self._stage, ignore_errors=True)
        for made in self._made:
            try:
                made.rmdir()
            except OSError:  # delivered into, or somebody else's by now
                break

    def add(self, name: str, content: bytes) -> None:
        """Put a file on the way; its name is its place in the folder.

        Raises:
            OSError: It cannot be written; the error names the file.
        """
        path = self._stage / name
        try:
            with path.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.folder / name)) from error

    def commit(self) -> None:
        """Put every file in its place, replacing older ones; what is in none of their places stays.

        Raises:
            OSError: A file's place is taken by a folder, or the disk refuses; nothing has changed.
        """
        for path in self._stage.iterdir():
            if (self.folder / path.name).is_dir():
                raise IsADirectoryError(None, "is a folder", str(self.folder / path.name))
        sync_folder(self._stage)
        with _undisturbed(), _alone(self.folder):
            ready = self.folder / (_COMMITTED + self._stage.name.removeprefix(_COLLECTED))
            os.rename(self._stage, ready)
            sync_folder(self.folder)
            _put_in_place(ready, self.folder)


def recover(folder: Path) -> None:
    """Finish what a dead build had committed, and clear away what another had not.

    Raises:
        OSError: The folder cannot be written.
    """
    with _alone(folder):
        for ready in sorted(folder.glob(f"{_COMMITTED}*")):
            _put_in_place(ready, folder)
    for stage in sorted(folder.glob(f"{_COLLECTED}*")):
        try:
            descriptor = os.open(stage, os.O_RDONLY)
        except FileNotFoundError:  # its owner ended meanwhile
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(stage, ignore_errors=True)
        except BlockingIOError:  # a living build's
            pass
        finally:
            os.close(descriptor)


def _put_in_place(ready: Path, folder: Path) -> None:
    for path in sorted(ready.iterdir()):
        os.replace(path, folder / path.name)
    ready.rmdir()
    sync_folder(folder)


def _make(folder: Path) -> list[Path]:
    """Make a folder and its parents; those that were not there, the innermost first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other build commits into the folder meanwhile."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Requests to stop wait until the files are in place; power cuts do not, and are made up for later."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
