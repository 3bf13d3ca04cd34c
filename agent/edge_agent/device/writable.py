"""Whether anything can be stored in a folder, found by storing something.

What the system says of a disk is not enough: a file system that has failed and takes nothing any more (ext4,
`errors=remount-ro`) is still mounted "rw", and a full one has room for names.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from tempfile import TemporaryFile

PROBE_BYTES = 4096  # a block
_NOT_OURS_TO_SAY = frozenset({errno.EACCES, errno.EPERM, errno.ENOENT})


def why_unwritable(folder: Path) -> str:
    """Why nothing can be stored in a folder now; "" when it can, or when this user may not try.

    Nothing is left behind.
    """
    try:
        with TemporaryFile(dir=folder) as probe:  # without a name, where the file system knows such
            probe.write(bytes(PROBE_BYTES))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        return "" if error.errno in _NOT_OURS_TO_SAY else error.strerror or str(error)
    return ""
