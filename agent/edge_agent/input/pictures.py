"""From a picture to a tensor, step by step as `edge_contracts.processing.Picture` says.

Pillow decodes and, for its own filters, resizes; it is imported when the first picture comes.
"""

from __future__ import annotations

import importlib
import io
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import InputRefused
from edge_agent.input.resample import bilinear
from edge_agent.input.view import WHOLE, View
from edge_contracts.errors import MissingExtra, one_line
from edge_contracts.manifest import TensorSpec
from edge_contracts.processing import Picture

MAX_PIXELS = 50_000_000  # 150 MB as RGB: more than any camera of a device, less than would end the agent
MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})  # eight bits a channel
_FORMATS = ("JPEG", "PNG")
Pixels = NDArray[Any]


def from_bytes(payload: bytes, rule: Picture, spec: TensorSpec) -> tuple[NDArray[Any], View]:
    """One sample of an input (without its batch axis) from a file's bytes.

    Raises:
        InputRefused: "damaged", "too-large" or "picture-mode".
    """
    pillow = import_pillow()
    try:
        with warnings.catch_warnings():  # of large pictures, which are refused below
            warnings.simplefilter("ignore")
            picture = pillow.open(io.BytesIO(payload), formats=_FORMATS)
        if picture.width * picture.height > MAX_PIXELS:
            raise InputRefused(
                "too-large",
                f"a picture of {picture.width} x {picture.height} pixels, at most {MAX_PIXELS} are decoded",
            )
        if picture.mode not in MODES:
            raise InputRefused(
                "picture-mode", f"a picture of mode {picture.mode}: expected eight bits a channel"
            )
        picture.load()
        if rule.upright:
            picture = importlib.import_module("PIL.ImageOps").exif_transpose(picture)
        picture = picture.convert("L" if _channels(spec) == 1 else "RGB")
    except pillow.DecompressionBombError as error:
        raise InputRefused("too-large", f"a picture is refused: {error}") from None
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:
        # that it knows no such format Pillow says with the address of an object, which tells nobody anything
        unknown = isinstance(error, pillow.UnidentifiedImageError)
        text = f"{len(payload)} bytes that are neither" if unknown else one_line(error)
        raise InputRefused("damaged", f"not a whole JPEG or PNG picture: {text}") from None
    return _made(picture, rule, spec)


def from_pixels(pixels: NDArray[np.uint8], rule: Picture, spec: TensorSpec) -> tuple[NDArray[Any], View]:
    """One sample of an input from RGB pixels of shape (height, width, 3)."""
    picture = import_pillow().fromarray(np.ascontiguousarray(pixels))
    return _made(picture.convert("L") if _channels(spec) == 1 else picture, rule, spec)


def import_pillow() -> Any:
    """PIL.Image.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        return importlib.import_module("PIL.Image")
    except ModuleNotFoundError:
        raise MissingExtra("pictures need Pillow; pip install 'edgefleet[pictures]'") from None


def size_of(spec: TensorSpec) -> tuple[int, int]:
    """Height and width of a picture tensor."""
    _, a, b, c = spec.shape
    return (a, b) if spec.layout == "NHWC" else (b, c)


def _channels(spec: TensorSpec) -> int:
    return spec.shape[3] if spec.layout == "NHWC" else spec.shape[1]


def _made(picture: Any, rule: Picture, spec: TensorSpec) -> tuple[NDArray[Any], View]:
    pixels, view = _fitted(picture, rule, *size_of(spec))
    if pixels.ndim == 2:
        pixels = pixels[:, :, np.newaxis]
    if spec.color_order == "BGR" and pixels.shape[2] == 3:
        pixels = pixels[:, :, ::-1]
    values = pixels.astype(np.float32)
    if rule.divisor != 1:
        values /= np.float32(rule.divisor)
    if any(rule.mean):
        values -= np.array(rule.mean, np.float32)
    if any(std != 1 for std in rule.std):
        values /= np.array(rule.std, np.float32)
    if spec.dtype != "float32":
        values = np.rint(values)
    if spec.layout == "NCHW":
        values = values.transpose(2, 0, 1)
    return np.ascontiguousarray(values, np.dtype(spec.dtype)), view


def _fitted(picture: Any, rule: Picture, height: int, width: int) -> tuple[Pixels, View]:
    """Pixels of the tensor's size, 0 to 255, and what they show."""
    w, h = picture.size
    if rule.fit == "stretch":
        return _resized(picture, rule, height, width), WHOLE
    if rule.fit == "crop":
        side = rule.shorter_side or 0
        new_h, new_w = (int(h * side / w), side) if w <= h else (side, int(w * side / h))
        top, left = round((new_h - height) / 2), round((new_w - width) / 2)
        pixels = _resized(picture, rule, new_h, new_w)[top : top + height, left : left + width]
        return pixels, View(left / new_w, top / new_h, (left + width) / new_w, (top + height) / new_h)
    scale = min(height / h, width / w)
    new_h, new_w = (max(1, min(most, int(side * scale + 0.5))) for side, most in ((h, height), (w, width)))
    inner = _resized(picture, rule, new_h, new_w)
    top, left = (height - new_h) // 2, (width - new_w) // 2
    pixels = np.empty((height, width, *inner.shape[2:]), inner.dtype)
    pixels[...] = rule.pad if inner.ndim == 3 else rule.pad[0]
    pixels[top : top + new_h, left : left + new_w] = inner
    return pixels, View(-left / new_w, -top / new_h, (width - left) / new_w, (height - top) / new_h)


def _resized(picture: Any, rule: Picture, height: int, width: int) -> Pixels:
    library, _, method = rule.resample.partition("-")
    if library == "tf":
        return bilinear(np.asarray(picture), height, width)
    if picture.size == (width, height):
        return np.asarray(picture)
    return np.asarray(picture.resize((width, height), getattr(import_pillow().Resampling, method.upper())))
