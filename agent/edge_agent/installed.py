"""Which version of a distribution is installed.

`importlib.metadata` says so too, and brings the whole of `email` for it: 1.1 MiB that the daemon then keeps.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path


def version(distribution: str, path: Sequence[str] | None = None) -> str:
    """Version of a distribution; what its own METADATA says, as `importlib.metadata.version` has it.

    Args:
        path: Folders of modules; `sys.path` unless given.

    Raises:
        PackageNotFoundError: It is not installed.
    """
    name = _normalized(distribution)
    for folder in sys.path if path is None else path:
        for found in sorted(Path(folder or ".").glob("*.dist-info")):
            # {name}-{version}.dist-info: packaging.python.org, "Recording installed projects"
            if _normalized(found.name.partition("-")[0]) == name and (said := _said(found / "METADATA")):
                return said
    from importlib import metadata  # eggs, finders: what is installed otherwise

    return metadata.version(distribution)


def _normalized(name: str) -> str:
    """One spelling for all of a name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _said(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("Version:"):
                    return line.removeprefix("Version:").strip()
                if not line.strip():  # the end of the header: the rest is a description
                    break
    except OSError:  # an installation that was cut off
        pass
    return ""
