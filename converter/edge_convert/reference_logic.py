"""What comparisons, logic and choices compute, in plain numpy; joins `reference_kernels.KERNELS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edge_convert.graph import Array, Op

Kernel = Callable[[Sequence[Array], Mapping[str, Any]], Array]


def _binary(function: Callable[[Array, Array], Array]) -> Kernel:
    return lambda inputs, attrs: function(inputs[0], inputs[1])


KERNELS: dict[Op, Kernel] = {
    Op.EQUAL: _binary(np.equal),
    Op.NOT_EQUAL: _binary(np.not_equal),
    Op.GREATER: _binary(np.greater),
    Op.GREATER_EQUAL: _binary(np.greater_equal),
    Op.LESS: _binary(np.less),
    Op.LESS_EQUAL: _binary(np.less_equal),
    Op.LOGICAL_AND: _binary(np.logical_and),
    Op.LOGICAL_OR: _binary(np.logical_or),
    Op.LOGICAL_NOT: lambda inputs, attrs: np.logical_not(inputs[0]),
    Op.SELECT: lambda inputs, attrs: np.where(inputs[0], inputs[1], inputs[2]),
}
