"""Keras model configurations: what in one would run code, found before Keras reads it.

A configuration names classes by module and name, and Keras imports what it names; a Lambda layer
carries Python bytecode. Keras's safe mode refuses most of that in .keras files and not in .h5 ones
(CVE-2025-1550, CVE-2025-9905): this list is ours, and the same for both.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from edge_convert.errors import SourceInvalid, UnsupportedFeature

# Lambda and TorchModuleWrapper carry code; TFSMLayer and FlaxLayer read other files or import by name
_CARRY_CODE = frozenset({"Lambda", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "TFSMLayer", "__lambda__"})
_MODULES = ("keras", "tf_keras", "tensorflow.keras", "tensorflow.python.keras", "builtins")
_MAX_CONFIG_BYTES = 64 << 20


def check(text: bytes | str) -> None:
    """Refuse a configuration that names code.

    Raises:
        SourceInvalid: Not JSON, or it names something outside Keras.
        UnsupportedFeature: A Lambda or a custom class; the message names the layer.
    """
    if len(text) > _MAX_CONFIG_BYTES:
        raise SourceInvalid(
            f"the model's configuration has {len(text)} bytes, at most {_MAX_CONFIG_BYTES} are read"
        )
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise SourceInvalid("the model's configuration is not JSON, or is damaged") from None
    for part in _parts(document):
        _check_part(part)


def _check_part(part: dict[str, Any]) -> None:
    kind, module = part.get("class_name"), part.get("module")
    if not isinstance(kind, str):
        return
    config = part.get("config")
    inner = config.get("name") if isinstance(config, dict) else None
    where = f"layer {inner or part.get('name') or kind!r}"
    if kind in _CARRY_CODE:
        raise UnsupportedFeature(
            f"{where} is a {kind}, which carries code of its own; write it with Keras's own layers "
            "(keras.ops inside a functional model), or export a SavedModel"
        )
    registered = part.get("registered_name")
    custom = isinstance(registered, str) and ">" in registered and not registered.startswith("keras")
    outside = module is not None and not _of_keras(str(module))
    if custom or outside or ">" in kind:
        named = registered if custom else f"{module}.{kind}" if outside else kind
        raise UnsupportedFeature(
            f"{where} is of the custom class {named!r:.80}, whose code is not in the file; export the model "
            "as a SavedModel (model.export(folder)), which holds its operators"
        )


def _of_keras(module: str) -> bool:
    return any(module == known or module.startswith(f"{known}.") for known in _MODULES)


def _parts(document: Any) -> Iterator[dict[str, Any]]:
    """Every object at any depth."""
    pending = [document]
    while pending:
        found = pending.pop()
        if isinstance(found, dict):
            yield found
            pending += found.values()
        elif isinstance(found, list):
            pending += found
