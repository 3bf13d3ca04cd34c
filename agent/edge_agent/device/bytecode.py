"""Whether the byte code that the installer made for the service is that of the Python which runs it.

It is not after an upgrade of the system's Python. The service then works, and compiles at each start.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from importlib.util import MAGIC_NUMBER, cache_from_source
from pathlib import Path

import edge_agent
from edge_agent.device.finding import Finding, Grade

FOLDER = "bytecode"  # of a release: deploy/install.sh
# one module of Python's own and one of ours stand for all: each upgrade replaces all of either
SAMPLES = (Path(dataclasses.__file__), Path(edge_agent.__file__).with_name("agent.py"))


def examine(release: Path | None = None, samples: Sequence[Path] = SAMPLES) -> Iterator[Finding]:
    """What there is to say; nothing where no installer has made byte code.

    Args:
        release: The environment that runs.
        samples: Sources that stand for all.
    """
    prefix = (release or Path(sys.prefix)) / FOLDER
    if not prefix.is_dir():
        return
    stale = [source for source in samples if not _is_of(source, prefix)]
    if stale:
        yield Finding(
            "byte code",
            Grade.NOTICE,
            f"{', '.join(one.name for one in stale)} and others changed since: each start compiles them",
            "run install.sh again",
        )
    else:
        yield Finding("byte code", Grade.GOOD, "is of this Python")


def _is_of(source: Path, prefix: Path) -> bool:
    """As Python itself decides it: PEP 552, and what importlib compares."""
    name = Path(cache_from_source(str(source), optimization=2)).name
    try:
        with (prefix / source.parent.relative_to("/") / name).open("rb") as compiled:
            head = compiled.read(16)
    except OSError:
        return False
    stands = source.stat()
    stamps = (int(stands.st_mtime) & 0xFFFFFFFF, stands.st_size & 0xFFFFFFFF)
    wanted = MAGIC_NUMBER + bytes(4) + b"".join(stamp.to_bytes(4, "little") for stamp in stamps)
    return head == wanted
