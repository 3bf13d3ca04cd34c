"""Every MQTT topic, built and parsed in one place: `edge/v1/<fleet>/<device>/<channel>`.

>>> topic("plant-1", "cam-07", Channel.TELEMETRY)
'edge/v1/plant-1/cam-07/telemetry'
>>> parse("edge/v1/plant-1/cam-07/telemetry")
Address(fleet='plant-1', device='cam-07', channel=<Channel.TELEMETRY: 'telemetry'>)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from edge_contracts.errors import TopicInvalid
from edge_contracts.model import ID_PATTERN

PREFIX = "edge/v1"
_IDENTIFIER = re.compile(ID_PATTERN)


class Channel(StrEnum):
    """What is said on a topic, and by whom."""

    TELEMETRY = "telemetry"  # device -> server: envelopes of records, numbered and chained
    STATUS = "status"  # device -> server: where an assignment stands
    HELLO = "hello"  # device -> server: here I am; what shall I run?
    ACK = "ack"  # server -> device: stored up to here
    ASSIGNMENT = "assignment"  # server -> device: run this release


FROM_DEVICE = (Channel.TELEMETRY, Channel.STATUS, Channel.HELLO)
TO_DEVICE = (Channel.ACK, Channel.ASSIGNMENT)


@dataclass(frozen=True)
class Address:
    """A parsed topic."""

    fleet: str
    device: str
    channel: Channel


def identifier(text: str, what: str) -> str:
    """Give an identifier back, or refuse it.

    Raises:
        TopicInvalid: It is not 1 to 64 of `[A-Za-z0-9_-]`.
    """
    if not _IDENTIFIER.match(text) or text.endswith("\n"):
        raise TopicInvalid(f"{what} {text!r:.80} is not an identifier: 1 to 64 of A-Z a-z 0-9 _ -")
    return text


def topic(fleet: str, device: str, channel: Channel) -> str:
    """The topic of one device's channel."""
    return f"{PREFIX}/{identifier(fleet, 'fleet')}/{identifier(device, 'device')}/{channel}"


def subscription(fleet: str, channel: Channel) -> str:
    """The filter for one channel of every device of a fleet."""
    return f"{PREFIX}/{identifier(fleet, 'fleet')}/+/{channel}"


def parse(text: str) -> Address:
    """Take a topic apart.

    Raises:
        TopicInvalid: It is not one of ours.
    """
    parts = text.split("/")
    if len(parts) != 5 or "/".join(parts[:2]) != PREFIX:
        raise TopicInvalid(f"topic {text!r:.120} is not {PREFIX}/<fleet>/<device>/<channel>")
    try:
        channel = Channel(parts[4])
    except ValueError:
        raise TopicInvalid(f"topic {text!r:.120} has channel {parts[4]!r}, which is not known") from None
    return Address(identifier(parts[2], "fleet"), identifier(parts[3], "device"), channel)
