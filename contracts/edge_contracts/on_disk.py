"""What is on the disk, and not only read from it: what a power cut leaves (POSIX: fsync)."""

from __future__ import annotations

import os
from pathlib import Path

PIECE_BYTES = 1 << 20


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable (POSIX: fsync of the directory)."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_again(path: Path) -> None:
    """Have a file on the disk as it is read, its name too; a file that is not there is none.

    After a failed sync the kernel takes what it could not write for written: the next sync succeeds, and what
    is read is not on the disk (Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC
    2020). Only what is written again is. In place, so it needs no room. Nobody else may write to it then.

    Raises:
        OSError: The disk does not take it, or is read-only.
    """
    if path.exists():
        with path.open("r+b", buffering=0) as stream:
            while piece := stream.read(PIECE_BYTES):
                stream.seek(-len(piece), os.SEEK_CUR)
                stream.write(piece)
            os.fsync(stream.fileno())
    sync_folder(path.parent)
