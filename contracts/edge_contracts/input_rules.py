"""The contract's checks that go beyond shape and range, as arithmetic on batches: constant samples and a
table's schema. The converter holds calibration samples to them, the device every input.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_contracts.processing import CategoryColumn, Table, width_of


def constant(values: NDArray[Any], within: float) -> NDArray[np.bool_]:
    """Which samples are the same everywhere, or nearly.

    Args:
        values: Shape (n, ...).
        within: Largest difference between two values of a constant sample.

    Returns:
        Shape (n,).
    """
    flat = values.reshape(values.shape[0], -1)
    return np.asarray(flat.max(axis=1).astype(np.float64) - flat.min(axis=1) <= within)


class Schema:
    """What a table's columns may be, in the tensor's own numbers.

    A number's low and high go through the same arithmetic as the number itself and so mean the same
    after rounding; a one-hot category is a single 1 among zeros, an index a whole number of the list.
    """

    def __init__(self, rule: Table, dtype: str) -> None:
        """Work out the bounds once."""
        lows: list[float] = []
        highs: list[float] = []
        whole: list[int] = []
        self._one_hot: list[tuple[int, int]] = []
        at = 0
        for column in rule.columns:
            width = width_of(column)
            if isinstance(column, CategoryColumn):
                is_index = column.encoding == "index"
                lows += [0.0] * width
                highs += [len(column.values) - 1.0 if is_index else 1.0] * width
                whole += range(at, at + width)
                if not is_index:
                    self._one_hot.append((at, at + width))
            else:
                low = -np.inf if column.low is None else (column.low - column.mean) / column.std
                high = np.inf if column.high is None else (column.high - column.mean) / column.std
                lows.append(low)
                highs.append(high)
            at += width
        self._low, self._high = _cast(lows, dtype), _cast(highs, dtype)
        self._whole = np.array(whole, np.intp)

    def outside(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Which samples the schema does not allow.

        Args:
            values: Shape (n, ...), finite.

        Returns:
            Shape (n,).
        """
        flat = values.reshape(values.shape[0], -1)
        wrong = np.asarray(((flat < self._low) | (flat > self._high)).any(axis=1))
        if self._whole.size:
            codes = flat[:, self._whole]
            wrong |= (codes != np.rint(codes)).any(axis=1)
        for start, stop in self._one_hot:
            wrong |= flat[:, start:stop].sum(axis=1) != 1
        return wrong


def _cast(bounds: list[float], dtype: str) -> NDArray[Any]:
    """Bounds as the tensor's numbers; integers are rounded as the values are, and compared as float64."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return np.array(bounds, np.float64).astype(kind)
    return np.rint(np.array(bounds, np.float64))
