"""The straight way of one sample: no step that most models do not need.

For a model with one float32 input that is not transposed, and for samples that nothing has to be said of:
right in shape and dtype, finite, within the contract's range, none of its numbers to be cut off. `Straight`
sees that it is so and gives the artifact's codes; of all else it gives None, and the session goes the
general way, which refuses, flags, renames and cuts off. The codes are the same in both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.inference.binding import InputBinder
from edge_agent.inference.contract import InputCheck
from edge_contracts.features import Moments, is_large, row_moments
from edge_contracts.manifest import TensorSpec

Ready = tuple[Mapping[str, NDArray[Any]], Mapping[str, Moments] | None]
NOT_LOOKED: Mapping[str, Moments] = {}
_FLOAT32 = np.dtype(np.float32)


class Straight:
    """One model's straight way. Not for use by two threads at once.

    Args:
        spec: The model's only input.
        tensor: Of the artifact, that it is bound to.
        binder: Between the two; its scratch memory is used.
    """

    def __init__(self, spec: TensorSpec, tensor: str, binder: InputBinder) -> None:
        """Work out once what every call needs; `Straight.of` says whether there is such a way."""
        check = InputCheck(spec)
        self.name = spec.name
        self._tensor = tensor
        self._shape = spec.shape
        self._quantize = binder.single
        self._low, self._high = check.low, check.high
        if self._quantize is not None:
            self._low = max(self._low, self._quantize.low)
            self._high = min(self._high, self._quantize.high)
        self._is_large = is_large(spec.shape)
        # as unsigned numbers the bits of floats below 0 are larger than all others': where calibration saw
        # none, one look at a large sample tells both ends
        never_below = spec.value_range is not None and spec.value_range[0] >= 0 >= self._low
        self._is_unsigned = self._is_large and never_below
        self._is_wanted: Callable[[], bool] | None = None

    @staticmethod
    def of(spec: TensorSpec, tensor: str, binder: InputBinder) -> Straight | None:
        """The way, or None where there is none."""
        is_plain = spec.dtype == "float32" and not InputCheck(spec).asks_more
        return Straight(spec, tensor, binder) if is_plain and binder.is_straight else None

    def monitor(self, is_wanted: Callable[[], bool]) -> None:
        """Give the moments of a large input as well: somebody counts them.

        Args:
            is_wanted: Asked at each sample; False leaves it out.
        """
        self._is_wanted = is_wanted if self._is_large else None

    def __call__(self, values: NDArray[Any]) -> Ready | None:
        """What the artifact takes, by its tensor, good until the next call, and `Answer.moments`.

        Args:
            values: Anything that was given for the input.

        Returns:
            None where the general way must look.
        """
        if values.shape != self._shape or values.dtype != _FLOAT32 or not values.flags.c_contiguous:
            return None
        # no comparison with NaN is true, and its place is that of both ends (and of the largest bits)
        if self._is_unsigned:
            largest = values.item(values.view(np.uint32).argmax())
            if not 0 < largest <= self._high:  # below 0, -0.0 or NaN, if any of them is there
                return None
        else:
            low, largest = values.item(values.argmin()), values.item(values.argmax())
            if not (self._low <= low and largest <= self._high):
                return None
            largest = max(-low, largest)
        moments: Mapping[str, Moments] | None = NOT_LOOKED
        if self._is_wanted is not None:
            moments = {self.name: row_moments(values.reshape(-1), largest)} if self._is_wanted() else None
        codes = values if self._quantize is None else self._quantize(values)
        return {self._tensor: codes}, moments
