"""The Open Inference Protocol v2: an inference request out of bytes, and a reply into bytes.

https://github.com/kserve/open-inference-protocol, `inference_rest.md`, with the binary tensor data
extension (`extension_binary_data.md` of Triton, which the protocol's clients speak). Pure: HTTP and MQTT
carry the same bytes. A message is a JSON object, followed by the raw bytes of the tensors that state a
`binary_data_size`, in order; where the JSON ends is told beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.inference.request import Reply
from edge_agent.serving.datatypes import (
    datatype_of,
    from_bytes,
    from_json,
    read_dtype,
    read_shape,
    refuse,
    to_bytes,
    to_json,
)

BINARY_SIZE = "binary_data_size"
BINARY = "binary_data"
MAX_TENSORS = 1024
MAX_ID = 1024


@dataclass(frozen=True, eq=False)
class Call:
    """An inference request as a client stated it.

    Args:
        id: Given back in the reply; "" when there was none.
        inputs: By name, not checked against the contract yet.
        outputs: Which to send and whether in binary; None for all, as `binary_output` says.
        timeout_s: How long the client waits at most; None when it does not say.
        parameters: What else it stated for the whole request.
    """

    id: str
    inputs: Mapping[str, NDArray[Any]]
    outputs: Mapping[str, bool] | None = None
    binary_output: bool = False
    timeout_s: float | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Message:
    """A reply as bytes.

    Args:
        content: The JSON, and behind it the binary data.
        json_bytes: Where the JSON ends; None when there is nothing behind it.
    """

    content: bytes
    json_bytes: int | None = None


def read_call(content: memoryview, json_bytes: int | None = None) -> Call:
    """Understand an inference request.

    Args:
        content: The whole body; arrays of binary data are views of it.
        json_bytes: The header Inference-Header-Content-Length, None when there was none.

    Raises:
        CallRefused: It is not one; the message says what was found where.
    """
    if json_bytes is None:
        json_bytes = len(content)
    elif not 0 < json_bytes <= len(content):
        raise refuse(f"Inference-Header-Content-Length is {json_bytes}, the request has {len(content)} bytes")
    document = _object(read_json(bytes(content[:json_bytes])), "the request")
    parameters = _object(document.get("parameters", {}), "parameters")
    inputs, used = _inputs(document.get("inputs"), content[json_bytes:])
    left = len(content) - json_bytes - used
    if left:
        raise refuse(f"{left} bytes behind the binary data that the inputs state")
    binary_output = _flag(parameters, "binary_data_output")
    return Call(
        _identity(document.get("id", "")),
        inputs,
        _outputs(document.get("outputs"), binary_output),
        binary_output,
        _timeout(parameters),
        {name: value for name, value in parameters.items() if name != "binary_data_output"},
    )


def write_reply(call: Call, reply: Reply) -> Message:
    """A reply in the form that the call asked for.

    Raises:
        CallRefused: It asked for an output that the model does not have.
    """
    wanted = call.outputs
    if wanted is None:
        wanted = dict.fromkeys(reply.outputs, call.binary_output)
    outputs: list[dict[str, Any]] = []
    behind: list[bytes] = []
    for name, binary in wanted.items():
        values = reply.outputs.get(name)
        if values is None:
            raise refuse(f"no output {name!r:.80}, the model has {', '.join(map(repr, reply.outputs))}")
        stated: dict[str, Any] = {
            "name": name,
            "shape": list(values.shape),
            "datatype": datatype_of(values.dtype.name),
        }
        if binary:
            behind.append(to_bytes(values))
            stated["parameters"] = {BINARY_SIZE: len(behind[-1])}
        else:
            stated["data"] = to_json(values)
        outputs.append(stated)
    document: dict[str, Any] = {"model_name": reply.model, "model_version": reply.version}
    if call.id:
        document["id"] = call.id
    document["parameters"] = _said(reply)
    document["outputs"] = outputs
    head = _ENCODER.encode(document).encode()
    return Message(b"".join((head, *behind)), len(head) if behind else None)


def write_error(code: str, message: str) -> bytes:
    """An error as the protocol has it, with our short word for programs."""
    line = " ".join(message.split())
    return json.dumps({"error": line, "code": code}, separators=(",", ":")).encode()


def read_json(content: bytes) -> Any:
    """Strict JSON in UTF-8 (RFC 8259, section 8.1): no NaN, no Infinity, no half of a surrogate pair.

    By msgspec's parser, which is in the process anyway and takes a fifth of the standard library's time.

    Raises:
        CallRefused: It is not JSON.
    """
    try:
        return msgspec.json.decode(content)
    except (ValueError, RecursionError) as error:
        raise refuse(f"the request is not JSON: {error}") from None


_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


def _said(reply: Reply) -> dict[str, Any]:
    """What is known of the answer, as parameters: text, numbers and truth values only."""
    said: dict[str, Any] = {
        "bundle": reply.bundle,
        "artifact": reply.artifact,
        "latency_ms": round(reply.latency_ms, 4),
    }
    if reply.flagged:
        said["flagged"] = ",".join(f"{reason}:{count}" for reason, count in reply.flagged.items())
    if reply.uncertain:
        said["uncertain"] = True
    if reply.confidence is not None and np.isfinite(reply.confidence):
        said["confidence"] = reply.confidence
    if reply.path:
        said["path"] = ",".join(reply.path)
    return said


def _inputs(raw: Any, behind: memoryview) -> tuple[dict[str, NDArray[Any]], int]:
    """The inputs, and how many bytes of the binary data they took."""
    found: dict[str, NDArray[Any]] = {}
    at = 0
    for item in _tensors(raw, "inputs"):
        name = _name(item, "an input")
        if name in found:
            raise refuse(f"input {name!r:.80} is there twice")
        shape = read_shape(item.get("shape"), name)
        dtype = read_dtype(item.get("datatype"), name)
        parameters = _object(item.get("parameters", {}), f"parameters of input {name!r:.80}")
        size = parameters.get(BINARY_SIZE)
        if size is None:
            if "data" not in item:
                raise refuse(f"input {name!r:.80} has neither data nor the parameter {BINARY_SIZE}")
            found[name] = from_json(item["data"], dtype, shape, name)
            continue
        if "data" in item:
            raise refuse(f"input {name!r:.80} has both data and the parameter {BINARY_SIZE}")
        if type(size) is not int or not 0 <= size <= len(behind) - at:
            raise refuse(
                f"input {name!r:.80}: {BINARY_SIZE} is {size!r:.40}, "
                f"{len(behind) - at} bytes are left behind the JSON"
            )
        found[name] = from_bytes(behind[at : at + size], dtype, shape, name)
        at += size
    return found, at


def _outputs(raw: Any, binary: bool) -> dict[str, bool] | None:
    if raw is None or raw == []:
        return None
    wanted: dict[str, bool] = {}
    for item in _tensors(raw, "outputs"):
        name = _name(item, "an output")
        parameters = _object(item.get("parameters", {}), f"parameters of output {name!r:.80}")
        if parameters.get("classification"):
            raise refuse(f"output {name!r:.80}: classification is not offered; take the scores")
        wanted[name] = _flag(parameters, BINARY) if BINARY in parameters else binary
    return wanted


def _tensors(raw: Any, what: str) -> list[dict[str, Any]]:
    if not isinstance(raw, list) or not 1 <= len(raw) <= MAX_TENSORS:
        raise refuse(f"{what} must be a list of at least one tensor, found {_shown(raw)}")
    return [_object(item, f"each of {what}") for item in raw]


def _name(item: Mapping[str, Any], what: str) -> str:
    name = item.get("name")
    if not isinstance(name, str) or not name:
        raise refuse(f"the name of {what} must be text, found {_shown(name)}")
    return name


def _object(raw: Any, what: str) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise refuse(f"{what} must be an object, found {_shown(raw)}")
    return raw


def _flag(parameters: Mapping[str, Any], name: str) -> bool:
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise refuse(f"parameter {name} must be true or false, found {value!r:.40}")
    return value


def _identity(raw: Any) -> str:
    if not isinstance(raw, str) or len(raw) > MAX_ID:
        raise refuse(f"id must be text of at most {MAX_ID} characters, found {_shown(raw)}")
    return raw


def _timeout(parameters: Mapping[str, Any]) -> float | None:
    """Triton's `timeout` of a request, microseconds; 0 is none."""
    value = parameters.get("timeout")
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise refuse(f"parameter timeout must be whole microseconds, found {value!r:.40}")
    return value / 1e6 or None


def _shown(raw: Any) -> str:
    return "nothing" if raw is None else f"{type(raw).__name__} {raw!r:.60}"
