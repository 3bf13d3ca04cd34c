"""int8 operators written as several others, because those are the faster ones on a CPU.

XNNPACK has no int8 kernel for RELU, RELU6, PRELU and HARD_SWISH, and what LiteRT runs instead works
element by element, many times slower than float; `benchmarks/int8_operators.py` prints by how much. The
answers stay within one code of the single operator's. A node that an accelerator runs as it is
(`Quantization.whole`) is not split.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge_convert.emitters.tflite_lowering import Form
from edge_convert.quantizing.quantization import QuantParams

if TYPE_CHECKING:
    from edge_convert.emitters.tflite_ops import Step

_LOWEST, _HIGHEST = -128, 127


def relu(step: Step, ceiling: float | None) -> bool:
    """A change of scale whose lowest code is 0 (and whose highest is the ceiling): saturation does the rest.

    Returns:
        Whether it was written.
    """
    params = _params(step)
    if params is None:
        return False
    _, found = params
    if int(found.zero_point) != _LOWEST:
        return False
    if ceiling is not None and np.rint(ceiling / float(found.scale)) + _LOWEST < _HIGHEST:
        return False
    step.write("QUANTIZE", [step.source()], step.target())
    return True


def prelu(step: Step) -> bool:
    """max(x, 0) + slope * min(x, 0); one of the two is always 0, so that the sum rounds nothing.

    Returns:
        Whether it was written.
    """
    params = _params(step)
    if params is None or len(step.output_shape) > 4:  # int8 kernels broadcast no further
        return False
    given, found = params
    source, slope = step.sources()
    zero = step.number("zero", np.zeros((1,) * len(step.output_shape), np.float32), given)
    below, above = (step.temporary(part, step.shape(), given) for part in ("below", "above"))
    bent = step.temporary("bent", step.output_shape, found)
    step.write("MINIMUM", [source, zero], below, schema.MaximumMinimumOptionsT())
    step.write("MAXIMUM", [source, zero], above, schema.MaximumMinimumOptionsT())
    step.write("MUL", [below, slope], bent, schema.MulOptionsT())
    step.write("ADD", [above, bent], step.target(), schema.AddOptionsT())
    return True


def hard_swish(step: Step) -> bool:
    """x times x + 3 saturated at 0 and 6, then a sixth of it, which keeps its codes.

    Returns:
        Whether it was written.
    """
    params = _params(step)
    if params is None:
        return False
    _, found = params
    ones = np.ones((1,) * len(step.output_shape), np.float32)
    source = step.source()
    three = step.number("three", ones * 3, _ending_at(3.0))
    sixth = step.number("sixth", ones / 6, _ending_at(1 / 6))
    gate_params = QuantParams(np.asarray(6 / 255, np.float32), np.asarray(_LOWEST, np.int32))
    gate = step.temporary("gate", step.output_shape, gate_params)
    large_params = QuantParams(np.asarray(found.scale * 6, np.float32), found.zero_point)
    large = step.temporary("large", step.output_shape, large_params)
    step.write("ADD", [source, three], gate, schema.AddOptionsT())
    step.write("MUL", [source, gate], large, schema.MulOptionsT())
    step.write("MUL", [large, sixth], step.target(), schema.MulOptionsT())
    return True


def _params(step: Step) -> tuple[QuantParams, QuantParams] | None:
    """Those of the input and of the output; None for a node that is not to be split."""
    given, found = step.input_params(), step.output_params()
    if step.form is not Form.INT8 or step.lowering.stays_whole(step.node):
        return None
    assert given is not None and found is not None
    return given, found


def _ending_at(largest: float) -> QuantParams:
    """Symmetric parameters whose last code is this number."""
    return QuantParams(np.asarray(largest / _HIGHEST, np.float32), np.zeros((), np.int32))
