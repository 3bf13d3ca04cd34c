"""The topics by which applications at a local broker ask a device's model, and their AsyncAPI description.

PREFIX/v2/models/MODEL/infer                   tensors: the Open Inference Protocol, as by HTTP
PREFIX/v2/models/MODEL/answer                  bytes: a picture, a sound, a table; labels or boxes come back
PREFIX/v2/models/MODEL/answer/TYPE/SUBTYPE     the same for MQTT 3.1.1, which cannot state a media type
PREFIX/v2/models/MODEL/versions/VERSION/...    each of them for one version only
.../reply                                      below each: replies, unless a request names a response topic
"""

from __future__ import annotations

from typing import Any

from edge_contracts.inference_bodies import MEDIA, SCHEMAS

REPLY = "/reply"
_MODEL = "{prefix}/v2/models/{model}"
_VERSION = f"{_MODEL}/versions/{{version}}"
INFER, ANSWER = "infer", "answer"
ADDRESSES = {
    INFER: f"{_MODEL}/infer",
    f"{INFER}Version": f"{_VERSION}/infer",
    ANSWER: f"{_MODEL}/answer",
    f"{ANSWER}Version": f"{_VERSION}/answer",
    f"{ANSWER}Typed": f"{_MODEL}/answer/{{type}}/{{subtype}}",
    f"{ANSWER}TypedVersion": f"{_VERSION}/answer/{{type}}/{{subtype}}",
}  # of requests, by what they are called in the description
_PARAMETERS = {
    "prefix": "--mqtt-inference-prefix of the agent: levels of [A-Za-z0-9_-]",
    "model": "The name of the bundle",
    "version": "The version of the bundle",
    "type": "The media type of the payload: image, audio, text or application",
    "subtype": "The rest of it: jpeg, png, wav, csv or json",
}
_HEADERS = {
    "Edge-Client": "Who asks, for turns and rates.",
    "Edge-Request-Id": "Of answers: what the client calls the request; labels may come back for it.",
    "Inference-Header-Content-Length": "Of tensors: where the JSON ends and binary data begins.",
}


def document() -> dict[str, Any]:
    """The AsyncAPI 3.0 document, seen from the device."""
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    for name, address in ADDRESSES.items():
        what = INFER if name.startswith(INFER) else ANSWER
        parameters = {k: {"description": v} for k, v in _PARAMETERS.items() if f"{{{k}}}" in address}
        for channel, at, message in (
            (name, address, f"{what}Request"),
            (f"{name}Reply", address + REPLY, f"{what}Reply"),
        ):
            channels[channel] = {
                "address": at,
                "parameters": parameters,
                "messages": {message: {"$ref": f"#/components/messages/{message}"}},
                "bindings": {"mqtt": {}},
            }
        operations[name] = {
            "action": "receive",
            "channel": {"$ref": f"#/channels/{name}"},
            "summary": _MESSAGES[f"{what}Request"]["summary"],
            "reply": {
                "address": {
                    "location": "$message.header#/responseTopic",
                    "description": "The response topic of MQTT 5; without one, the channel's own address.",
                },
                "channel": {"$ref": f"#/channels/{name}Reply"},
            },
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Edgefleet: a device's model over a local broker",
            "version": "1",
            "description": "MQTT 5 or 3.1.1. Headers are user properties; correlation data comes back as "
            "it was; a message expiry is a deadline. Retained requests are not answered.",
        },
        "channels": channels,
        "operations": operations,
        "components": {"messages": _MESSAGES, "schemas": SCHEMAS},
    }


def _headers(*names: str) -> dict[str, Any]:
    described = {name: {"type": "string", "description": _HEADERS[name]} for name in names}
    return {"type": "object", "properties": described}


def _replied(schema: str) -> dict[str, Any]:
    either = [{"$ref": f"#/components/schemas/{name}"} for name in (schema, "Error")]
    status = {"type": "string", "description": "HTTP's number: 200, or that of the error."}
    return {
        "contentType": "application/json",
        "headers": {"type": "object", "properties": {"status": status}},
        "payload": {"oneOf": either},
    }


_KINDS = ", ".join(f"{kind}: {' or '.join(types)}" for kind, types in MEDIA.items())
_MESSAGES: dict[str, Any] = {
    "inferRequest": {
        "contentType": "application/json",
        "summary": "Have tensors answered: JSON, and behind it the raw bytes that a binary_data_size states.",
        "headers": _headers("Edge-Client", "Inference-Header-Content-Length"),
        "payload": {"$ref": "#/components/schemas/InferRequest"},
    },
    "inferReply": {"summary": "Outputs, or why there are none.", **_replied("InferReply")},
    "answerRequest": {
        "summary": "Have a picture, a sound or a table answered.",
        "description": "The content type of MQTT 5, a user property Content-Type, or the topic's last two "
        f"levels say what it is. By what the bundle's contract takes: {_KINDS}.",
        "headers": _headers("Edge-Client", "Edge-Request-Id"),
        "payload": {"type": "string", "format": "binary"},
    },
    "answerReply": {"summary": "Labels or boxes, or why there are none.", **_replied("AnswerReply")},
}
