"""A map laid over the picture that it explains, as a PNG; Pillow is imported when one is drawn."""

from __future__ import annotations

import importlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.input.pictures import import_pillow
from edge_agent.input.view import WHOLE, View
from edge_contracts.manifest import TensorSpec
from edge_contracts.processing import Picture

LONGEST_SIDE = 1024
FOR, AGAINST = (255, 40, 0), (0, 90, 255)  # what speaks for the answer, and against it
STRONGEST = 0.65  # how much of the picture its colour hides at most
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Region:
    """A cell of a map in the picture that was handed over, in shares of its sides.

    Args:
        fall: By how much the watched figure falls without it.
    """

    left: float
    top: float
    right: float
    bottom: float
    fall: float


def regions(heat: Floats, view: View | None, most: int) -> list[Region]:
    """The cells that matter most, strongest first; those that do nothing are left out."""
    rows, columns = heat.shape
    seen = view or WHOLE
    order = np.argsort(-np.abs(heat), axis=None, kind="stable")[:most].tolist()
    found = []
    for cell in order:
        row, column = divmod(cell, columns)
        left, top = seen.point(column / columns, row / rows)
        right, bottom = seen.point((column + 1) / columns, (row + 1) / rows)
        if heat[row, column] != 0:
            found.append(Region(left, top, right, bottom, float(heat[row, column])))
    return found


def drawn(picture: Any, heat: Floats, view: View | None) -> bytes:
    """A PNG of a picture under its map.

    Args:
        picture: A Pillow picture: the one that was handed over.
    """
    pillow = import_pillow()
    picture = picture.convert("RGB")
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    width, height = picture.size
    seen = view or WHOLE
    strength = heat / max(float(np.abs(heat).max()), 1e-12)
    box = (round(seen.left * width), round(seen.top * height))
    size = (max(1, round((seen.right - seen.left) * width)), max(1, round((seen.bottom - seen.top) * height)))
    for colour, part in ((FOR, strength), (AGAINST, -strength)):
        levels = (np.clip(part, 0, 1) * STRONGEST * 255).astype(np.uint8)
        mask = pillow.new("L", picture.size, 0)
        mask.paste(pillow.fromarray(levels).resize(size, pillow.Resampling.BILINEAR), box)
        picture.paste(pillow.new("RGB", picture.size, colour), (0, 0), mask)
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def picture_of(path: Path, spec: TensorSpec, tensor: NDArray[Any] | None) -> Any:
    """What was handed over as a Pillow picture: the file, or the tensor between its own black and white.

    Args:
        tensor: One sample, where the file holds arrays.
    """
    pillow = import_pillow()
    if tensor is None:
        picture = pillow.open(path, formats=("JPEG", "PNG"))
        is_turned = isinstance(spec.prepare, Picture) and spec.prepare.upright
        return importlib.import_module("PIL.ImageOps").exif_transpose(picture) if is_turned else picture
    values = tensor.astype(np.float64)
    if spec.layout == "NCHW":
        values = values.transpose(1, 2, 0)
    if spec.color_order == "BGR":
        values = values[:, :, ::-1]
    if values.shape[2] not in (1, 3):
        values = values.mean(axis=2, keepdims=True)
    low, high = float(values.min()), float(values.max())
    levels = np.rint((values - low) / max(high - low, 1e-12) * 255).astype(np.uint8)
    picture = pillow.fromarray(levels[:, :, 0] if levels.shape[2] == 1 else np.ascontiguousarray(levels))
    larger = max(1, 256 // max(picture.size))
    return picture.resize((picture.width * larger, picture.height * larger), pillow.Resampling.NEAREST)
