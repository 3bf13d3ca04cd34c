"""Ranges and scales: from what was seen of a tensor to the real interval that int8 codes will cover.

One function per rule of a recipe. Which tensors must share a range, and which are fixed by a kernel,
is `quantize.py`'s matter.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge_convert.graph import Array
from edge_convert.quantizing.quantization import QuantParams
from edge_convert.quantizing.statistics import Extent, TensorStatistics
from edge_convert.recipe import ActivationRule, WeightRule

Range = tuple[float, float]

_LEVELS = 256
LARGEST_WEIGHT_CODE = 127  # symmetric: -128 is left out, so that negating a weight never saturates
# The smallest step a scale may have: below it integer kernels cannot express the rescaling (XNNPACK
# wants input * weight / output scale above 2**-32).
_SMALLEST_SCALE = 2.0**-60
# One channel's scale may be this much below the largest: finer steps than that buy nothing, and a dead
# channel must not ask for a rescaling that kernels cannot do.
_CHANNEL_SPREAD = 2.0**-16
# A bias must fit int32 with room to be corrected.
_LARGEST_BIAS_CODE = 2.0**30


def range_of(seen: Extent, rule: ActivationRule, may_clip: bool) -> Range:
    """The interval that a tensor asks for.

    Args:
        seen: With counts where values may be left out.
        may_clip: Whether any value may be left out.
    """
    if rule.range == "minmax" or not may_clip:
        return seen.minimum, seen.maximum
    assert isinstance(seen, TensorStatistics), f"the rule {rule.range!r} needs counts"
    return CLIPPING_RULES[rule.range](seen, rule)


def percentile(seen: TensorStatistics, rule: ActivationRule) -> Range:
    """All but a share of the values at either end."""
    assert rule.percentile is not None
    return seen.quantile(1.0 - rule.percentile / 100.0), seen.quantile(rule.percentile / 100.0)


def least_squares(seen: TensorStatistics, rule: ActivationRule) -> Range:
    """The range with the least expected squared error of rounding and clipping together.

    Rounding costs scale**2 / 12 for every value inside that is not exactly zero; clipping costs the
    squared distance to the end. Both ends are searched together, in 64ths of what was seen.
    """
    centers, counts = seen.centers, seen.counts.astype(np.float64)
    steps = np.arange(16, 65) / 64.0
    highs = steps * max(seen.maximum, 0.0)
    lows = steps * min(seen.minimum, 0.0)
    above, clipped_above = _beyond(centers, counts, highs)
    below, clipped_below = _beyond(-centers[::-1], counts[::-1], -lows)
    scales = (highs[:, None] - lows[None, :]) / (_LEVELS - 1)
    inside = seen.total - seen.zeros - clipped_above[:, None] - clipped_below[None, :]
    errors = above[:, None] + below[None, :] + np.maximum(inside, 0.0) * scales**2 / 12.0
    # of equals the widest: the last in either direction
    flipped = errors[::-1, ::-1]
    at_high, at_low = np.unravel_index(int(np.argmin(flipped)), flipped.shape)
    return float(lows[::-1][at_low]), float(highs[::-1][at_high])


def _beyond(
    centers: NDArray[np.float64], counts: NDArray[np.float64], ends: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Squared distance of the bins above each end, summed over their elements, and how many those are."""
    sums = [np.append(np.cumsum((counts * centers**p)[::-1])[::-1], 0.0) for p in (0, 1, 2)]
    first = np.searchsorted(centers, ends, side="right")
    number, total, squares = (s[first] for s in sums)
    return np.maximum(squares - 2 * ends * total + ends**2 * number, 0.0), number


CLIPPING_RULES: dict[str, Callable[[TensorStatistics, ActivationRule], Range]] = {
    "percentile": percentile,
    "mse": least_squares,
}


def activation_params(low: float, high: float) -> QuantParams:
    """Asymmetric int8 parameters whose codes cover the range and have an exact code for 0.

    Jacob et al., arXiv:1712.05877, section 3. The scale is rounded up to 12 significant bits, so that
    the last bits of a float sum, which differ between CPUs, rarely reach the file.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = _rounded_up((high - low) / (_LEVELS - 1)) if high > low else 1.0
    zero_point = np.clip(np.rint(-128 - low / scale), -128, 127)
    return QuantParams(np.asarray(scale, np.float32), np.asarray(zero_point, np.int32))


def _rounded_up(scale: float) -> float:
    mantissa, exponent = np.frexp(max(scale, _SMALLEST_SCALE))
    return float(np.ldexp(np.ceil(mantissa * 4096.0) / 4096.0, exponent))


def weight_params(
    weights: Array, axis: int | None, rule: WeightRule, bias: Array | None, input_scale: float
) -> QuantParams:
    """Symmetric int8 parameters of weights.

    Args:
        axis: Of the output channels, or None for one scale.
        bias: Shape (channels,); a scale is raised until its code fits int32.
    """
    rows = (
        weights.reshape(1, -1)
        if axis is None
        else np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1)
    )
    largest = np.abs(rows).max(axis=1).astype(np.float64)
    scale = largest / LARGEST_WEIGHT_CODE
    if rule.range == "mse":
        scale = scale * _best_shrink(rows.astype(np.float64), largest)
    floor = max(float(scale.max()) * _CHANNEL_SPREAD, _SMALLEST_SCALE)
    scale = np.maximum(scale, floor if scale.max() > 0 else 1.0)
    if bias is not None:
        needed = np.abs(bias.reshape(-1).astype(np.float64)) / (_LARGEST_BIAS_CODE * input_scale)
        scale = np.maximum(scale, needed.max() if axis is None else needed)
    scale = scale.astype(np.float32)
    if axis is None:
        return QuantParams(scale[0], np.zeros((), np.int32))
    return QuantParams(scale, np.zeros(scale.shape, np.int32), axis=axis)


def _best_shrink(rows: NDArray[np.float64], largest: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each row the factor on its largest weight that gives the least squared error, 0.5 to 1."""
    best = np.ones(len(rows))
    best_error = np.full(len(rows), np.inf)
    for factor in np.arange(64, 31, -1) / 64.0:
        scale = np.where(largest > 0, largest * factor / LARGEST_WEIGHT_CODE, 1.0)[:, None]
        codes = np.clip(np.rint(rows / scale), -LARGEST_WEIGHT_CODE, LARGEST_WEIGHT_CODE)
        error = ((codes * scale - rows) ** 2).sum(axis=1)
        better = error < best_error
        best = np.where(better, factor, best)
        best_error = np.where(better, error, best_error)
    return best


def weight_codes(weights: Array, params: QuantParams) -> NDArray[np.int8]:
    """Codes of weights, -127 to 127, rounded half to even."""
    shape = [1] * weights.ndim
    if params.axis is not None:
        shape[params.axis] = -1
    codes = np.rint(weights.astype(np.float64) / params.scale.astype(np.float64).reshape(shape))
    return np.clip(codes, -LARGEST_WEIGHT_CODE, LARGEST_WEIGHT_CODE).astype(np.int8)
