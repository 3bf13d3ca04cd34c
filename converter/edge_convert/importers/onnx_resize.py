"""ONNX Resize: the graph's two resizes where they say the same pixels, else copies, else a refusal.

ONNX has five ways to map coordinates and four to round them; with every size known, the positions
are worked out here and compared with what the target's operator would read.
"""

from __future__ import annotations

import math

import numpy as np

from edge_convert.graph import Array, Op, Tensor
from edge_convert.importers.onnx_builder import Builder, Call, Handler, axis_of
from edge_convert.reference_kernels import nearest_indices, resize_positions
from edge_convert.shapes import is_sane

# (align_corners, half_pixel_centers), the plain form first
_MODES = ((False, False), (False, True), (True, False))


def _positions(call: Call, size: int, out: int, scale: float) -> Array:
    """Where each output pixel lies on the input axis, float64."""
    mode = call.attrs.get("coordinate_transformation_mode", "half_pixel")
    steps = np.arange(out, dtype=np.float64)
    if mode == "half_pixel" or (mode == "pytorch_half_pixel" and out > 1):
        return (steps + 0.5) / scale - 0.5
    if mode == "half_pixel_symmetric":
        # the specification: keeps the centre where it is when size * scale was rounded down
        offset = size / 2 * (1 - out / (scale * size))
        return offset + (steps + 0.5) / scale - 0.5
    if mode == "asymmetric":
        return steps / scale
    if mode == "align_corners":
        # the specification: with scales, the length before it was rounded down
        length = size * scale
        return steps * ((size - 1) / (length - 1)) if length > 1 else np.zeros(out)
    if mode == "pytorch_half_pixel":
        return np.zeros(1)
    raise call.refuse(f"coordinate_transformation_mode {mode!r} is not supported")


def _nearest(call: Call, positions: Array, size: int) -> Array:
    mode = call.attrs.get("nearest_mode", "round_prefer_floor")
    rounded = {
        "floor": np.floor(positions),
        "ceil": np.ceil(positions),
        "round_prefer_floor": np.ceil(positions - 0.5),
        "round_prefer_ceil": np.floor(positions + 0.5),
    }
    if mode not in rounded:
        raise call.refuse(f"nearest_mode {mode!r} is not one of {', '.join(rounded)}")
    return np.clip(rounded[mode], 0, size - 1).astype(np.int64)


def _sizes_and_scales(b: Builder, call: Call, shape: tuple[int, ...]) -> tuple[list[int], list[float]]:
    rank = len(shape)
    axes = [axis_of(call, int(a), rank) for a in call.attrs.get("axes", range(rank))]
    sizes, scales = list(shape), [1.0] * rank
    if call.has(3):
        stated = b.integers(call, 3, "the sizes")
        if call.attrs.get("keep_aspect_ratio_policy", "stretch") != "stretch":
            raise call.refuse("keep_aspect_ratio_policy is not supported")
        for axis, size in zip(axes, stated, strict=True):
            sizes[axis], scales[axis] = size, size / shape[axis]
    elif call.has(2):
        for axis, scale in zip(axes, np.ravel(b.elements(call, 2, "the scales")), strict=True):
            scales[axis] = float(scale)
            sizes[axis] = math.floor(shape[axis] * float(scale) + 1e-6)
    else:
        raise call.refuse("neither sizes nor scales are given")
    return sizes, scales


def resize(b: Builder, call: Call) -> Tensor:
    """Resize of height and width, nearest or linear."""
    x = b.operand(call, 0)
    rank = len(x.shape)
    sizes, scales = _sizes_and_scales(b, call, x.shape)
    mode = call.attrs.get("mode", "nearest")
    if call.attrs.get("antialias", 0):
        raise call.refuse("antialias=1 is not supported")
    if rank not in (3, 4) or sizes[:2] != list(x.shape[:2]):
        raise call.refuse(f"resizing {x.shape} to {tuple(sizes)}; only height and width may change")
    if not is_sane(sizes):
        raise call.refuse(f"resizing {x.shape} to {tuple(sizes)}; that is no picture")
    if sizes == list(x.shape):
        return x
    image = b.channels_last(x)
    if rank == 3:
        sizes, scales = [*sizes[:2], 1, sizes[2]], [1.0, 1.0, 1.0, scales[2]]
    size = (sizes[2], sizes[3])
    positions = [
        _positions(call, n, o, s) for n, o, s in zip(image.shape[1:3], size, scales[2:], strict=True)
    ]
    if mode == "nearest":
        y = _resize_nearest(b, call, image, size, positions)
    elif mode == "linear":
        y = _resize_linear(b, call, image, size, positions)
    else:
        raise call.refuse(f"mode {mode!r}; expected nearest or linear")
    return b.channels_first(y, rank)


def _resize_nearest(b: Builder, call: Call, image: Tensor, size: tuple[int, int], at: list[Array]) -> Tensor:
    wanted = [_nearest(call, p, n) for p, n in zip(at, image.shape[1:3], strict=True)]
    for modes in _MODES:
        if all(
            np.array_equal(nearest_indices(n, o, *modes), w)
            for n, o, w in zip(image.shape[1:3], size, wanted, strict=True)
        ):
            return b.add(
                Op.RESIZE_NEAREST, image, size=size, align_corners=modes[0], half_pixel_centers=modes[1]
            )
    return b.take(b.take(image, wanted[0], 1), wanted[1], 2)


def _resize_linear(b: Builder, call: Call, image: Tensor, size: tuple[int, int], at: list[Array]) -> Tensor:
    def on_axis(positions: Array, n: int) -> Array:
        return np.clip(positions, 0, n - 1)

    for modes in (_MODES[1], _MODES[2], _MODES[0]):
        if all(
            np.allclose(on_axis(resize_positions(n, o, *modes), n), on_axis(p, n), atol=1e-5)
            for n, o, p in zip(image.shape[1:3], size, at, strict=True)
        ):
            return b.add(
                Op.RESIZE_BILINEAR, image, size=size, align_corners=modes[0], half_pixel_centers=modes[1]
            )
    raise call.refuse(
        f"linear resizing of {image.shape[1:3]} to {size} in mode "
        f"{call.attrs.get('coordinate_transformation_mode', 'half_pixel')!r} with these scales has no equal"
    )


HANDLERS: dict[str, Handler] = {"Resize": resize}
