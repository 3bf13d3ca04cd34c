"""Source formats: one module each with `read(path) -> Graph`, found by the file's suffix or content.

A format's libraries are imported only when a file of it is read.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from edge_convert.errors import SourceInvalid
from edge_convert.fixed_inputs import NOTHING_FIXED, FixedInputs
from edge_convert.graph import Graph

# suffix -> module of this package
BY_SUFFIX = {".onnx": "onnx", ".tflite": "tflite", ".lite": "tflite"}

# read by their frameworks (`frameworks/reading.py`); named here for messages
OF_FRAMEWORKS = (".keras", ".h5", ".pt2", "a SavedModel folder")
PICKLES = frozenset({".pt", ".pth", ".ckpt", ".pkl"})

TFLITE_IDENTIFIER = b"TFL3"  # bytes 4 to 8 of a TensorFlow Lite flatbuffer


def load(path: Path, fixed: FixedInputs = NOTHING_FIXED) -> Graph:
    """Read a model file of any supported format into the float graph.

    Args:
        fixed: Sizes that the file leaves open, and inputs that become constants.

    Raises:
        SourceInvalid: The file is missing, of no known format, or not a sound model; its
            subclasses say what in it cannot be converted.
    """
    module = importlib.import_module(f"{__name__}.{_format(path)}")
    graph: Graph = module.read(path, fixed)
    return graph


def _format(path: Path) -> str:
    if not path.is_file():
        raise SourceInvalid(f"{path}: no such file")
    with path.open("rb") as file:
        head = file.read(8)
    if head[4:8] == TFLITE_IDENTIFIER:
        return "tflite"
    if path.suffix.lower() in BY_SUFFIX:
        return BY_SUFFIX[path.suffix.lower()]
    if path.suffix.lower() in PICKLES:
        raise SourceInvalid(
            f"{path}: a pickle holds no program, and may run code when it is opened; write the model with "
            "torch.export.save(torch.export.export(model.eval(), inputs), 'model.pt2')"
        )
    known = ", ".join((*sorted(BY_SUFFIX), *OF_FRAMEWORKS))
    raise SourceInvalid(f"{path}: unknown suffix {path.suffix!r}; expected a model: {known}")
