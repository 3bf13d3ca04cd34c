"""From bytes to an input, as the signed tensor contract says.

`prepare` is for whoever is handed bytes with a media type (HTTP, a message, a file); `prepare_pixels` for
who has pixels already (a camera). What the rules mean is written in `edge_contracts.processing`; the
arithmetic is in `pictures.py`, `sound.py` and `table.py`. Nothing here has a state: any thread may call it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import InputRefused
from edge_agent.input import table
from edge_agent.input.view import View
from edge_contracts.inference_bodies import MEDIA
from edge_contracts.manifest import Manifest, TensorSpec
from edge_contracts.processing import Picture, Sound, Table

SUFFIXES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".wav": "audio/wav",
    ".csv": "text/csv",
    ".json": "application/json",
}  # what the files of each are called, for those who have a name instead of a media type
MAX_BYTES = 64 << 20  # of one payload


@dataclass(frozen=True, eq=False)
class Prepared:
    """An input that is ready for a session.

    Args:
        inputs: The one tensor by its name, shape (n, ...) in the contract's space: n is 1 for a picture, the
            number of rows of a table, the number of windows of a sound.
        view: Which part of the picture the model sees, for `interpret`; None for what is no picture.
    """

    inputs: Mapping[str, NDArray[Any]]
    view: View | None = None


def prepare(manifest: Manifest, name: str, payload: bytes, media_type: str) -> Prepared:
    """Make an input from bytes.

    Args:
        name: Of the input tensor; "" (or "x") for a model's only one.
        media_type: Such as "image/jpeg"; parameters behind a semicolon are not looked at.

    Raises:
        InputRefused: "names" (no such input), "media-type" (the contract does not take that), "too-large",
            "damaged" (the bytes are not what the media type says), "picture-mode", "sound-format",
            "sound-rate", "sound-length", or "column" (a table's column is missing or a cell is not its kind).
        MissingExtra: Pictures need Pillow.
    """
    spec = spec_of(manifest, name)
    kind, _, _ = media_type.lower().partition(";")
    rule = rule_of(spec, kind.strip())
    if len(payload) > MAX_BYTES:
        raise InputRefused(
            "too-large", f"input {spec.name!r} has {len(payload)} bytes, at most {MAX_BYTES} are read"
        )
    if isinstance(rule, Picture):
        from edge_agent.input import pictures

        values, view = pictures.from_bytes(payload, rule, spec)
        return Prepared({spec.name: values[np.newaxis]}, view)
    if isinstance(rule, Sound):
        from edge_agent.input import sound

        return Prepared({spec.name: sound.from_wav(payload, rule, spec)})
    read = table.from_csv if kind.strip() == "text/csv" else table.from_json
    return Prepared({spec.name: read(payload, rule, spec)})


def prepare_pixels(manifest: Manifest, name: str, pixels: NDArray[np.uint8]) -> Prepared:
    """Make an input from the pixels of a frame.

    Args:
        pixels: RGB, shape (height, width, 3).

    Raises:
        InputRefused: "names", or "media-type": the contract takes no pictures.
        MissingExtra: Pillow is needed.
    """
    from edge_agent.input import pictures

    spec = spec_of(manifest, name)
    rule = rule_of(spec, MEDIA["picture"][0])
    if not isinstance(rule, Picture):
        raise AssertionError("only pictures are made from pixels")
    values, view = pictures.from_pixels(pixels, rule, spec)
    return Prepared({spec.name: values[np.newaxis]}, view)


def spec_of(manifest: Manifest, name: str) -> TensorSpec:
    """An input of the contract by its name.

    Raises:
        InputRefused: "names".
    """
    for spec in manifest.inputs:
        if spec.name == name or (len(manifest.inputs) == 1 and name in ("", "x")):
            return spec
    known = ", ".join(repr(spec.name) for spec in manifest.inputs)
    raise InputRefused("names", f"no input is called {name!r}; there is {known}")


def prepares_alike(one: Manifest, other: Manifest) -> bool:
    """Whether bytes become the same input of both models."""
    return _rules(one) == _rules(other)


def rule_of(spec: TensorSpec, media_type: str) -> Picture | Sound | Table:
    """The rule by which an input is made from a media type.

    Raises:
        InputRefused: "media-type".
    """
    if spec.prepare is None:
        raise InputRefused(
            "media-type",
            f"input {spec.name!r} takes arrays only: its bundle does not say how {media_type or 'bytes'} "
            "becomes it (edge-convert build --processing)",
        )
    taken = MEDIA[spec.prepare.kind]
    if media_type not in taken:
        raise InputRefused(
            "media-type",
            f"input {spec.name!r} is a {spec.prepare.kind}: {' or '.join(taken)}, not {media_type!r}",
        )
    return spec.prepare


def _rules(manifest: Manifest) -> list[tuple[object, ...]]:
    return [(s.name, s.dtype, s.shape, s.layout, s.color_order, s.prepare) for s in manifest.inputs]
