"""Which file of a downloaded MLflow model is the model: by the flavors that its MLmodel states."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from edge_convert.errors import RegistryFailed
from edge_convert.frameworks.reading import SAVED_MODEL, SUFFIXES
from edge_convert.importers import BY_SUFFIX

MLMODEL = "MLmodel"
_MAX_BYTES = 16 << 20


def model_in(place: Path, uri: str) -> Path:
    """The file or folder to convert.

    Args:
        place: What was downloaded: an MLflow model, a SavedModel, a folder with one model file, or a file.
        uri: Where it came from, for messages.

    Raises:
        RegistryFailed: There is nothing in it that can be converted, or more than one thing.
    """
    if place.is_file() or (place / SAVED_MODEL).is_file():
        return place
    if (place / MLMODEL).is_file():
        return _by_flavor(place, uri)
    found = sorted(p for p in place.iterdir() if p.suffix.lower() in {*SUFFIXES, *BY_SUFFIX})
    if len(found) != 1:
        names = ", ".join(p.name for p in found) or "none"
        raise RegistryFailed(
            f"{uri} is a folder with several model files or none ({names}); name one of them"
        )
    return found[0]


def _by_flavor(place: Path, uri: str) -> Path:
    flavors = _flavors(place / MLMODEL, uri)
    for name, candidates in _FLAVORS.items():
        if name not in flavors:
            continue
        for candidate in candidates(flavors[name]):
            found = _inside(place, candidate)
            if found is not None and (found.is_file() or (found / SAVED_MODEL).is_file()):
                return found
    if "pytorch" in flavors:
        raise RegistryFailed(
            f"{uri} keeps its PyTorch model as a pickle, which may run code when it is opened; log it with "
            "mlflow.pytorch.log_model(..., input_example=x, serialization_format='pt2')"
        )
    known = ", ".join(sorted(flavors)) or "none"
    raise RegistryFailed(f"{uri} has the flavors {known}; expected a model file of {', '.join(_FLAVORS)}")


def _flavors(path: Path, uri: str) -> dict[str, Mapping[str, Any]]:
    import yaml

    content = path.read_bytes()
    try:
        document = yaml.safe_load(content) if len(content) <= _MAX_BYTES else None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError):
        document = None
    flavors = document.get("flavors") if isinstance(document, dict) else None
    if not isinstance(flavors, dict):
        raise RegistryFailed(f"{uri}: its {MLMODEL} is damaged; expected a list of flavors")
    return {str(k): v for k, v in flavors.items() if isinstance(v, dict)}


def _inside(place: Path, relative: str) -> Path | None:
    """A path below the model's folder; None when it leads outside."""
    found = (place / relative).resolve()
    return found if place.resolve() in found.parents else None


def _onnx(flavor: Mapping[str, Any]) -> list[str]:
    return [str(flavor.get("data", "model.onnx"))]


def _keras(flavor: Mapping[str, Any]) -> list[str]:
    data = str(flavor.get("data", "data"))
    return [f"{data}/model.keras", f"{data}/model.h5", f"{data}/model"]


def _tensorflow(flavor: Mapping[str, Any]) -> list[str]:
    return [*_keras(flavor), str(flavor.get("saved_model_dir", "tf2model"))]


def _pytorch(flavor: Mapping[str, Any]) -> list[str]:
    return [f"{flavor.get('model_data', 'data')}/model.pt2"]


# in order of preference: what needs no framework first
_FLAVORS: dict[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "onnx": _onnx,
    "keras": _keras,
    "tensorflow": _tensorflow,
    "pytorch": _pytorch,
}
