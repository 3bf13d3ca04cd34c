"""PyTorch's .pt2 archives: read without PyTorch, and written anew without what could run code.

`torch.export.load` says itself that it must not be given a file from a stranger. In torch 2.13 opening
one can run what the file says in these ways, each of which is closed here before torch sees it:

  * sample inputs, weights and constants that are pickles        sample inputs are dropped, others refused
  * sizes, which sympy evaluates as Python                       only numbers, symbols and arithmetic
  * guards, which become a function's source                     dropped
  * call signatures, whose JSON may import a module              only tuples, lists and dictionaries
  * operator names, looked up attribute by attribute             only ATen, and arithmetic on sizes
  * operators that take a file's name, such as aten::from_file   only known words as text arguments
  * compiled code beside the program (AOTInductor)               refused

What remains is weights as plain bytes and a graph of named operators.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

from edge_convert.errors import SourceInvalid, UnsupportedFeature, UnsupportedOperator

MAX_UNPACKED_BYTES = 2 << 30
MAX_MEMBERS = 65536
MODEL = "models/model.json"
SAMPLE_INPUTS = "data/sample_inputs/model.pt"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_KEPT = re.compile(
    r"archive_format|archive_version|byteorder|\.data/(version|serialization_id)"
    r"|models/model\.json|data/(weights/weight|constants/tensor)_\d+"
    r"|data/(weights/model_weights|constants/model_constants)_config\.json"
)
_DROPPED = re.compile(r"data/sample_inputs/model\.pt|extra/.*|\.format_version|\.storage_alignment")
_PAYLOAD = re.compile(r"(weight|tensor)_\d+")
_ATEN = re.compile(r"torch\.ops\.aten\.(\w+)\.\w+")
# arithmetic on sizes, and taking one of several results
_SIZES = re.compile(r"_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge)")
_SIZE_WORD = re.compile(
    r"Symbol\('[a-z]+\d+'(?:, (?:positive|integer)=True)*\)"
    r"|\b(?:Add|Mul|Integer|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|Max|Min|True|False|s\d+|u\d+)\b"
    r"|[\d\s+*/(),-]"
)
_WORDS = frozenset(
    {
        "", "none", "tanh", "floor", "trunc", "constant", "reflect", "replicate", "circular", "valid", "same",
        "zeros", "border", "bilinear", "nearest", "bicubic", "linear", "sum", "mean", "prod", "amax", "amin",
        "ij", "xy",
    }
)  # fmt: skip
_PARTS = frozenset({None, "builtins.tuple", "builtins.list", "builtins.dict"})
# argument kinds of torch's schema (torch/_export/serde/schema.py) that a plain program has no use for
_REFUSED_KINDS = {
    "as_graph": "control flow",
    "as_custom_obj": "an object of a custom class",
    "as_operator": "an operator as an argument",
    "as_complex": "complex numbers",
}
# operator -> the argument that must be false when a model is to be run, not trained
_TRAINING = {
    "alpha_dropout": "train",
    "batch_norm": "training",
    "dropout": "train",
    "feature_dropout": "train",
    "instance_norm": "use_input_stats",
}


def clean(content: bytes) -> bytes:
    """Check an archive, and write what may be opened of it.

    Raises:
        SourceInvalid: Not such an archive, damaged, or with something in it that could run code.
        UnsupportedOperator: An operator that is not ATen's.
        UnsupportedFeature: Control flow, custom objects, or a model in training mode.
    """
    members = _members(content)
    if MODEL not in members:
        raise SourceInvalid(f"the archive has no {MODEL}; expected what torch.export.save writes")
    document = _json(members[MODEL], MODEL)
    _check_program(document)
    document["guards_code"] = []
    for node in _nodes(document):
        node["metadata"] = {}  # stack traces and paths of the machine that exported it
    for path in _CONFIGS:
        _check_payloads(_json(members.get(path, b"{}"), path), path, members)
    members[MODEL] = json.dumps(document).encode()
    members[SAMPLE_INPUTS] = b""  # which torch takes for none
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for path, member in members.items():
            archive.writestr(zipfile.ZipInfo(f"model/{path}"), member)
    return stream.getvalue()


# --- the archive ---------------------------------------------------------------------------------


def _members(content: bytes) -> dict[str, bytes]:
    """Contents by path below the archive's one folder, those that are wanted."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            unpacked = sum(entry.file_size for entry in entries)
            if unpacked > MAX_UNPACKED_BYTES or len(entries) > MAX_MEMBERS:
                raise SourceInvalid(
                    f"the archive unpacks to {unpacked} bytes in {len(entries)} files; "
                    f"at most {MAX_UNPACKED_BYTES} in {MAX_MEMBERS} are read"
                )
            members: dict[str, bytes] = {}
            for entry in entries:
                path = _below_root(entry.filename)
                if _KEPT.fullmatch(path):
                    if path in members:
                        raise SourceInvalid(f"the archive holds {path!r} twice")
                    members[path] = archive.read(entry)
                elif not _DROPPED.fullmatch(path):
                    raise SourceInvalid(_why_not(path))
            return members
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise SourceInvalid(f"not a .pt2 archive, or damaged: {error}") from None


def _below_root(path: str) -> str:
    return path.split("/", 1)[1] if "/" in path and not path.startswith("extra/") else path


