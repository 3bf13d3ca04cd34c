"""The messages described for other languages: CDDL, JSON Schema and AsyncAPI.

    python -m edge_contracts.describe [--check]

writes `schemas/` from the types in `messages.py`; `--check` only says whether it is current. The CDDL is
the exact form of what is signed. JSON knows neither byte strings nor integer keys: `as_json` gives the
form that the JSON Schema describes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_contracts import cddl, inference_topics
from edge_contracts import json_schema as written
from edge_contracts.cose import MAX_ENVELOPE_BYTES
from edge_contracts.messages import Ack, Assignment, DeviceState, Event, Gap, Telemetry, Window
from edge_contracts.model import Frozen
from edge_contracts.topics import PREFIX, TO_DEVICE, Channel
from edge_contracts.verified import RecordKind, VerifiedRecord

FOLDER = Path(__file__).parent / "schemas"
# what is signed on each topic
PAYLOADS: dict[Channel, type[Frozen]] = {
    Channel.TELEMETRY: Telemetry,
    Channel.STATUS: DeviceState,
    Channel.HELLO: DeviceState,
    Channel.ACK: Ack,
    Channel.ASSIGNMENT: Assignment,
}
SAID: dict[Channel, str] = {
    Channel.TELEMETRY: "Numbered, chained envelopes of records; sent again until acknowledged.",
    Channel.STATUS: "Where the device stands, when something changes.",
    Channel.HELLO: "Where the device stands, when it connects and now and then; asks for its assignment.",
    Channel.ACK: "What the server has stored.",
    Channel.ASSIGNMENT: "What the device should run.",
}
ENVELOPE = """\
; COSE_Sign1, RFC 9052 section 4.2, in the one spelling that counts: shortest definite encodings, an empty
; unprotected header. external_aad is the MQTT topic in UTF-8; the signature is Ed25519 (RFC 8032).
envelope = #6.18([
  protected: bstr .cbor protected-header,
  unprotected: {},
  payload: bstr .cbor payload,
  signature: bstr .size 64,
])

; 1: alg, -8 is EdDSA; 4: kid, the first 32 hex digits of the SHA-256 of the raw public key
protected-header = { 1: -8, 4: bstr .size 32 }

; by topic: telemetry / status and hello / ack / assignment
payload = telemetry / device-state / ack / assignment

"""


def cddl_text() -> str:
    """The CDDL of envelopes and of everything in them."""
    models: dict[str, type[Frozen]] = {
        "telemetry": Telemetry,
        "window": Window,
        "event": Event,
        "gap": Gap,
        "device-state": DeviceState,
        "ack": Ack,
        "assignment": Assignment,
    }
    comments = {name: str(model.__doc__).splitlines()[0] for name, model in models.items()}
    head = "; Written by python -m edge_contracts.describe from messages.py. RFC 8610.\n\n"
    return head + ENVELOPE + cddl.describe(models, comments)


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of every message in the form of `as_json`."""
    kinds: dict[type[Frozen], None] = dict.fromkeys(PAYLOADS.values())
    described: tuple[type[Frozen], ...] = (*kinds, VerifiedRecord)
    definitions = written.definitions(described)
    for definition in definitions.values():
        said = [name for name, field in definition.get("properties", {}).items() if "const" in field]
        if said:  # the version and the kind of a record: they have defaults, but are always written
            definition["required"] = [*said, *definition["required"]]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "oneOf": [{"$ref": f"#/$defs/{kind.__name__}"} for kind in kinds],
        "$defs": definitions,
        "title": "Edgefleet messages",
    }


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3.0 document of the topics, seen from the device."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for channel, payload in PAYLOADS.items():
        to_device = channel in TO_DEVICE
        channels[channel] = {
            "address": f"{PREFIX}/{{fleet}}/{{device}}/{channel}",
            "description": SAID[channel],
            "parameters": {
                name: {"description": f"The {name}, [A-Za-z0-9_-]"} for name in ("fleet", "device")
            },
            "messages": {payload.__name__: {"$ref": f"#/components/messages/{payload.__name__}"}},
            "bindings": {"mqtt": {}},
        }
        operations[channel] = {
            "action": "receive" if to_device else "send",
            "channel": {"$ref": f"#/channels/{channel}"},
            "summary": SAID[channel],
            "bindings": {"mqtt": {"qos": 1, "retain": False}},
        }
    for kind in RecordKind:
        name = f"verified-{kind}"
        said = f"Each {kind} that was verified and stored, as plain JSON; only the server publishes here."
        channels[name] = {
            "address": f"{PREFIX}/{{fleet}}/{{device}}/verified/{kind}",
            "description": said,
            "parameters": channels[Channel.TELEMETRY]["parameters"],
            "messages": {
                VerifiedRecord.__name__: {"$ref": f"#/components/messages/{VerifiedRecord.__name__}"}
            },
            "bindings": {"mqtt": {}},
        }
        operations[name] = {
            "action": "receive",
            "channel": {"$ref": f"#/channels/{name}"},
            "summary": f"For subscribers, not for devices. {said}",
            "bindings": {"mqtt": {"qos": 0, "retain": False}},
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Edgefleet devices",
            "version": "1",
            "description": f"COSE_Sign1 envelopes (messages.cddl) of at most {MAX_ENVELOPE_BYTES} bytes, "
            "bound to their topic; payloads are in the form of messages.schema.json.",
        },
        "defaultContentType": 'application/cose; cose-type="cose-sign1"',
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": {
                kind.__name__: {
                    "contentType": 'application/cose; cose-type="cose-sign1"',
                    "summary": str(kind.__doc__).splitlines()[0],
                    "payload": {"$ref": f"./messages.schema.json#/$defs/{kind.__name__}"},
                }
                for kind in dict.fromkeys(PAYLOADS.values())
            }
            | {
                VerifiedRecord.__name__: {
                    "contentType": "application/json",
                    "summary": str(VerifiedRecord.__doc__).splitlines()[0],
                    "payload": {"$ref": f"./messages.schema.json#/$defs/{VerifiedRecord.__name__}"},
                }
            }
        },
    }


def documents() -> dict[str, str]:
    """Every file of `schemas/`, by name."""
    return {
        "messages.cddl": cddl_text(),
        "messages.schema.json": json.dumps(json_schema(), indent=1, sort_keys=True) + "\n",
        "asyncapi.json": json.dumps(asyncapi(), indent=1) + "\n",
        "inference.asyncapi.json": json.dumps(inference_topics.document(), indent=1) + "\n",
    }


def as_json(item: Any) -> Any:
    """A decoded payload as JSON can say it: byte strings in hex, integer keys in decimal."""
    if isinstance(item, bytes):
        return item.hex()
    if isinstance(item, Mapping):
        return {str(key): as_json(value) for key, value in item.items()}
    if isinstance(item, list | tuple):
        return [as_json(one) for one in item]
    return item


def outdated(folder: Path = FOLDER) -> list[str]:
    """Names of the files that are not what the types say."""
    return [
        name
        for name, content in documents().items()
        if not (folder / name).exists() or (folder / name).read_text() != content
    ]


def main() -> None:
    """Write or check the files."""
    late = outdated()
    if "--check" in sys.argv[1:]:
        sys.exit(f"not current: {', '.join(late)}; run python -m edge_contracts.describe" if late else 0)
    FOLDER.mkdir(exist_ok=True)
    for name in late:
        (FOLDER / name).write_text(documents()[name])
        print("wrote", name)


if __name__ == "__main__":
    main()
