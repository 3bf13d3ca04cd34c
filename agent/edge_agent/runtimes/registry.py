"""Finding a runtime by its name: a file of this folder, imported only when it is asked for."""

from __future__ import annotations

import importlib
from importlib import resources
from typing import cast

from edge_agent.errors import RuntimeUnknown
from edge_agent.runtimes.base import Runtime

_NOT_RUNTIMES = {"__init__", "base", "choice", "registry"}


def names() -> list[str]:
    """Every runtime that this release has, installed or not, sorted."""
    entries = (entry.name for entry in resources.files("edge_agent.runtimes").iterdir())
    return sorted({name.removesuffix(".py") for name in entries if name.endswith(".py")} - _NOT_RUNTIMES)


def load(name: str) -> Runtime:
    """The runtime of that name. What it wraps is imported later, when it is asked about devices.

    Raises:
        RuntimeUnknown: There is no such runtime.
    """
    if name not in names():
        raise RuntimeUnknown(
            f"the bundle wants runtime {name!r}, this release has {', '.join(names())}; update edgefleet"
        )
    return cast(Runtime, importlib.import_module(f"edge_agent.runtimes.{name}").RUNTIME)
