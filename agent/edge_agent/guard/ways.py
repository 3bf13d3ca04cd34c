"""Where a bundle could run here, asked in a child: to look for devices is to load their drivers.

A driver that crashes as it is asked takes only that child with it, and what it takes of memory goes
with the child: OpenVINO alone is 60 MB.
"""

from __future__ import annotations

from pathlib import Path

from edge_agent.errors import ChildFailed, RuntimeUnknown
from edge_agent.inference.isolation import run_child
from edge_agent.runtimes import registry
from edge_agent.runtimes.base import Runtime
from edge_agent.runtimes.choice import Option, options
from edge_contracts.manifest import Manifest

HARMLESS = "litert"  # says where it runs without loading anything
TIMEOUT_S = 120.0


def read_ways(folder: Path, manifest: Manifest, timeout_s: float = TIMEOUT_S) -> dict[Option, str]:
    """As `choice.options`.

    Args:
        folder: Of the extracted bundle.
    """
    if all(artifact.runtimes == (HARMLESS,) for artifact in manifest.artifacts):
        return options(manifest)
    try:
        told = run_child({"kind": "ways", "folder": str(folder)}, timeout_s)
    except ChildFailed as error:
        reason = str(error)

        def only_harmless(name: str) -> Runtime:
            if name != HARMLESS:
                raise RuntimeUnknown(f"looking for its devices failed: {reason}")
            return registry.load(name)

        return options(manifest, only_harmless)
    return {Option(artifact, runtime, device): missing for artifact, runtime, device, missing in told["ways"]}
