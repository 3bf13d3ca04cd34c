"""OpenVINO: the NPU of an Intel Core Ultra where there is one, then the CPU.

The same file runs on both, so a missing NPU or driver is a fallback and not a failure. On the CPU the
arithmetic is pinned to float32 for what is not quantized (the default is bfloat16 on some processors),
so that every machine gives the answers that the golden inputs expect.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent import installed, sealed
from edge_agent.errors import InferenceFailed, ModelInvalid, RuntimeUnavailable
from edge_agent.runtimes.base import CPU, Device, Tensors, TensorShape
from edge_contracts.errors import one_line
from edge_contracts.manifest import Artifact

NPU = "NPU"
NOT_INSTALLED = "openvino is not installed; pip install 'edgefleet[agent]' (x86-64 only)"


def import_openvino() -> Any:
    """The package, without its telemetry: importing it as it comes reports usage to its maker."""
    if "openvino" not in sys.modules:
        # None makes the import of it fail, which openvino takes as "not installed"
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")


class OpenVINO:
    """The runtime `openvino`."""

    name = "openvino"

    def version(self) -> str:
        """Of the installed package."""
        return installed.version("openvino") if importlib.util.find_spec("openvino") else ""

    def devices(self, artifact: Artifact) -> tuple[Device, ...]:
        """The NPU, then the CPU."""
        if importlib.util.find_spec("openvino") is None:
            return (Device(CPU, NOT_INSTALLED),)
        present = list(import_openvino().Core().available_devices)
        no_npu = f"no NPU or no driver for it (OpenVINO sees {', '.join(present) or 'no device'})"
        # with several NPUs they are called NPU.0, NPU.1, ...; "NPU" is then the first
        seen = any(name.split(".")[0] == NPU for name in present)
        return (
            Device(NPU, "" if seen else no_npu),
            Device(CPU, "" if CPU in present else "OpenVINO's CPU plugin is missing"),
        )

    def open(self, folder: Path, artifact: Artifact, device: str, threads: int = 1) -> OpenVINOModel:
        """Open an .xml with its .bin, or an .onnx or .tflite file."""
        return _open(folder, artifact, device, threads)


def _open(folder: Path, artifact: Artifact, device: str, threads: int, samples: int = 1) -> OpenVINOModel:
    """Open an artifact; the first axis of every input is as the manifest says, or of so many samples."""
    if importlib.util.find_spec("openvino") is None:
        raise RuntimeUnavailable(NOT_INSTALLED)
    openvino = import_openvino()
    paths = [folder / file.path for file in artifact.files]
    config: dict[str, object] = {"PERFORMANCE_HINT": "LATENCY"}
    if device == CPU:
        # pinning would put every agent of a small machine on the same core
        config |= {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
        config |= {"ENABLE_CPU_PINNING": False}
    try:
        core = openvino.Core()
        if sealed.is_sealed(folder, artifact.files[0].path):
            parts = [sealed.read(folder, file.path) for file in artifact.files]
            model = core.read_model(parts[0], parts[1] if len(parts) > 1 else b"")
        else:
            model = core.read_model(paths[0], *paths[1:2])
        shapes = {b.tensor: openvino.PartialShape(list(b.shape)) for b in artifact.inputs}
        if samples != 1:
            shapes = {b.tensor: openvino.PartialShape([samples, *b.shape[1:]]) for b in artifact.inputs}
        if samples != 1 or any(tensor.partial_shape.is_dynamic for tensor in model.inputs):
            model.reshape(shapes)
        request = core.compile_model(model, device, config).create_infer_request()
        if device != CPU:
            return OpenVINOModel(request, artifact, paths[0].name)
        return WidenableModel(request, artifact, paths[0].name, folder, threads)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ModelInvalid(f"{paths[0].name} cannot be opened on {device}: {one_line(error)}") from None


class OpenVINOModel:
    """An open model: one request whose tensors are written and read in place.

    Handing arrays to `infer` takes 45 to 70 us a call in openvino 2026.4, writing into the request's
    own tensors 13 us (a 4x3 dense layer, measured).
    """

    def __init__(self, request: Any, artifact: Artifact, name: str) -> None:
        """Remember the request's tensors under the names that the manifest binds."""
        self._request = request
        self._name = name
        ports = request.get_compiled_model()
        inputs = {
            _name(port, {b.tensor for b in artifact.inputs}): request.get_tensor(port)
            for port in ports.inputs
        }
        outputs = {
            _name(port, {b.tensor for b in artifact.outputs}): request.get_tensor(port)
            for port in ports.outputs
        }
        self._inputs = {name: tensor.data for name, tensor in inputs.items()}
        self._outputs = {name: tensor.data for name, tensor in outputs.items()}
        self.inputs = {name: TensorShape(a.dtype.name, a.shape) for name, a in self._inputs.items()}
        self.outputs = {name: TensorShape(a.dtype.name, a.shape) for name, a in self._outputs.items()}

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        """Answer one sample."""
        if self._request is None:
            raise InferenceFailed(f"{self._name} is closed")
        try:
            for name, target in self._inputs.items():
                np.copyto(target, inputs[name], casting="no")
            self._request.infer({})
        except (RuntimeError, ValueError, TypeError) as error:
            raise InferenceFailed(f"{self._name}: {one_line(error)}") from None
        return {name: source.copy() for name, source in self._outputs.items()}

    def close(self) -> None:
        """Drop the request; its memory goes with it."""
        self._request = None
        self._inputs, self._outputs = {}, {}


class WidenableModel(OpenVINOModel):
    """One that the CPU runs; it may also be opened for several samples at once."""

    def __init__(self, request: Any, artifact: Artifact, name: str, folder: Path, threads: int) -> None:
        """Remember where it came from."""
        super().__init__(request, artifact, name)
        self._place = folder, artifact, threads

    def widened(self, samples: int) -> OpenVINOModel:
        """The same file for so many samples at once."""
        folder, artifact, threads = self._place
        return _open(folder, artifact, CPU, threads, samples)


def _name(port: Any, wanted: set[str]) -> str:
    """The name of a tensor, which may have several: the one that the manifest uses, if any."""
    names = {str(name) for name in port.get_names()}
    return min(names & wanted or names or {"(unnamed)"})


RUNTIME = OpenVINO()
