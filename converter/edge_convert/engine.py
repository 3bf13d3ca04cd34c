"""Models run by the runtimes of this host: LiteRT for .tflite, OpenVINO's CPU device for .onnx and IR.

An `Engine` speaks the file's own tensor names and codes; `binding.py` turns those into the source's
space. One thread and one sample at a time, as the devices run it. Which engine's answers are good
enough, and which timings are, is asked in `gates.py`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from edge_convert.errors import SourceInvalid
from edge_convert.graph import Array


@dataclass(frozen=True)
class EnginePort:
    """One input or output of an opened file.

    Args:
        shape: As the file says it, batch axis included.
        dtype: numpy's name of its elements.
        scale: Real units per code when the tensor is quantized, else None.
        aliases: Other names of the same tensor.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float | None = None
    zero_point: int = 0
    aliases: frozenset[str] = frozenset()


class Engine(Protocol):
    """An opened model. Not for use by two threads at once."""

    @property
    def runtime(self) -> str:
        """What runs it, such as "LiteRT"."""

    @property
    def inputs(self) -> tuple[EnginePort, ...]:
        """In the file's order."""

    @property
    def outputs(self) -> tuple[EnginePort, ...]:
        """In the file's order."""

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run one sample: arrays of the ports' own shapes and dtypes, by port name."""

    def repeat(self, feeds: Mapping[str, Array]) -> Callable[[], None]:
        """Bind one sample and return the bare call, for timing."""


