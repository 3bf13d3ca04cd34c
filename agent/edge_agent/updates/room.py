"""Room on the disk that is taken before a download begins, so that nothing else can take it meanwhile.

A file of the size that will be needed (`posix_fallocate`) lies beside the part and shrinks as the part
grows. Without room there is no download: better a clear word at once than a disk that is full for the
outbox and the state, too, after an hour on a metered link.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from edge_agent.errors import HomeInvalid, NoSpace

# Left free for the state, the outbox and whatever else lies on the device.
RESERVE_BYTES = 32 << 20
NAME = "room"


def require_space(folder: Path, needed_bytes: int, free_bytes: Callable[[Path], int] | None = None) -> None:
    """See that a disk can take so much more and still has its reserve.

    Raises:
        NoSpace: It cannot.
    """
    free = (free_bytes or _free)(folder)
    if free < needed_bytes + RESERVE_BYTES:
        raise NoSpace(
            f"{folder} has {free} bytes free, needed are {needed_bytes} and a reserve of {RESERVE_BYTES}"
        )


class Room:
    """Bytes of a folder's disk that are kept for what is to come.

    Args:
        folder: Where the file lies.
    """

    def __init__(self, folder: Path) -> None:
        """Take the folder; nothing is reserved yet."""
        self._path = folder / NAME

    def reserve(self, count: int, free_bytes: Callable[[Path], int] | None = None) -> None:
        """Take so many bytes, instead of what was taken before.

        Raises:
            NoSpace: The disk does not have them and its reserve.
            HomeInvalid: The disk failed.
        """
        self.give_back()
        require_space(self._path.parent, count, free_bytes)
        if count <= 0:
            return
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(handle, 0, count)
            finally:
                os.close(handle)
        except OSError as error:
            self.give_back()
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise NoSpace(f"{self._path.parent} cannot take {count} bytes more") from None
            raise HomeInvalid(f"cannot write {self._path}: {error.strerror}") from None

    def shrink_to(self, count: int) -> None:
        """Keep so many bytes and give the others to what is written now."""
        try:
            if count <= 0:
                self.give_back()
            elif self._path.stat().st_size > count:
                os.truncate(self._path, count)
        except FileNotFoundError:
            return
        except OSError as error:
            raise HomeInvalid(f"cannot write {self._path}: {error.strerror}") from None

    def give_back(self) -> None:
        """Keep nothing."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise HomeInvalid(f"cannot remove {self._path}: {error.strerror}") from None


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free
