"""Inference by MQTT: which topics, what a message asks and where its reply goes. Pure.

The topics are `edge_contracts.inference_topics`'s. MQTT 5: response topic and correlation data are
honoured, the message expiry is a deadline, the content type says what bytes are; user properties are what
headers are in HTTP (`Inference-Header-Content-Length`, `Edge-Client`, `Edge-Request-Id`; `status` in
replies). With MQTT 3.1.1 a client matches replies by the `id` that it states; the end of the JSON is found by
reading it, and what bytes are is said by the topic.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from edge_agent.errors import AgentError, CallRefused
from edge_agent.inference.request import Caller
from edge_agent.serving.datatypes import refuse
from edge_agent.serving.handed import Handed
from edge_agent.serving.inference_api import LONGEST_S
from edge_agent.serving.protocol import Call, read_call, write_error
from edge_agent.serving.routes import refusal
from edge_contracts.inference_topics import ADDRESSES, ANSWER, INFER, REPLY

JSON_BYTES = "inference-header-content-length"
CLIENT = "edge-client"
REQUEST_ID = "edge-request-id"
CONTENT_TYPE = "content-type"
MAX_TOPIC = 512
LONGEST_TOPIC_BYTES = 65_535  # of UTF-8: MQTT 5.0 section 1.5.4
MAX_PAYLOAD = 32 << 20
_PREFIX = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")
# of what follows the prefix
_PATTERNS = {
    name: re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", address.removeprefix("{prefix}")))
    for name, address in ADDRESSES.items()
}
_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class Asked:
    """A message that asks.

    Args:
        response_topic: Of MQTT 5; "" for none.
        correlation: Given back as it is.
        properties: User properties, names in lower case.
        content_type: Of MQTT 5; "" for none.
        expiry_s: How long it is worth answering, None for as long as it takes.
    """

    topic: str
    payload: bytes
    qos: int = 0
    response_topic: str = ""
    correlation: bytes | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    expiry_s: float | None = None
    content_type: str = ""


@dataclass(frozen=True)
class Named:
    """What a topic for requests says.

    Args:
        what: INFER for tensors, ANSWER for bytes.
        version: None for whichever is open.
        media_type: "" where the topic does not say.
    """

    what: str
    model: str
    version: str | None = None
    media_type: str = ""


@dataclass(frozen=True)
class Topics:
    """The topics below a prefix.

    Args:
        prefix: Levels of letters, digits, - and _.
    """

    prefix: str

    def __post_init__(self) -> None:  # noqa: D105
        if not _PREFIX.fullmatch(self.prefix) or len(self.prefix) > 200:
            raise refuse(f"{self.prefix!r:.80} is no topic prefix: levels of letters, digits, - and _")

    @property
    def subscriptions(self) -> tuple[str, ...]:
        """What to listen on."""
        return tuple(
            re.sub(r"{\w+}", "+", address.replace("{prefix}", self.prefix)) for address in ADDRESSES.values()
        )

    def names(self, topic: str) -> Named | None:
        """What a topic names; None when it is not one for requests."""
        if not topic.startswith(f"{self.prefix}/"):
            return None
        for name, pattern in _PATTERNS.items():
            match = pattern.fullmatch(topic, len(self.prefix))
            if match is not None:
                found = match.groupdict()
                what = INFER if name.startswith(INFER) else ANSWER
                stated = f"{found['type']}/{found['subtype']}" if "type" in found else ""
                return Named(what, found["model"], found.get("version"), stated)
        return None

    def can_be_replied_to(self, asked: Asked) -> bool:
        """Whether there is a topic beside the request's, which may be as long as topics can be."""
        return len((asked.topic + REPLY).encode()) <= LONGEST_TOPIC_BYTES

    def reply_to(self, asked: Asked) -> str:
        """Where the reply goes.

        Raises:
            CallRefused: The response topic is none, or would be a request to this device again.
        """
        topic = asked.response_topic
        if not topic:
            return asked.topic + REPLY
        if len(topic) > MAX_TOPIC or any(sign in topic for sign in "+#\0") or topic.startswith("$"):
            raise refuse(f"{topic!r:.80} is no topic for a reply")
        if self.names(topic) is not None:
            raise refuse(f"response topic {topic!r:.80} is one for requests")
        return topic


def read_asked(asked: Asked) -> Call:
    """What a message asks.

    Raises:
        CallRefused: It is no request.
    """
    if len(asked.payload) > MAX_PAYLOAD:
        raise _too_large()
    stated = asked.properties.get(JSON_BYTES)
    if stated is None:
        json_bytes = _end_of_json(asked.payload)
    elif stated.isascii() and stated.isdigit() and len(stated) < 16:
        json_bytes = int(stated)
    else:
        raise refuse(f"Inference-Header-Content-Length must be a number, found {stated!r:.40}")
    return read_call(memoryview(asked.payload), json_bytes)


def read_handed(asked: Asked, named: Named, caller: Caller) -> Handed:
    """The bytes that a message hands over.

    Raises:
        CallRefused: They are too many, or their name is.
    """
    if len(asked.payload) > MAX_PAYLOAD:
        raise _too_large()
    stated = named.media_type or asked.content_type or asked.properties.get(CONTENT_TYPE, "")
    allowed_s = LONGEST_S if asked.expiry_s is None else min(LONGEST_S, asked.expiry_s)
    identity = asked.properties.get(REQUEST_ID, "")
    return Handed(asked.payload, stated, caller, monotonic() + allowed_s, identity)


def write_refusal(error: AgentError, identity: str = "") -> tuple[bytes, int]:
    """An error as a reply, with HTTP's number for it."""
    content = write_error(error.code, str(error))
    if identity:
        document: dict[str, Any] = {**json.loads(content), "id": identity}
        content = json.dumps(document, separators=(",", ":")).encode()
    return content, refusal(error).status


def _end_of_json(payload: bytes) -> int | None:
    """Where the JSON ends when something follows it."""
    try:
        _, end = _DECODER.raw_decode(str(payload, "latin-1"))  # positions are those of the bytes
    except (ValueError, RecursionError):
        return None
    return end if payload[end:].strip() else None


def _too_large() -> CallRefused:
    return CallRefused(413, "too-large", f"the message has more than {MAX_PAYLOAD} bytes")