def run(engine: Engine, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Run n samples one after the other.

    Args:
        feeds: By port name, n samples on the leading axis, in the ports' dtypes.

    Returns:
        By port name, the samples' results joined on the leading axis.
    """
    count = len(next(iter(feeds.values())))
    results: dict[str, list[Array]] = {port.name: [] for port in engine.outputs}
    for index in range(count):
        answers = engine.infer({name: array[index : index + 1] for name, array in feeds.items()})
        for name, answer in answers.items():
            results[name].append(answer)
    return {name: np.concatenate(answers) for name, answers in results.items()}


def open_artifact(files: Mapping[str, bytes], fmt: str) -> Engine:
    """Open what an emitter wrote.

    Args:
        files: Contents by path; an OpenVINO model is its .xml and its .bin.
        fmt: As the manifest's `Artifact.format` says it.
    """
    if fmt == "tflite":
        (content,) = files.values()
        return LiteRtEngine(content)
    if fmt == "openvino-ir":
        by_suffix = {path.rsplit(".", 1)[-1]: content for path, content in files.items()}
        return OpenVinoEngine(by_suffix["xml"], by_suffix["bin"])
    raise AssertionError(f"no engine opens {fmt!r}")


class LiteRtEngine:
    """A .tflite file in LiteRT with its default delegate (XNNPACK), one thread."""

    runtime = "LiteRT"

    def __init__(
        self,
        content: bytes,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        delegate: bool = True,
    ) -> None:
        """Open the file.

        Args:
            shapes: Static shapes by input name, for models that leave some open.
            delegate: Whether to run in XNNPACK, LiteRT's default, or in its own kernels.

        Raises:
            SourceInvalid: LiteRT cannot prepare it.
        """
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        kernels = OpResolverType.AUTO if delegate else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        try:
            with _quiet():
                self._interpreter: Any = Interpreter(
                    model_content=content, num_threads=1, experimental_op_resolver_type=kernels
                )
                for detail in self._interpreter.get_input_details():
                    shape = (shapes or {}).get(detail["name"])
                    if shape is not None and shape != tuple(detail["shape"]):
                        self._interpreter.resize_tensor_input(detail["index"], shape)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise SourceInvalid(f"LiteRT cannot open the model: {_first_line(error)}") from None
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self.inputs = tuple(_litert_port(detail) for detail in inputs)
        self.outputs = tuple(_litert_port(detail) for detail in outputs)
        self._input_index = {p.name: d["index"] for p, d in zip(self.inputs, inputs, strict=True)}
        self._output_index = {p.name: d["index"] for p, d in zip(self.outputs, outputs, strict=True)}

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run one sample."""
        self.repeat(feeds)()
        return {name: self._interpreter.get_tensor(index) for name, index in self._output_index.items()}

    def repeat(self, feeds: Mapping[str, Array]) -> Callable[[], None]:
        """Bind one sample and return the bare call."""
        for name, array in feeds.items():
            self._interpreter.set_tensor(self._input_index[name], array)
        return self._interpreter.invoke  # type: ignore[no-any-return]


class OpenVinoEngine:
    """An OpenVINO IR or an ONNX file on OpenVINO's CPU device: static shapes, float32, one thread."""

    runtime = "OpenVINO"

    def __init__(
        self,
        model: bytes,
        weights: bytes | None = None,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        """Open a model.

        Args:
            model: The .xml of an IR, or an ONNX file.
            weights: The .bin of an IR.
            shapes: Static shapes by input name, for models that leave some open; without them an open
                first axis becomes 1.

        Raises:
            SourceInvalid: OpenVINO cannot read or compile it.
        """
        import openvino as ov

        core = ov.Core()
        # the CPU plugin would pick bfloat16 where the processor has it: not what the file says
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
        try:
            if weights is None:
                network = core.read_model(model)
            else:
                network = core.read_model(model, ov.Tensor(np.frombuffer(weights, np.uint8).copy()))
            if shapes:
                network.reshape({name: list(shape) for name, shape in shapes.items()})
            elif network.is_dynamic():
                network.reshape({port: _with_batch_of_one(port) for port in network.inputs})
            compiled = core.compile_model(network, "CPU", options)
        except RuntimeError as error:
            raise SourceInvalid(f"OpenVINO cannot open the model: {_last_line(error)}") from None
        self._request: Any = compiled.create_infer_request()
        self.inputs = tuple(_openvino_port(port, i) for i, port in enumerate(compiled.inputs))
        self.outputs = tuple(_openvino_port(port, i) for i, port in enumerate(compiled.outputs))
        self._tensor = ov.Tensor

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run one sample."""
        self.repeat(feeds)()
        return {
            port.name: np.array(self._request.get_output_tensor(i).data)
            for i, port in enumerate(self.outputs)
        }

    def repeat(self, feeds: Mapping[str, Array]) -> Callable[[], None]:
        """Bind one sample and return the bare call."""
        for i, port in enumerate(self.inputs):
            array = np.asarray(feeds[port.name], order="C")  # a single number stays one
            self._request.set_input_tensor(i, self._tensor(array, shared_memory=False))
        return self._request.infer  # type: ignore[no-any-return]


def _litert_port(detail: Mapping[str, Any]) -> EnginePort:
    parameters = detail["quantization_parameters"]
    scales, zero_points = parameters["scales"], parameters["zero_points"]
    quantized = len(scales) == 1
    return EnginePort(
        detail["name"],
        tuple(int(d) for d in detail["shape"]),
        np.dtype(detail["dtype"]).name,
        float(scales[0]) if quantized else None,
        int(zero_points[0]) if quantized else 0,
    )


def _with_batch_of_one(port: Any) -> list[int]:
    shape = [d.get_length() if d.is_static else -1 for d in port.get_partial_shape()]
    if -1 in shape[1:]:
        raise SourceInvalid(f"input {port.get_any_name()!r} has open axes besides the first: {shape}")
    return [1 if d == -1 else d for d in shape]


def _openvino_port(port: Any, position: int) -> EnginePort:
    names = port.get_names()
    name = port.get_any_name() if names else f"#{position}"
    return EnginePort(
        name,
        tuple(int(d) for d in port.get_shape()),
        np.dtype(port.get_element_type().to_dtype()).name,
        aliases=frozenset(names),
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep LiteRT's greeting off the error stream, which it writes to past Python."""
    saved = os.dup(2)
    silence = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(silence, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(silence)
        os.close(saved)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _last_line(error: Exception) -> str:
    """OpenVINO's messages begin with places in its own sources; the reason comes last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
