"""Materials: what a build reads, by digest, with what the keeper of each file says of it.

They go into the manifest's provenance and into the signed statement (`edge_contracts.statement`).
Where a file was fetched from is known to who fetched it: an `Origin` travels with the build's options.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edge_contracts.digest import digest_of_file
from edge_contracts.manifest import Material
from edge_contracts.model import canonical_json
from edge_convert.provenance import dvc
from edge_convert.recipe import Recipe

Role = Literal["source", "calibration", "evaluation", "labels"]


@dataclass(frozen=True)
class Origin:
    """Where a file comes from.

    Args:
        uri: Of the keeper, without passwords: "models:/digits/3".
        annotations: What the keeper says of it, by name.
    """

    uri: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)


NOWHERE = Origin()


def of_file(
    role: Role, path: Path, digest: str = "", size: int | None = None, origin: Origin = NOWHERE
) -> Material:
    """A file or folder that a build reads, with its version where DVC tracks it.

    Args:
        digest: When it is known already; "" reads the file.
        size: Bytes, when they are known; those of a folder must be.

    Raises:
        VersionMismatch: DVC tracks it and states another content.
    """
    version = dvc.version_of(path)
    if version is not None:
        uri = origin.uri or f"dvc:md5:{version.md5}"
        origin = Origin(uri, {**version.annotations, "dvc_md5": version.md5, **origin.annotations})
    return Material(
        role=role,
        name=path.name,
        digest=digest or digest_of_file(path),
        bytes=path.stat().st_size if size is None else size,
        uri=origin.uri,
        annotations=origin.annotations,
    )


def of_recipe(recipe: Recipe) -> Material:
    """A recipe: its digest is that of its canonical form, so comments do not count."""
    return Material(role="recipe", name=recipe.name, digest=recipe.digest, bytes=len(canonical_json(recipe)))


def environment() -> dict[str, str]:
    """What of this machine and interpreter may bear on the result; nothing that changes from run to run."""
    return {
        "implementation": platform.python_implementation(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "system": platform.system(),
    }
