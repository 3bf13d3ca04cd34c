"""TFLite models on the CPU: ai-edge-litert, or the older tflite-runtime where that is what there is.

Prefer ai-edge-litert: tflite-runtime 2.14 has no fast int8 kernels on x86 and dies on some newer files.
Both have the same Interpreter, so this is one runtime.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edge_agent import installed, sealed
from edge_agent.errors import InferenceFailed, ModelInvalid, RuntimeUnavailable
from edge_agent.runtimes.base import CPU, Device, Tensors, TensorShape
from edge_contracts.errors import one_line
from edge_contracts.manifest import Artifact

PACKAGES = {"ai_edge_litert": "ai-edge-litert", "tflite_runtime": "tflite-runtime"}  # best first
LITERT_MISSING = "neither ai-edge-litert nor tflite-runtime is installed; pip install 'edgefleet[agent]'"
# how glibc's loader and errno say that a library was not mapped for want of memory
NO_MEMORY = ("failed to map segment", "annot allocate memory")
EDGETPU_OP = b"edgetpu-custom-op"  # what edgetpu_compiler leaves in a file that it has compiled


def find_package() -> str | None:
    """The import name of the interpreter's package, or None when neither is installed."""
    return next((name for name in PACKAGES if importlib.util.find_spec(name) is not None), None)


def package_version() -> str:
    """Version of the package that is used, with its name when it is the older one; "" without any."""
    package = find_package()
    if package is None:
        return ""
    found = installed.version(PACKAGES[package])
    return found if package == "ai_edge_litert" else f"(tflite-runtime {found})"


class LiteRT:
    """The runtime `litert`."""

    name = "litert"

    def version(self) -> str:
        """Of the installed package."""
        return package_version()

    def devices(self, artifact: Artifact) -> tuple[Device, ...]:
        """The CPU."""
        if find_package() is None:
            missing = LITERT_MISSING
        elif artifact.format != "tflite":
            missing = f"it opens tflite files, the artifact is {artifact.format}"
        elif artifact.compiled_for:
            missing = f"the artifact is compiled for {artifact.compiled_for}"
        else:
            missing = ""
        return (Device(CPU, missing),)

    def open(self, folder: Path, artifact: Artifact, device: str, threads: int = 1) -> TfliteModel:
        """Open a .tflite file."""
        return open_tflite(folder, artifact, threads)


def open_tflite(
    folder: Path, artifact: Artifact, threads: int, delegates: Sequence[object] = (), samples: int = 1
) -> TfliteModel:
    """Open a .tflite file with the package that is there.

    Args:
        delegates: From the package's `load_delegate`.
        samples: First axis of every input, if it is not to be the file's own.

    Raises:
        RuntimeUnavailable: No package.
        ModelInvalid: Not a model, compiled for another device, or with operators that are not here.
    """
    package = find_package()
    if package is None:
        raise RuntimeUnavailable(LITERT_MISSING)
    path = folder / artifact.files[0].path
    content = sealed.read(folder, artifact.files[0].path)
    if not delegates and EDGETPU_OP in content:
        raise ModelInvalid(
            f"{path.name} is compiled for the Edge TPU (it holds {EDGETPU_OP.decode()}) "
            "and cannot run on a CPU"
        )
    module = _import(package)
    try:
        # a file is mapped and its pages shared; what was encrypted has to live in memory
        source = {"model_path": str(path)} if path.exists() else {"model_content": content}
        interpreter = module.Interpreter(
            num_threads=threads, experimental_delegates=list(delegates) or None, **source
        )
        for binding in artifact.inputs:
            _resize(interpreter, binding.tensor, binding.shape)
        if samples != 1:
            for detail in interpreter.get_input_details():
                interpreter.resize_tensor_input(detail["index"], [samples, *detail["shape"][1:]])
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ModelInvalid(f"{path.name} cannot be opened: {one_line(error)}") from None
    if delegates:
        return TfliteModel(interpreter, path.name)
    return WidenableModel(interpreter, path.name, folder, artifact, threads)


def _import(package: str) -> Any:
    """The interpreter's module.

    Raises:
        RuntimeUnavailable: It is there and does not load.
        MemoryError: There is no memory for it, which says nothing of the runtime: it is not to be given up.
    """
    try:
        return importlib.import_module(f"{package}.interpreter")
    except (ImportError, OSError) as error:
        if any(words in str(error) for words in NO_MEMORY):
            raise MemoryError(f"there is no memory to load {package}: {one_line(error)}") from None
        raise RuntimeUnavailable(f"{package} does not load: {one_line(error)}") from None


def _resize(interpreter: Any, tensor: str, shape: tuple[int, ...]) -> None:
    """Give an input of unknown dimensions the shape that the manifest states."""
    for detail in interpreter.get_input_details():
        if detail["name"] == tensor and tuple(detail["shape"]) != shape and -1 in detail["shape_signature"]:
            interpreter.resize_tensor_input(detail["index"], list(shape))


class TfliteModel:
    """An open .tflite file."""

    def __init__(self, interpreter: Any, name: str) -> None:
        """Remember the indices, so that a run looks nothing up."""
        self._interpreter = interpreter
        self._name = name
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        self.inputs = {str(d["name"]): _shape(d) for d in inputs}
        self.outputs = {str(d["name"]): _shape(d) for d in outputs}
        self._input_indices = [(str(d["name"]), int(d["index"])) for d in inputs]
        self._output_indices = [(str(d["name"]), int(d["index"])) for d in outputs]

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        """Answer one sample."""
        interpreter = self._interpreter
        if interpreter is None:
            raise InferenceFailed(f"{self._name} is closed")
        try:
            for name, index in self._input_indices:
                interpreter.set_tensor(index, inputs[name])
            interpreter.invoke()
            found = {}
            for name, index in self._output_indices:  # a comprehension is a call
                found[name] = interpreter.get_tensor(index)
            return found
        except (ValueError, RuntimeError) as error:
            raise InferenceFailed(f"{self._name}: {one_line(error)}") from None

    def close(self) -> None:
        """Drop the interpreter; its memory goes with it."""
        self._interpreter = None


class WidenableModel(TfliteModel):
    """One that the CPU runs; it may also be opened for several samples at once."""

    def __init__(self, interpreter: Any, name: str, folder: Path, artifact: Artifact, threads: int) -> None:
        """Remember where it came from: what was encrypted is not kept a second time."""
        super().__init__(interpreter, name)
        self._place = folder, artifact, threads

    def widened(self, samples: int) -> TfliteModel:
        """The same file for so many samples at once."""
        folder, artifact, threads = self._place
        return open_tflite(folder, artifact, threads, samples=samples)


def _shape(detail: Mapping[str, Any]) -> TensorShape:
    dtype = detail["dtype"]
    return TensorShape(dtype.__name__.rstrip("_"), tuple(int(size) for size in detail["shape"]))


RUNTIME = LiteRT()
