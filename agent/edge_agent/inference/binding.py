"""How tensors cross between the contract's space and the artifact's: transpose, quantize, and back.

Pure arithmetic on whole batches; what the numbers mean is stated in `edge_contracts.manifest.Binding`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_contracts.manifest import Binding, TensorSpec

# 1.5 * 2^23: added to a float32 of less than 2^22 it leaves no bits behind the point, and the sum's lowest
# bits are the rounded number in two's complement, half to even as everything in IEEE 754
MAGIC = 12582912


def artifact_shape(spec: TensorSpec, binding: Binding) -> tuple[int, ...]:
    """The shape that an input's tensor in the artifact must have: the contract's, permuted."""
    return tuple(spec.shape[axis] for axis in binding.perm or range(len(spec.shape)))


def contract_shape(binding: Binding) -> tuple[int, ...]:
    """The shape that an output has in the contract's space: the artifact's, permuted."""
    return tuple(binding.shape[axis] for axis in binding.perm or range(len(binding.shape)))


class InputBinder:
    """Contract values of one input to the artifact's codes. Not for use by two threads at once.

    Attributes:
        single: For one sample that needs no cutting off, where there is such a way.
    """

    def __init__(self, spec: TensorSpec, binding: Binding) -> None:
        """Work out once what every call needs."""
        self._dtype = np.dtype(binding.dtype)
        self._axes = _batched(binding.perm)
        self._scale = None if binding.scale is None else np.float32(binding.scale)
        self._zero_point = np.float32(binding.zero_point)
        self._is_same = self._scale is None and self._axes is None and binding.dtype == spec.dtype
        self.single: SingleQuantizer | None = None
        if self._scale is not None:
            limits = np.iinfo(self._dtype)
            self._low, self._high = np.float32(limits.min), np.float32(limits.max)
            # for single samples: a new large temporary each time costs page faults
            self._scratch = np.empty(spec.shape, np.float32)
            narrow = self._dtype.itemsize == 1 and limits.min <= binding.zero_point <= limits.max
            if self._axes is None and narrow and spec.dtype == "float32":
                self.single = SingleQuantizer(binding, self._scratch)

    @property
    def is_straight(self) -> bool:
        """Whether single samples within the ends of `single` need no more than it, or nothing at all."""
        return self.single is not None or self._is_same

    def row(self, values: NDArray[Any], ends: tuple[float, float]) -> NDArray[Any]:
        """Codes of a batch of one, as the artifact takes them: `self(values)[0]`, in less time.

        Args:
            ends: Smallest and largest of the values.

        Returns:
            Good until the next call.
        """
        if self.single is not None and self.single.low <= ends[0] and ends[1] <= self.single.high:
            return self.single(values)
        codes: NDArray[Any] = self(values)[0]
        return codes

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


class SingleQuantizer:
    """One sample to codes where none of its values needs to be cut off at the dtype's ends.

    Args:
        low, high: Values between which that is so.
    """

    def __init__(self, binding: Binding, scratch: NDArray[np.float32]) -> None:
        """Work out once what every call needs."""
        assert binding.scale is not None
        dtype, zero_point = np.dtype(binding.dtype), binding.zero_point
        limits = np.iinfo(dtype)
        # arrays: numpy takes half a microsecond longer to see what a scalar is
        self._scale = np.array(binding.scale, np.float32)
        self._is_whole = float(self._scale) == 1.0
        # less than half a code, for what rounding adds: the borders themselves are left to who clips
        self.low = (limits.min - zero_point - 0.49) * float(self._scale)
        self.high = (limits.max - zero_point + 0.49) * float(self._scale)
        # an odd number would make a half to even a half to odd: it is added behind
        self._magic = np.array(MAGIC + (0 if zero_point % 2 else zero_point), np.float32)
        self._odd = np.array(zero_point, dtype) if zero_point % 2 else None
        self._scratch, self._words = scratch, scratch.view(np.int32)
        self._codes = np.empty(scratch.shape, dtype)
        self._row = self._codes.reshape(binding.shape)

    def __call__(self, values: NDArray[Any]) -> NDArray[Any]:
        """Codes in the artifact's shape; written over by the next call."""
        if self._is_whole:
            np.add(values, self._magic, self._scratch)
        else:
            np.divide(values, self._scale, self._scratch)
            np.add(self._scratch, self._magic, self._scratch)
        self._codes[...] = self._words  # the lowest bits
        if self._odd is not None:
            np.add(self._codes, self._odd, self._codes)
        return self._row


class OutputBinder:
    """The artifact's codes of one output to contract values."""

    def __init__(self, spec: TensorSpec, binding: Binding) -> None:
        """Work out once what every call needs."""
        self._dtype = np.dtype(spec.dtype)
        self._axes = _batched(binding.perm)
        self._scale = None if binding.scale is None else np.float32(binding.scale)
        self._zero_point = np.float32(binding.zero_point)
        self._values: NDArray[Any] | None = None
        dtype = np.dtype(binding.dtype)
        if self._axes is None and self._scale is not None and dtype.itemsize == 1:
            # at place i what code i stands for; codes below 0 count from the end
            codes = np.arange(256, dtype=np.uint8).view(dtype)
            self._values = self(codes.reshape(256, 1))

    def row(self, codes: NDArray[Any]) -> NDArray[Any]:
        """Values of one sample: `self(codes[np.newaxis])`, in less time.

        Args:
            codes: Shape of the artifact's tensor.
        """
        return self(codes[np.newaxis]) if self._values is None else self._values.take(codes)

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
