"""How tensors cross between the contract's space and the artifact's: transpose, quantize, and back.

Pure arithmetic on whole batches; what the numbers mean is stated in `edge_contracts.manifest.Binding`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_contracts.manifest import Binding, TensorSpec


def artifact_shape(spec: TensorSpec, binding: Binding) -> tuple[int, ...]:
    """The shape that an input's tensor in the artifact must have: the contract's, permuted."""
    return tuple(spec.shape[axis] for axis in binding.perm or range(len(spec.shape)))


def contract_shape(binding: Binding) -> tuple[int, ...]:
    """The shape that an output has in the contract's space: the artifact's, permuted."""
    return tuple(binding.shape[axis] for axis in binding.perm or range(len(binding.shape)))


class InputBinder:
    """Contract values of one input to the artifact's codes. Not for use by two threads at once."""

    def __init__(self, spec: TensorSpec, binding: Binding) -> None:
        """Work out once what every call needs."""
        self._dtype = np.dtype(binding.dtype)
        self._axes = _batched(binding.perm)
        self._scale = None if binding.scale is None else np.float32(binding.scale)
        self._zero_point = np.float32(binding.zero_point)
        if self._scale is not None:
            limits = np.iinfo(self._dtype)
            self._low, self._high = np.float32(limits.min), np.float32(limits.max)
            # for single samples: a new large temporary each time costs page faults
            self._scratch = np.empty(spec.shape, np.float32)

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Codes of a batch.

        Rounds half to even in float32, as XNNPACK's own quantize operator does.

        Args:
            values: Shape (n, ...) as in the contract, finite.

        Returns:
            Shape (n, *artifact's tensor): row i is what the artifact takes for sample i.
        """
        if self._scale is not None:
            scratch = self._scratch if values.shape == self._scratch.shape else None
            codes = np.divide(values, self._scale, out=scratch, dtype=np.float32)
            np.rint(codes, out=codes)
            if self._zero_point:
                codes += self._zero_point
            # 3 us for a picture of 96x96x3; np.maximum and np.minimum with a number take 9 us each
            np.clip(codes, self._low, self._high, out=codes)
            values = codes
        values = values.astype(self._dtype, copy=False)[:, np.newaxis]
        if self._axes is not None:
            values = values.transpose(self._axes)
        return values if values.flags.c_contiguous else np.ascontiguousarray(values)


class OutputBinder:
    """The artifact's codes of one output to contract values."""

    def __init__(self, spec: TensorSpec, binding: Binding) -> None:
        """Work out once what every call needs."""
        self._dtype = np.dtype(spec.dtype)
        self._axes = _batched(binding.perm)
        self._scale = None if binding.scale is None else np.float32(binding.scale)
        self._zero_point = np.float32(binding.zero_point)

    def __call__(self, codes: NDArray[Any]) -> NDArray[Any]:
        """Values of a batch.

        Args:
            codes: Shape (n, *artifact's tensor).

        Returns:
            Shape (n, ...) as in the contract, in its dtype.
        """
        if self._scale is not None:
            values = codes.astype(np.float32)
            if self._zero_point:
                values -= self._zero_point
            values *= self._scale
            codes = values
        if self._axes is not None:
            codes = codes.transpose(self._axes)
        return codes[:, 0].astype(self._dtype, copy=False)


def _batched(perm: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """A permutation of one sample's axes (batch axis of size 1 included), behind a leading sample axis."""
    if perm is None or perm == tuple(range(len(perm))):
        return None
    return (0, *(axis + 1 for axis in perm))
