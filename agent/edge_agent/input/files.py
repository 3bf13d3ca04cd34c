"""Input files of any kind that a contract takes: arrays as they are, pictures, sound and tables prepared."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from edge_agent.errors import InputRefused
from edge_agent.inference.source import read_payload
from edge_agent.input.prepare import SUFFIXES, Prepared, prepare
from edge_contracts.arrays import read_npz
from edge_contracts.errors import MissingExtra
from edge_contracts.manifest import Manifest


def read_file(path: Path, manifest: Manifest) -> Prepared:
    """The inputs that a file holds.

    Args:
        path: .npz for arrays by tensor name; else one of SUFFIXES, for the model's only input.

    Raises:
        InputRefused: The contract does not take it; see `prepare`.
        FormatInvalid: It cannot be read, or is no .npz of numbers.
    """
    media_type = SUFFIXES.get(path.suffix.lower())
    if media_type is None:
        return Prepared(read_npz(path))
    if len(manifest.inputs) > 1:
        names = ", ".join(repr(spec.name) for spec in manifest.inputs)
        raise InputRefused("names", f"{path.name} is one input, the model has {names}; give an .npz of all")
    return prepare(manifest, "", read_payload(path), media_type)


def require_readers(path: Path) -> None:
    """See that what reads a file is installed.

    Raises:
        MissingExtra: Pillow is not, and the file is a picture.
    """
    is_picture = SUFFIXES.get(path.suffix.lower(), "").startswith("image/")
    if is_picture and importlib.util.find_spec("PIL") is None:
        raise MissingExtra("pictures need Pillow; pip install 'edgefleet[pictures]'")
