"""Bilinear resizing as TensorFlow does it, in float32 and in its order of operations.

`tf.image.resize(method="bilinear", antialias=False)`: kernel `ResizeBilinear` with half_pixel_centers,
tensorflow/core/kernels/image/resize_bilinear_op.cc. It looks at four neighbours whatever the scale, so
that a picture which shrinks to a tenth keeps one pixel of each hundred.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def bilinear(pixels: NDArray[Any], height: int, width: int) -> Floats:
    """Resize.

    Args:
        pixels: Shape (h, w) or (h, w, channels).

    Returns:
        Shape (height, width) or (height, width, channels), not rounded.
    """
    upper, lower, down = _neighbours(pixels.shape[0], height)
    left, right, across = _neighbours(pixels.shape[1], width)
    more = (1,) * (pixels.ndim - 2)
    across = across.reshape(1, width, *more)
    down = down.reshape(height, 1, *more)
    above = _between(pixels[upper], left, right, across)
    below = _between(pixels[lower], left, right, across)
    result: Floats = above + (below - above) * down
    return result


def _between(rows: NDArray[Any], left: NDArray[np.intp], right: NDArray[np.intp], across: Floats) -> Floats:
    first = rows[:, left].astype(np.float32)
    result: Floats = first + (rows[:, right].astype(np.float32) - first) * across
    return result


def _neighbours(size: int, wanted: int) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """For each wanted place the two that it lies between, and how far it is along."""
    scale = np.float32(size) / np.float32(wanted)
    places = (np.arange(wanted, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    floor = np.floor(places)
    before = np.maximum(floor, 0).astype(np.intp)
    after = np.minimum(np.ceil(places), size - 1).astype(np.intp)
    along: Floats = places - floor
    return before, after, along
