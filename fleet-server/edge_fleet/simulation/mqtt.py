"""MQTT 3.1.1 for one client, as packets: bytes in, packets out; no socket and no clock.

A client library has a thread or two sockets beside the connection for each client (paho: a pair of them),
which is three times the files that a process may open. Thousands of simulated devices in one process need
one socket each, and only this much of the protocol.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from edge_contracts.errors import FormatInvalid

MOST_BYTES = 1 << 22  # of one packet that a broker may send us


class Kind(IntEnum):
    """Section 2.2.1: the upper four bits of a packet's first byte."""

    CONNECT = 1
    CONNACK = 2
    PUBLISH = 3
    PUBACK = 4
    SUBSCRIBE = 8
    SUBACK = 9
    PINGREQ = 12
    PINGRESP = 13
    DISCONNECT = 14


PING = bytes([Kind.PINGREQ << 4, 0])
GOODBYE = bytes([Kind.DISCONNECT << 4, 0])


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet from the broker."""

    kind: int
    flags: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Published:
    """What a PUBLISH says.

    Args:
        packet_id: To be acknowledged when it is not 0.
    """

    topic: str
    payload: bytes
    packet_id: int


def connect(client_id: str, user: str, password: str, keepalive_s: int) -> bytes:
    """Section 3.1: a clean session, with user name and password."""
    head = _text("MQTT") + b"\x04\xc2" + struct.pack(">H", keepalive_s)
    return _packet(Kind.CONNECT, 0, head + _text(client_id) + _text(user) + _text(password))


def subscribe(packet_id: int, filters: Sequence[str]) -> bytes:
    """Section 3.8, each with QoS 0."""
    return _packet(
        Kind.SUBSCRIBE, 2, struct.pack(">H", packet_id) + b"".join(_text(f) + b"\0" for f in filters)
    )


def publish(topic: str, payload: bytes, packet_id: int) -> bytes:
    """Section 3.3, with QoS 1."""
    return _packet(Kind.PUBLISH, 2, _text(topic) + struct.pack(">H", packet_id) + payload)


def acknowledge(packet_id: int) -> bytes:
    """Section 3.4."""
    return _packet(Kind.PUBACK, 0, struct.pack(">H", packet_id))


def refusal(connack: Packet) -> int:
    """Section 3.2.2.3: why a connection is refused; 0 when it is not."""
    return connack.body[1] if len(connack.body) == 2 else 255


def published(packet: Packet) -> Published:
    """Take a PUBLISH apart.

    Raises:
        FormatInvalid: It is too short.
    """
    body, qos = packet.body, packet.flags >> 1 & 3
    end = 2 + int.from_bytes(body[:2], "big")
    start = end + 2 if qos else end
    if len(body) < start:
        raise FormatInvalid("a PUBLISH ends before its payload begins")
    packet_id = int.from_bytes(body[end:start], "big")
    return Published(body[2:end].decode("utf-8", "replace"), body[start:], packet_id)


class Reader:
    """Puts what a socket gives together into packets."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._buffer = bytearray()

    def feed(self, content: bytes) -> Iterator[Packet]:
        """Packets that are whole by now.

        Raises:
            FormatInvalid: Not a packet's length, or one beyond all reason.
        """
        self._buffer += content
        while (found := self._length()) is not None:
            start, end = found
            if len(self._buffer) < end:
                return
            first, body = self._buffer[0], bytes(self._buffer[start:end])
            del self._buffer[:end]
            yield Packet(first >> 4, first & 15, body)

    def _length(self) -> tuple[int, int] | None:
        """Section 2.2.3: where the body of the first packet starts and ends."""
        length = 0
        for place in range(1, min(len(self._buffer), 5)):
            digit = self._buffer[place]
            length |= (digit & 127) << 7 * (place - 1)
            if not digit & 128:
                if length > MOST_BYTES:
                    raise FormatInvalid(f"a packet of {length} bytes, at most {MOST_BYTES} are read")
                return place + 1, place + 1 + length
        if len(self._buffer) >= 5:
            raise FormatInvalid("a packet's length has more than four bytes")
        return None


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack(">H", len(raw)) + raw


def _packet(kind: Kind, flags: int, body: bytes) -> bytes:
    head, left = bytearray([kind << 4 | flags]), len(body)
    while True:
        left, digit = divmod(left, 128)
        head.append(digit | (128 if left else 0))
        if not left:
            return bytes(head) + body
