"""Explicit pads against TensorFlow's SAME and VALID: which of them, if any, says exactly the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]  # top, bottom, left, right
NO_PADS: Pads = (0, 0, 0, 0)


def same_pads(size: Pair, kernel: Pair, strides: Pair, dilations: Pair = (1, 1)) -> Pads:
    """The pads that SAME stands for: the odd pixel goes to the bottom and to the right.

    Args:
        size: Height and width of the input.
    """
    sides: list[int] = []
    for length, k, stride, dilation in zip(size, kernel, strides, dilations, strict=True):
        positions = -(-length // stride)
        total = max((positions - 1) * stride + (k - 1) * dilation + 1 - length, 0)
        sides += [total // 2, total - total // 2]
    return (sides[0], sides[1], sides[2], sides[3])


def window_fractions(size: Pair, kernel: Pair, strides: Pair, pads: Pads) -> NDArray[np.float32]:
    """How much of each pooling window lies on the image.

    Returns:
        Shape (1, out_h, out_w, 1), window area divided by the covered area: the factor that turns an
        average over zero-padded windows into one over real pixels.
    """
    height = _covered(size[0], kernel[0], strides[0], pads[0], pads[1])
    width = _covered(size[1], kernel[1], strides[1], pads[2], pads[3])
    fractions = (kernel[0] * kernel[1]) / np.outer(height, width)
    return fractions.astype(np.float32)[None, :, :, None]


def _covered(length: int, kernel: int, stride: int, before: int, after: int) -> NDArray[np.float64]:
    starts = np.arange(0, length + before + after - kernel + 1, stride) - before
    return (np.minimum(starts + kernel, length) - np.maximum(starts, 0)).astype(np.float64)