def _why_not(path: str) -> str:
    if path.startswith("data/aotinductor/"):
        return f"the archive holds compiled code ({path:.80}); export the model with torch.export.save alone"
    if path.endswith(".pt") or path.startswith("serialized_"):
        return (
            f"the archive keeps tensors as a pickle ({path:.80}), which can run code when it is opened; "
            "save the program again with torch 2.9 or newer"
        )
    if "custom_obj" in path or "opaque" in path:
        return f"the archive holds an object of a custom class ({path:.80}), which is a pickle"
    return f"the archive holds {path!r:.80}, which has no place in an exported program"


def _json(content: bytes, path: str) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise SourceInvalid(f"{path} is not JSON, or is damaged") from None
    if not isinstance(document, dict):
        raise SourceInvalid(f"{path} is not a document; expected an object")
    return document


def _check_payloads(config: dict[str, Any], path: str, members: dict[str, bytes]) -> None:
    entries = config.get("config", {})
    if not isinstance(entries, dict):
        raise SourceInvalid(f"{path} is damaged: 'config' is not an object")
    for name, payload in entries.items():
        if not isinstance(payload, dict) or payload.get("use_pickle") is not False:
            raise SourceInvalid(
                f"tensor {name!r:.80} is kept as a pickle, which can run code when it is opened; "
                "save plain tensors"
            )
        if not _PAYLOAD.fullmatch(str(payload.get("path_name"))):
            raise SourceInvalid(f"tensor {name!r:.80} is kept in {payload.get('path_name')!r:.80}")
        # torch makes zeros of any stated size where the file is empty
        if not members.get(f"{path.rsplit('/', 1)[0]}/{payload['path_name']}") and "0" not in _sizes(payload):
            raise SourceInvalid(f"tensor {name!r:.80} has no data in the archive")


def _sizes(payload: dict[str, Any]) -> list[str]:
    meta = payload.get("tensor_meta")
    sizes = meta.get("sizes") if isinstance(meta, dict) else None
    return [str(s.get("as_int")) for s in sizes or () if isinstance(s, dict)]


# --- the program ---------------------------------------------------------------------------------


def _check_program(document: dict[str, Any]) -> None:
    unsupported: dict[str, str] = {}
    for node in _nodes(document):
        target, name = node.get("target"), str(node.get("name"))
        if not isinstance(target, str):
            raise SourceInvalid(f"node {name!r:.80} names no operator")
        aten = _ATEN.fullmatch(target)
        if aten is None and not _SIZES.fullmatch(target):
            unsupported.setdefault(target, name)
        elif aten is not None:
            _refuse_training(node, aten[1], name)
    if unsupported:
        raise UnsupportedOperator(
            "; ".join(f"operator {op:.80} of node {name!r} is not ATen's" for op, name in unsupported.items())
        )
    for key, value in _walk(document):
        _check_entry(key, value)


def _check_entry(key: str, value: Any) -> None:
    """Refuse one entry of the document that torch would evaluate, import or open."""
    # a power of powers would keep sympy busy for ever
    if key == "expr_str" and ("**" in str(value) or _SIZE_WORD.sub("", str(value))):
        raise SourceInvalid(f"a size is given as {value!r:.80}; expected numbers, symbols and arithmetic")
    if key in ("in_spec", "out_spec") and value is not None:
        _check_call(value)
    if key == "as_string" and value not in _WORDS:
        raise SourceInvalid(f"an operator has the text argument {value!r:.80}, which none of ATen's takes")
    if key in _REFUSED_KINDS:
        raise UnsupportedFeature(f"the program uses {_REFUSED_KINDS[key]}, which cannot be converted")
    if key in ("range_constraints", "sym_int_values") and any(not n.isidentifier() for n in value or {}):
        raise SourceInvalid(f"{key} has a name that is none")


def _check_call(text: Any) -> None:
    """The JSON inside the JSON that says how arguments are nested."""
    try:
        document = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        raise SourceInvalid("a call signature is not JSON") from None
    for key, value in _walk({"signature": document}):
        if key == "type" and value not in _PARTS:
            raise UnsupportedFeature(f"an argument is a {value!r:.80}; expected tensors in tuples or lists")
        if key == "context" and "__" in str(value):
            raise SourceInvalid(
                f"a call signature has the context {value!r:.80}, which names code; expected none"
            )


def _refuse_training(node: dict[str, Any], operator: str, name: str) -> None:
    for argument in node.get("inputs") or ():
        if argument.get("name") == _TRAINING.get(operator) and argument.get("arg", {}).get("as_bool"):
            raise UnsupportedFeature(
                f"{operator} {name!r} is in training mode; call model.eval() before torch.export.export"
            )


def _nodes(document: dict[str, Any]) -> list[dict[str, Any]]:
    try:
        nodes = document["graph_module"]["graph"]["nodes"]
    except (KeyError, TypeError):
        raise SourceInvalid(f"{MODEL} has no graph; expected what torch.export.save writes") from None
    if not isinstance(nodes, list) or not all(isinstance(node, dict) for node in nodes):
        raise SourceInvalid(f"{MODEL} is damaged: its nodes are not objects")
    return nodes


def _walk(document: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, at any depth; an explicit stack, because depth is the file's choice."""
    pending = [document]
    while pending:
        found = pending.pop()
        if isinstance(found, dict):
            yield from found.items()
            pending += found.values()
        elif isinstance(found, list):
            pending += found
