"""Framework files into sources: which kind a path is, and what its child process makes of it.

PyTorch programs come back as ONNX, Keras and SavedModel as TensorFlow Lite, and go through the
importer of that format; the ports get back the names that the model itself gave them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edge_contracts.digest import digest_of
from edge_convert import importers
from edge_convert.errors import ConvertError, SourceInvalid, UnsupportedFeature
from edge_convert.fixed_inputs import NOTHING_FIXED, FixedInputs
from edge_convert.frameworks import folder, wire
from edge_convert.frameworks.engine import FrameworkEngine
from edge_convert.frameworks.worker import Worker, content_of
from edge_convert.graph import Graph
from edge_convert.importers import torch_archive

SAVED_MODEL = "saved_model.pb"
SUFFIXES = {".keras": "keras", ".h5": "keras", ".hdf5": "keras", ".pt2": "pt2"}
_HDF5 = (b"\x89HDF\r\n\x1a\n", "an HDF5 file")  # HDF5 file format specification, section II.A
BEGINNINGS = {".keras": (b"PK\x03\x04", "a zip archive"), ".h5": _HDF5, ".hdf5": _HDF5}
_TENSORFLOW = ("edge_convert.frameworks.tensorflow_worker", "TensorFlow")
_TORCH = ("edge_convert.frameworks.torch_worker", "PyTorch")


@dataclass(frozen=True, eq=False)
class Read:
    """What became of a framework's file.

    Args:
        graph: Not simplified yet.
        engine: The model in its own framework.
        size: Bytes of the file, or of all files in the folder.
        tools: Versions of what took part.
    """

    format: str
    graph: Graph
    engine: FrameworkEngine
    digest: str
    size: int
    tools: dict[str, str]


def kind_of(path: Path) -> str:
    """ "keras", "savedmodel" or "pt2"; "" for anything else."""
    if path.is_dir():
        return "savedmodel"
    return SUFFIXES.get(path.suffix.lower(), "") if path.is_file() else ""


def read(path: Path, fixed: FixedInputs, signature: str) -> Read:
    """Read a model that only its framework can.

    Args:
        fixed: Sizes that it leaves open.
        signature: Of a SavedModel; "" for its only one, or "serving_default".

    Raises:
        SourceInvalid: Damaged, or with something in it that could run code.
        UnsupportedFeature, UnsupportedOperator: It cannot be converted.
        ModuleNotFoundError: The framework is not installed.
    """
    kind = kind_of(path)
    if fixed.values:
        raise UnsupportedFeature(f"{path.name}: --input-value is for ONNX files")
    try:
        return _torch(path, fixed) if kind == "pt2" else _tensorflow(path, kind, fixed, signature)
    except ConvertError as error:
        raise type(error)(f"{path.name}: {error}") from error


def _torch(path: Path, fixed: FixedInputs) -> Read:
    content = path.read_bytes()
    cleaned = torch_archive.clean(content)
    worker = Worker(*_TORCH, len(content))
    reply, results = worker.ask({"do": "convert"}, **{wire.CONTENT: wire.file_array(cleaned)})
    graph = _imported(content_of(results), path.stem, ".onnx", fixed)
    return Read(
        "pt2", graph, FrameworkEngine(worker, graph), digest_of(content), len(content), dict(reply["tools"])
    )


def _tensorflow(path: Path, kind: str, fixed: FixedInputs, signature: str) -> Read:
    if kind == "savedmodel":
        if not (path / SAVED_MODEL).is_file():
            raise SourceInvalid(f"the folder holds no {SAVED_MODEL}; expected a SavedModel")
        digest, size = folder.digest_of_folder(path), folder.size_of_folder(path)
    else:
        content = path.read_bytes()
        _check_beginning(path, content)
        digest, size = digest_of(content), len(content)
    worker = Worker(*_TENSORFLOW, size)
    reply, results = worker.ask(
        {
            "do": "convert",
            "kind": kind,
            "path": str(path.absolute()),
            "signature": signature,
            "shapes": {name: list(shape) for name, shape in fixed.shapes.items()},
        }
    )
    graph = _imported(content_of(results), path.stem, ".tflite", NOTHING_FIXED)
    graph = _renamed(graph, reply["inputs"], reply["outputs"])
    return Read(kind, graph, FrameworkEngine(worker, graph), digest, size, dict(reply["tools"]))


def _check_beginning(path: Path, content: bytes) -> None:
    """Refuse what is no Keras file at all, before its framework is asked for."""
    beginning, kind = BEGINNINGS[path.suffix.lower()]
    if not content.startswith(beginning):
        raise SourceInvalid(f"not {kind}: it begins with {content[:8]!r}, expected {beginning!r}")


def _imported(content: bytes, stem: str, suffix: str, fixed: FixedInputs) -> Graph:
    """Read what a framework wrote with our importer of that format."""
    with tempfile.TemporaryDirectory(prefix="edge-convert-") as place:
        path = Path(place) / f"{stem}{suffix}"
        path.write_bytes(content)
        try:
            return importers.load(path, fixed)
        except ConvertError as error:
            text = str(error).removeprefix(f"{path}: ").removeprefix(f"{path.name}: ")
            raise type(error)(text.replace(str(path), path.name)) from error


def _renamed(graph: Graph, inputs: Sequence[str], outputs: Sequence[str]) -> Graph:
    """Give the ports the model's own names; the file's are of TensorFlow's making, in the model's order."""
    if (len(graph.inputs), len(graph.outputs)) != (len(inputs), len(outputs)):
        raise SourceInvalid(
            f"TensorFlow's converter wrote {len(graph.inputs)} inputs and {len(graph.outputs)} outputs, "
            f"the model has {len(inputs)} and {len(outputs)}; one is unused or is given out twice"
        )
    return replace(
        graph,
        inputs=tuple(replace(p, name=name) for p, name in zip(graph.inputs, inputs, strict=True)),
        outputs=tuple(replace(p, name=name) for p, name in zip(graph.outputs, outputs, strict=True)),
    )
