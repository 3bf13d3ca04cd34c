"""The stock quantizers, each with its own defaults: LiteRT's, Intel's NNCF and onnxruntime's.

All get the same float network and the same calibration samples as we do. LiteRT's quantizer is fed with
the float file that our own writer makes (with a signature and today's operator codes): three defects of
the files as they are shipped would stop it. Each answer comes from the runtime that the tool is made for.
Installed by the extra `benchmarks`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from conversion_cases import of_tflite
from numpy.typing import NDArray
from onnx_form import onnx_form

from edge_convert.emitters import openvino as openvino_emitter
from edge_convert.emitters import tflite as tflite_emitter
from edge_convert.engine import LiteRtEngine
from edge_convert.graph import Graph

Array = NDArray[Any]
Answer = Callable[[Array], Array]


@dataclass(frozen=True, eq=False)
class Peer:
    """A tool that quantizes.

    Args:
        package: What has to be installed.
        source: The float network as the tool takes it (not part of its time).
        quantize: From that and calibration samples to the finished model in memory.
        open: The model in its runtime: samples in, answers out.
        size: Bytes of the model.
    """

    name: str
    package: str
    source: Callable[[Graph], Any]
    quantize: Callable[[Any, Array], Any]
    open: Callable[[Any], Answer]
    size: Callable[[Any], int]


def _litert(content: bytes, samples: Array) -> bytes:
    from litert_quantizer import quantizer, recipe

    tool = quantizer.Quantizer(bytearray(content))
    tool.load_quantization_recipe(recipe.static_wi8_ai8())
    name = LiteRtEngine(content).inputs[0].name
    calibration = {"serving_default": [{name: samples[i : i + 1]} for i in range(len(samples))]}
    found = tool.calibrate(calibration, num_threads=1)
    return bytes(tool.quantize(found, enable_progress_bar=False).quantized_model)


def _litert_answers(content: bytes) -> Answer:
    contestant = of_tflite(content)
    return contestant.answers


def _nncf(model: Any, samples: Array) -> Any:
    import nncf

    return nncf.quantize(model.clone(), nncf.Dataset([samples[i : i + 1] for i in range(len(samples))]))


def _nncf_answers(model: Any) -> Answer:
    import openvino

    # the CPU device would run float parts in bfloat16 where the processor has it
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda samples: np.concatenate([compiled([samples[i : i + 1]])[0] for i in range(len(samples))])


def _nncf_size(model: Any) -> int:
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        openvino.save_model(model, str(Path(folder) / "model.xml"), compress_to_fp16=False)
        return sum(path.stat().st_size for path in Path(folder).iterdir())


def _onnxruntime(content: bytes, samples: Array) -> bytes:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, name: str) -> None:
            self._feeds = iter([{name: samples[i : i + 1]} for i in range(len(samples))])

        def get_next(self) -> dict[str, Array] | None:
            return next(self._feeds, None)

    with tempfile.TemporaryDirectory() as folder:
        source, prepared, target = (Path(folder) / f"{part}.onnx" for part in ("source", "ready", "int8"))
        source.write_bytes(content)
        # what its manual asks for first; shapes are plain here, and the symbolic kind wants sympy
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(str(prepared), str(target), Reader(_onnx_session(content).get_inputs()[0].name))
        return target.read_bytes()


def _onnx_session(content: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _onnx_answers(content: bytes) -> Answer:
    session = _onnx_session(content)
    name = session.get_inputs()[0].name
    return lambda samples: np.concatenate(
        [session.run(None, {name: samples[i : i + 1]})[0] for i in range(len(samples))]
    )


PEERS = (
    Peer("litert-quantizer", "litert_quantizer", tflite_emitter.emit, _litert, _litert_answers, len),
    Peer("NNCF", "nncf", openvino_emitter.build, _nncf, _nncf_answers, _nncf_size),
    Peer("onnxruntime", "onnxruntime", onnx_form, _onnxruntime, _onnx_answers, len),
)


def installed(peer: Peer) -> bool:
    """Whether the extra `benchmarks` brought the tool."""
    return importlib.util.find_spec(peer.package) is not None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the tools' progress bars and advice off the screen; errors still raise."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    silence = io.StringIO()
    try:
        with (
            contextlib.redirect_stdout(silence),
            contextlib.redirect_stderr(silence),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
