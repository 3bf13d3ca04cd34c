"""Samples as small pictures for a page that loads nothing: PNG files inside data addresses.

Which axis of a sample is which is the tensor contract's matter (`Port.layout`); a sample that is no
picture by that has none here.
"""

from __future__ import annotations

import struct
import zlib
from base64 import b64encode
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_convert.graph import Array, Port

SMALLEST_SIDE = 8  # what has fewer rows or columns is a signal, and no picture says anything about it
THUMBNAIL_SIDE = 64
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB = 0, 2  # PNG colour types
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class PictureAxes:
    """Where a picture's axes are in one sample without its batch axis."""

    rows: int
    columns: int
    channels: int


def picture_axes(port: Port) -> PictureAxes | None:
    """The axes of an input that is a picture, or None when it is not one."""
    if len(port.shape) != 4 or port.layout not in ("NHWC", "NCHW"):
        return None
    axes = PictureAxes(0, 1, 2) if port.layout == "NHWC" else PictureAxes(1, 2, 0)
    sides = port.shape[1 + axes.rows], port.shape[1 + axes.columns]
    return axes if min(sides) >= SMALLEST_SIDE else None


def value_range(values: Array) -> tuple[float, float]:
    """What is black and what is white: the usual range of pictures that holds all samples.

    Features that only look like pictures have none: theirs is that of all but the outermost hundredths.
    """
    low, high = float(values.min()), float(values.max())
    for usual in ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (-128.0, 127.0)):
        if usual[0] <= low and high <= usual[1]:
            return usual
    inner_low, inner_high = (float(v) for v in np.quantile(values, (0.01, 0.99)))
    low, high = (inner_low, inner_high) if inner_high > inner_low else (low, high)
    return (low, high) if high > low else (low, low + 1.0)


def pixels(sample: Array, axes: PictureAxes, span: tuple[float, float], color_order: str = "") -> Pixels:
    """A sample as pixels; one that has neither one nor three channels shows their mean.

    Args:
        sample: Without its batch axis.
        span: The values that become black and white.

    Returns:
        Shape (rows, columns, 1 or 3), at most 64 a side.
    """
    picture = np.transpose(sample, (axes.rows, axes.columns, axes.channels)).astype(np.float64)
    if picture.shape[2] not in (1, 3):
        picture = picture.mean(axis=2, keepdims=True)
    if color_order == "BGR" and picture.shape[2] == 3:
        picture = picture[:, :, ::-1]
    low, high = span
    scaled = np.clip((picture - low) / (high - low), 0.0, 1.0) * 255.0
    for axis in (0, 1):
        scaled = _shrunk(scaled, axis)
    return np.rint(scaled).astype(np.uint8)


def _shrunk(picture: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Mean over neighbours, so that no more than THUMBNAIL_SIDE are left along an axis."""
    side = picture.shape[axis]
    if side <= THUMBNAIL_SIDE:
        return picture
    starts = np.linspace(0, side, THUMBNAIL_SIDE, endpoint=False).astype(np.intp)
    widths = np.diff(np.append(starts, side))
    shape = [1, 1, 1]
    shape[axis] = THUMBNAIL_SIDE
    return np.asarray(np.add.reduceat(picture, starts, axis=axis) / widths.reshape(shape))


def png(picture: Pixels) -> bytes:
    """A PNG file (ISO/IEC 15948): eight bits a sample, no filter, one chunk of data.

    Args:
        picture: Shape (rows, columns, 1 or 3).
    """
    rows, columns, channels = picture.shape
    header = struct.pack(">IIBBBBB", columns, rows, 8, _GREY if channels == 1 else _RGB, 0, 0, 0)
    lines = np.zeros((rows, 1 + columns * channels), np.uint8)  # each line begins with its filter, none
    lines[:, 1:] = picture.reshape(rows, -1)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b"")
    return _SIGNATURE + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def data_address(picture: Pixels) -> str:
    """The picture as an address that needs no request."""
    return "data:image/png;base64," + b64encode(png(picture)).decode("ascii")
