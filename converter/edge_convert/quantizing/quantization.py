"""Quantization parameters of a graph's tensors: the value that travels beside the float graph.

Who chooses them is `quantize.py`; who writes them into a file are the emitters. A tensor that is
not named here stays float.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edge_convert.graph import Graph, constant


@dataclass(frozen=True, eq=False)
class QuantParams:
    """Affine quantization: real = scale * (code - zero_point).

    Jacob et al., arXiv:1712.05877, eq. 1.

    Args:
        scale: Shape () per tensor or (channels,) along `axis`; real units per code, positive.
        zero_point: Same shape, the code of real 0.
        dtype: "int8" for activations and weights, "int32" for biases.
        axis: The channel axis, or None per tensor.
    """

    scale: NDArray[np.float32]
    zero_point: NDArray[np.int32]
    dtype: str = "int8"
    axis: int | None = None


@dataclass(frozen=True, eq=False)
class Quantization:
    """Which tensors are integers, and how.

    Args:
        params: By tensor name: activations, weights and biases.
        codes: Integer elements of quantized constants by name, when they are not the plain
            rounding of the float constant (adaptive rounding, bias correction).
        float_nodes: Names of nodes that stay in float; the emitter puts conversions around them.
        whole: Names of nodes that are written as one operator, whatever a CPU runs faster.
        constants: Float constants by name that take the place of the graph's own, in float nodes, too: the
            same network with its channels scaled (`equalize.py`).
    """

    params: Mapping[str, QuantParams]
    codes: Mapping[str, NDArray[np.int32] | NDArray[np.int8]] = field(default_factory=dict)
    float_nodes: frozenset[str] = frozenset()
    whole: frozenset[str] = frozenset()
    constants: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


def with_constants(graph: Graph, quantization: Quantization) -> Graph:
    """The float network that a quantization belongs to: the graph with the constants that it brings."""
    if not quantization.constants:
        return graph
    made = {name: constant(name, data) for name, data in quantization.constants.items()}
    return replace(graph, tensors=dict(graph.tensors) | made)


def equal(one: Quantization, other: Quantization) -> bool:
    """Whether two quantizations are the same to the last bit."""
    return (
        (one.float_nodes, one.whole) == (other.float_nodes, other.whole)
        and one.params.keys() == other.params.keys()
        and one.codes.keys() == other.codes.keys()
        and all(_equal_params(params, other.params[name]) for name, params in one.params.items())
        and all(np.array_equal(codes, other.codes[name]) for name, codes in one.codes.items())
        and one.constants.keys() == other.constants.keys()
        and all(np.array_equal(data, other.constants[name]) for name, data in one.constants.items())
    )


def _equal_params(one: QuantParams, other: QuantParams) -> bool:
    return (
        (one.dtype, one.axis) == (other.dtype, other.axis)
        and np.array_equal(one.scale, other.scale)
        and np.array_equal(one.zero_point, other.zero_point)
    )


def quantize(values: NDArray[np.float32], params: QuantParams) -> NDArray[np.int8] | NDArray[np.int32]:
    """Real values to codes: round half to even, saturate at the type's limits.

    Args:
        values: Any shape; if `params.axis` is set its size there is that of `params.scale`.
    """
    info = np.iinfo(params.dtype)
    shape = [1] * values.ndim
    if params.axis is not None:
        shape[params.axis] = -1
    scale = params.scale.astype(np.float64).reshape(shape)
    zero = params.zero_point.astype(np.float64).reshape(shape)
    codes = np.rint(values.astype(np.float64) / scale) + zero
    return np.clip(codes, info.min, info.max).astype(params.dtype)


def dequantize(codes: NDArray[np.integer], params: QuantParams) -> NDArray[np.float32]:
    """Codes to real values, float32; the inverse of `quantize` up to rounding."""
    shape = [1] * codes.ndim
    if params.axis is not None:
        shape[params.axis] = -1
    scale = params.scale.astype(np.float64).reshape(shape)
    zero = params.zero_point.astype(np.float64).reshape(shape)
    return ((codes.astype(np.float64) - zero) * scale).astype(np.float32)
