"""Finding a runtime by its name: a file of this folder, or an entry point of another distribution.

Both are imported only when they are asked for. A vendor's runtime needs no change here: a package with
an entry point `NAME = package.module:RUNTIME` in the group `edgefleet.runtimes` is enough.
"""

from __future__ import annotations

import importlib
from importlib import resources
from typing import cast

from edge_agent.errors import RuntimeUnknown
from edge_agent.runtimes.base import Runtime

GROUP = "edgefleet.runtimes"
_NOT_RUNTIMES = {"__init__", "base", "choice", "registry"}


def names() -> list[str]:
    """Every runtime that this release brings, installed or not, sorted."""
    entries = (entry.name for entry in resources.files("edge_agent.runtimes").iterdir())
    return sorted({name.removesuffix(".py") for name in entries if name.endswith(".py")} - _NOT_RUNTIMES)


def load(name: str) -> Runtime:
    """The runtime of that name; ours go first. What it wraps is imported when it is asked about devices.

    Raises:
        RuntimeUnknown: There is no such runtime.
    """
    if name not in names():
        from importlib import metadata  # a megabyte: only for a runtime that is not ours

        for entry in metadata.entry_points(group=GROUP, name=name):
            return cast(Runtime, entry.load())
        raise RuntimeUnknown(
            f"the bundle wants runtime {name!r}, this release has {', '.join(names())}; update edgefleet"
        )
    return cast(Runtime, importlib.import_module(f"edge_agent.runtimes.{name}").RUNTIME)
