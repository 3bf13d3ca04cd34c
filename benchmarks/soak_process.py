"""What a soak reads of a process, besides what psutil reads."""

from __future__ import annotations

from pathlib import Path

import psutil


def anonymous_mib(pid: int) -> float:
    """Memory of a process that no file backs: its heaps and stacks, whoever else maps its libraries.

    Raises:
        FileNotFoundError: It is gone.
        NoSuchProcess: It was killed and nobody has waited for it yet: what is left of it has no memory.
    """
    _, found, rest = Path(f"/proc/{pid}/status").read_text().partition("RssAnon:")
    if not found:
        raise psutil.NoSuchProcess(pid)
    return int(rest.split()[0]) / 1024
