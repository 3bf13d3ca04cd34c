"""ONNX's own reference implementation as an engine, for sources that OpenVINO does not open.

It is the specification in Python: right and slow. It answers; nothing is timed against it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edge_convert.engine import EnginePort
from edge_convert.errors import SourceInvalid
from edge_convert.graph import Array


class OnnxReferenceEngine:
    """An ONNX file in onnx.reference."""

    runtime = "ONNX's reference implementation"

    def __init__(self, content: bytes, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Open the file.

        Args:
            shapes: Of its inputs, by name.

        Raises:
            SourceInvalid: It has an operator that the reference implementation lacks.
        """
        import onnx
        from onnx.reference import ReferenceEvaluator

        model = onnx.load_model_from_string(content)
        try:
            self._evaluator: Any = ReferenceEvaluator(model)
        except (NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            raise SourceInvalid(f"{self.runtime} cannot open the model: {_first_line(error)}") from None
        stored = {tensor.name for tensor in model.graph.initializer}
        self.inputs = tuple(
            EnginePort(value.name, shapes[value.name], _dtype(value))
            for value in model.graph.input
            if value.name not in stored
        )
        self.outputs = tuple(EnginePort(value.name, (), "float32") for value in model.graph.output)

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run one sample.

        Raises:
            SourceInvalid: An operator is missing or refuses its operands.
        """
        try:
            with np.errstate(all="ignore"):
                answers = self._evaluator.run(None, dict(feeds))
        except (NotImplementedError, RuntimeError, TypeError, ValueError, IndexError) as error:
            raise SourceInvalid(f"{self.runtime} cannot run the model: {_first_line(error)}") from None
        return {port.name: np.asarray(a) for port, a in zip(self.outputs, answers, strict=True)}

    def repeat(self, feeds: Mapping[str, Array]) -> Callable[[], None]:
        """Bind one sample and return the bare call."""
        bound = {name: np.array(array) for name, array in feeds.items()}
        return lambda: self._evaluator.run(None, bound)


def _dtype(value: Any) -> str:
    import onnx

    return str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)).name)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]
