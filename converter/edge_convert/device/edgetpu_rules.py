"""What the Edge TPU compiler maps, as far as it is documented: one table, one reason for each refusal.

Sources. [ops] coral.ai/docs/edgetpu/models-intro/#supported-operations, the table for runtime 14, and
its section "Model requirements"; developer.axis.com/computer-vision (ARTPEC-7, supported ops) has the
same table. [versions] the operator versions that TensorFlow 2.5 registers, which is what compiler
16.0.384591198 (the last one) is built from: reports of "Didn't find op for builtin opcode X version N"
agree (google-coral/edgetpu issues 631, 845, 879; libedgetpu issue 71). [parts] google-coral/edgetpu
issues 317, 461: one part from the start; what follows the first operator left out stays on the CPU. The
compiler is closed: an operator that passes here may still be left on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edge_convert.errors import SourceInvalid
from edge_convert.importers.tflite_file import ModelFile, OperatorRecord, TensorRecord

OPS = "coral.ai/docs/edgetpu/models-intro/#supported-operations"
REQUIREMENTS = "coral.ai/docs/edgetpu/models-intro/#model-requirements"
VERSIONS = "TensorFlow 2.5 lite/kernels/register.cc"
# One part from the start, unless the compiler is told otherwise: google-coral/edgetpu issue 461
PARTITION = "coral.ai/docs/edgetpu/models-intro/#compiling"

_INTEGERS = ("INT8", "UINT8")
_LARGEST_SOFTMAX = 16_000
_Z_MULTIPLE = 4  # a mean over channels is done four at a time

# The newest version of each operator that the compiler can read at all; a newer one makes it refuse the
# whole file, wherever the operator stands.
NEWEST_VERSION: dict[str, int] = {
    "ABS": 3,
    "ADD": 3,
    "ARG_MAX": 2,
    "AVERAGE_POOL_2D": 3,
    "BATCH_MATMUL": 4,
    "BROADCAST_TO": 3,
    "CAST": 1,
    "CEIL": 1,
    "CONCATENATION": 3,
    "CONV_2D": 5,
    "COS": 1,
    "DEPTHWISE_CONV_2D": 6,
    "DEPTH_TO_SPACE": 2,
    "DEQUANTIZE": 4,
    "DIV": 2,
    "ELU": 1,
    "EXP": 1,
    "EXPAND_DIMS": 1,
    "FLOOR": 1,
    "FULLY_CONNECTED": 9,
    "GATHER": 5,
    "HARD_SWISH": 1,
    "L2_NORMALIZATION": 2,
    "LEAKY_RELU": 2,
    "LOG": 1,
    "LOGISTIC": 3,
    "LOG_SOFTMAX": 2,
    "LSTM": 4,
    "MAXIMUM": 4,
    "MAX_POOL_2D": 3,
    "MEAN": 3,
    "MINIMUM": 4,
    "MIRROR_PAD": 2,
    "MUL": 4,
    "NEG": 1,
    "PACK": 3,
    "PAD": 3,
    "PADV2": 3,
    "POW": 1,
    "PRELU": 1,
    "QUANTIZE": 2,
    "REDUCE_MAX": 3,
    "REDUCE_MIN": 3,
    "REDUCE_PROD": 1,
    "RELU": 3,
    "RELU6": 3,
    "RELU_N1_TO_1": 1,
    "RESHAPE": 1,
    "RESIZE_BILINEAR": 4,
    "RESIZE_NEAREST_NEIGHBOR": 4,
    "ROUND": 1,
    "RSQRT": 2,
    "SIN": 1,
    "SLICE": 5,
    "SOFTMAX": 3,
    "SPACE_TO_DEPTH": 2,
    "SPLIT": 4,
    "SPLIT_V": 2,
    "SQRT": 1,
    "SQUARED_DIFFERENCE": 2,
    "SQUEEZE": 2,
    "STRIDED_SLICE": 5,
    "SUB": 5,
    "SUM": 2,
    "TANH": 3,
    "TILE": 2,
    "TRANSPOSE": 5,
    "TRANSPOSE_CONV": 3,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": 3,
    "UNPACK": 4,
}


# Everything since stands behind it in the schema's numbering (TensorFlow 2.6 brought it).
_FIRST_UNKNOWN = schema.BuiltinOperator.REDUCE_ALL
_DATA_POSITION = {"SPLIT": 1, "TRANSPOSE_CONV": 2}


@dataclass(frozen=True)
class Reason:
    """Why an operator stays on the CPU.

    Args:
        text: One clause, with what was found.
        source: The document that says so.
    """

    text: str
    source: str


@dataclass(frozen=True)
class Use:
    """One operator with the tensors it touches; absent optional inputs are left out."""

    operator: OperatorRecord
    inputs: tuple[TensorRecord, ...]
    outputs: tuple[TensorRecord, ...]

    @property
    def data(self) -> TensorRecord:
        """The input that is transformed; shapes, axes and weights are the others."""
        return self.inputs[_DATA_POSITION.get(self.operator.code, 0)]

    def integers(self, position: int) -> tuple[int, ...]:
        """Elements of a constant input; none when it is computed."""
        if position >= len(self.inputs) or self.inputs[position].raw is None:
            return ()
        return tuple(int(v) for v in self.inputs[position].elements().ravel())


Rule = Callable[[Use], str | None]


def use_of(file: ModelFile, operator: OperatorRecord) -> Use:
    """The operator with its tensors."""
    inputs = tuple(file.tensors[i] for i in operator.inputs if i >= 0)
    return Use(operator, inputs, tuple(file.tensors[i] for i in operator.outputs if i >= 0))


def beyond_compiler(operator: OperatorRecord) -> Reason | None:
    """Why the compiler cannot even read the file that holds this operator."""
    if operator.code == "CUSTOM":
        return None  # custom operators are carried along and stay on the CPU
    newest = NEWEST_VERSION.get(operator.code)
    if newest is None:
        number = getattr(schema.BuiltinOperator, operator.code, _FIRST_UNKNOWN)
        return Reason("the compiler does not know it", VERSIONS) if number >= _FIRST_UNKNOWN else None
    if operator.version > newest:
        return Reason(f"version {operator.version}, the compiler reads up to {newest}", VERSIONS)
    return None


def refusal(use: Use) -> Reason | None:
    """Why this operator by itself cannot be mapped, or None.

    Raises:
        SourceInvalid: It lacks what every such operator has; the file is damaged.
    """
    operator = use.operator
    too_new = beyond_compiler(operator)
    if too_new is not None:
        return too_new
    if operator.code not in RULES:
        return Reason(f"{operator.custom or operator.code} is not among the supported operators", OPS)
    try:
        generic = _not_integer(use) or _not_static(use) or _too_many_dimensions(use)
        if generic is not None:
            return Reason(generic, REQUIREMENTS)
        found = next((text for rule in RULES[operator.code] if (text := rule(use)) is not None), None)
    except AttributeError as error:
        if error.obj is not operator.options:
            raise
        raise SourceInvalid(f"{operator.label}: its options are missing or of another operator") from error
    except IndexError as error:
        raise SourceInvalid(f"{operator.label}: an input or a dimension is missing") from error
    return None if found is None else Reason(found, OPS)


def _not_integer(use: Use) -> str | None:
    for tensor in (use.data, *use.outputs):
        if tensor.type not in _INTEGERS or tensor.quantization is None:
            return f"{tensor.name!r} is {tensor.type}, not quantized to 8 bits"
    return None


def _not_static(use: Use) -> str | None:
    for tensor in (*use.inputs, *use.outputs):
        if any(d < 0 for d in tensor.signature or ()):
            return f"{tensor.name!r} has a dynamic shape {list(tensor.signature or ())}"
    return None


def _too_many_dimensions(use: Use) -> str | None:
    for tensor in (*use.inputs, *use.outputs):
        if tensor.raw is None and any(d > 1 for d in tensor.shape[:-3]):
            return f"{tensor.name!r} has shape {list(tensor.shape)}; only the innermost three may exceed 1"
    return None


# --- rules of single operators ----------------------------------------------------------------------


def _no_activation(use: Use) -> str | None:
    fused = use.operator.options.fusedActivationFunction
    return None if fused == schema.ActivationFunctionType.NONE else "it carries an activation"


def _constant_weights(use: Use) -> str | None:
    """Weights and bias known at compile time."""
    for tensor in use.inputs:
        if tensor.raw is None and tensor is not use.data:
            return f"the parameter {tensor.name!r} is computed"
    return None


def _even_dilation(use: Use) -> str | None:
    options = use.operator.options
    if options.dilationHFactor != options.dilationWFactor:
        return f"dilation {options.dilationHFactor} x {options.dilationWFactor} differs in x and y"
    return None


def _zero_constant(use: Use) -> str | None:
    constants = [t for t in use.inputs if t.raw is not None]
    if not constants:
        return None
    zero = constants[0].quantization
    is_zero = zero is not None and bool(np.all(constants[0].elements() == zero.zero_point[0]))
    if len(use.inputs) == 2 and len(constants) == 1 and is_zero:
        return None
    return f"{len(constants)} of {len(use.inputs)} parts are constant; only one of two, all zeros, may be"


def _default_weights(use: Use) -> str | None:
    if use.operator.options.weightsFormat != schema.FullyConnectedOptionsWeightsFormat.DEFAULT:
        return "its weights are not in the default format"
    weights = use.inputs[1].quantization
    if weights is not None and weights.scale.size > 1:
        return f"its weights have {weights.scale.size} scales, one is supported"
    return None


def _one_dimensional_output(use: Use) -> str | None:
    return _one_dimensional(use.outputs[0], "output")


def _one_dimensional(tensor: TensorRecord, what: str) -> str | None:
    if any(d > 1 for d in tensor.shape[:-1]):
        return f"its {what} has shape {list(tensor.shape)}; one dimension is supported"
    return None


def _softmax(use: Use) -> str | None:
    tensor = use.inputs[0]
    if tensor.shape and tensor.shape[-1] > _LARGEST_SOFTMAX:
        return f"{tensor.shape[-1]} elements; at most {_LARGEST_SOFTMAX} are supported"
    return _one_dimensional(tensor, "input")


def _reduced(use: Use) -> set[int]:
    rank = len(use.inputs[0].shape)
    return {axis % rank for axis in use.integers(1)} if rank else set()


def _keeps_batch(use: Use) -> str | None:
    return "it reduces the batch dimension" if 0 in _reduced(use) else None


def _mean(use: Use) -> str | None:
    rank, depth = len(use.inputs[0].shape), use.inputs[0].shape[-1]
    if rank - 1 in _reduced(use) and depth % _Z_MULTIPLE:
        return f"it reduces {depth} channels, no multiple of {_Z_MULTIPLE}"
    return None


def _pads_no_batch(use: Use) -> str | None:
    return "it pads the batch dimension" if any(use.integers(1)[:2]) else None


def _packs_no_batch(use: Use) -> str | None:
    return "it packs along the batch dimension" if use.operator.options.axis == 0 else None


def _split_axis(position: int, data: int) -> Rule:
    def rule(use: Use) -> str | None:
        axis = (use.integers(position) or (0,))[0]
        splits_batch = axis % len(use.inputs[data].shape) == 0
        return "it splits the batch dimension" if splits_batch else None

    return rule


def _slope_per_channel(use: Use) -> str | None:
    return _one_dimensional(use.inputs[1], "slope")


def _three_dimensions(use: Use) -> str | None:
    shape = use.inputs[0].shape
    return None if len(shape) <= 4 else f"its input has shape {list(shape)}; three dimensions are supported"


def _unit_strides(use: Use) -> str | None:
    options, strides = use.operator.options, use.integers(3)
    if any(s != 1 for s in strides):
        return f"strides {list(strides)}; only 1 is supported"
    if options.ellipsisMask or options.newAxisMask:
        return "it has an ellipsis or a new axis"
    return None


def _leading_ones(use: Use) -> str | None:
    """A squeeze without moving anything: all that goes stands before the first dimension that is not 1."""
    shape = use.inputs[0].shape
    leading = next((i for i, d in enumerate(shape) if d > 1), len(shape))
    asked = use.operator.options.squeezeDims
    axes = [int(a) % len(shape) for a in asked] if asked is not None and len(asked) else []
    gone = axes or [i for i, d in enumerate(shape) if d == 1]
    if any(axis > leading for axis in gone):
        return f"it squeezes {list(shape)} behind its first dimension above 1; only leading ones may go"
    return None


_CONVOLUTION: Sequence[Rule] = (_constant_weights, _even_dilation)
RULES: dict[str, Sequence[Rule]] = {
    "ADD": (),
    "AVERAGE_POOL_2D": (_no_activation,),
    "CONCATENATION": (_no_activation, _zero_constant),
    "CONV_2D": _CONVOLUTION,
    "DEPTHWISE_CONV_2D": _CONVOLUTION,
    "EXPAND_DIMS": (),
    "FULLY_CONNECTED": (_constant_weights, _default_weights, _one_dimensional_output),
    "L2_NORMALIZATION": (),
    "LOGISTIC": (),
    "LSTM": (),
    "MAXIMUM": (),
    "MAX_POOL_2D": (_no_activation,),
    "MEAN": (_keeps_batch, _mean),
    "MINIMUM": (),
    "MUL": (),
    "PACK": (_packs_no_batch,),
    "PAD": (_pads_no_batch,),
    "PRELU": (_slope_per_channel,),
    "QUANTIZE": (),
    "REDUCE_MAX": (_keeps_batch,),
    "REDUCE_MIN": (_keeps_batch,),
    "RELU": (),
    "RELU6": (),
    "RELU_N1_TO_1": (),
    "RESHAPE": (),
    "RESIZE_BILINEAR": (_three_dimensions,),
    "RESIZE_NEAREST_NEIGHBOR": (_three_dimensions,),
    "RSQRT": (),
    "SLICE": (),
    "SOFTMAX": (_softmax,),
    "SPACE_TO_DEPTH": (),
    "SPLIT": (_split_axis(0, 1),),
    "SPLIT_V": (_split_axis(2, 0),),
    "SQUARED_DIFFERENCE": (),
    "SQUEEZE": (_leading_ones,),
    "STRIDED_SLICE": (_unit_strides,),
    "SUB": (),
    "SUM": (_keeps_batch,),
    "TANH": (),
    "TRANSPOSE": (),
    "TRANSPOSE_CONV": (_constant_weights,),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (),
}

# Documented as "may not be mapped", depending on sizes that only the compiler knows.
UNCERTAIN = {
    "MEAN": "large inputs may stay on the CPU (google-coral/edgetpu issue 461: 1x256x128x3)",
    "RESHAPE": "may stay on the CPU for large tensors",
    "RESIZE_BILINEAR": "may stay on the CPU, depending on its sizes, to keep precision",
    "RESIZE_NEAREST_NEIGHBOR": "may stay on the CPU, depending on its sizes, to keep precision",
}
