"""The socket that paho reads the server's packets from: a lot at once, and messages go past paho.

paho 2.2 asks the system four times for a packet (its first byte, each byte of its length, the rest), waits in
`select` before the next, and makes an object of each message under two locks: that was a fifth of ingest's
time (docs/decisions/0114). Here one question brings up to 64 KiB. The messages in it that need nothing
of paho - PUBLISH with QoS 0, MQTT 3.1.1 section 3.3 - are taken out in their order and handed on together;
every other packet, and whatever is not well formed, paho reads as it always does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from paho.mqtt.client import Client

# more than a TLS record holds (RFC 8446 section 5.1: 2^14), so that nothing of one stays where `select` does
# not see it
READ_BYTES = 1 << 16
_PUBLISH, _KIND_AND_QOS = 0x30, 0xF6  # not looked at: whether it is a repetition, or was retained

Message = tuple[str, bytes]  # topic and payload
Received = Callable[[Sequence[Message]], None]


class Connected(Protocol):
    """What paho asks of every socket."""

    def recv(self, most_bytes: int, /) -> bytes:
        """As of a socket."""

    def send(self, content: bytes | bytearray, /) -> int:
        """As of a socket."""

    def close(self) -> None:
        """As of a socket."""

    def fileno(self) -> int:
        """As of a socket."""

    def setblocking(self, flag: bool, /) -> None:
        """As of a socket."""


class StraightClient(Client):  # type: ignore[misc]  # paho's types are not looked at
    """paho's client, to which messages come by a `StraightSocket`.

    Args:
        received: Called in the network thread with messages in their order, in place of `on_message`; must
            not wait.
        others: paho's own.
    """

    def __init__(self, received: Received, *others: Any, **named: Any) -> None:
        """Describe the connection, as paho does."""
        super().__init__(*others, **named)
        self._received = received

    @property
    def is_served(self) -> bool:
        """Whether its network thread lives: one that ended by a fault leaves it connected by its own word."""
        return self._thread is not None and bool(self._thread.is_alive())

    def _create_socket(self) -> StraightSocket:
        return StraightSocket(super()._create_socket(), self._received)


class StraightSocket:
    """What paho needs of a socket, on one that is connected, with TLS or without.

    `recv` gives paho whole packets: it blocks between two of them and never within one, so that what it
    takes for the first byte of a packet is one.
    """

    def __init__(self, connected: Connected, received: Received) -> None:
        """Take over what is connected; see `StraightClient`."""
        self._socket, self._received = connected, received
        self._packets = Packets()

    def recv(self, most_bytes: int) -> bytes:
        """Bytes of a packet that is not a message; those that are were handed on before.

        Raises:
            BlockingIOError: There is none at the moment.
        """
        packets = self._packets
        if not packets.pending:
            content = self._socket.recv(READ_BYTES)
            if not content:
                return b""
            packets.feed(content)
        if messages := packets.messages():
            self._received(messages)
        if not packets.pending:
            raise BlockingIOError
        return packets.piece(most_bytes)

    def pending(self) -> int:
        """Bytes for which `select` need not be asked."""
        return self._packets.pending

    def send(self, content: bytes | bytearray) -> int:
        """As of a socket."""
        return self._socket.send(content)

    def close(self) -> None:
        """As of a socket."""
        self._socket.close()

    def fileno(self) -> int:
        """As of a socket."""
        return self._socket.fileno()

    def setblocking(self, flag: bool) -> None:
        """As of a socket."""
        self._socket.setblocking(flag)


class Packets:
    """What a broker sent, parted into messages and other packets; bytes in, bytes out."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._content, self._at = b"", 0
        self._other_end = 0  # of a packet that begins at `_at` and is no message
        self._cut: list[bytes] = []  # a packet's beginning
        self._lacks_bytes = 0  # and how much of it has to come at least

    @property
    def pending(self) -> int:
        """Bytes that can be used without `feed`."""
        return len(self._content) - self._at

    def feed(self, content: bytes) -> None:
        """Take more in; only when nothing is pending."""
        self._cut.append(content)
        self._lacks_bytes -= len(content)
        if self._lacks_bytes <= 0:
            self._content, self._at = b"".join(self._cut), 0
            self._cut, self._lacks_bytes = [], 0

    def messages(self) -> list[Message]:
        """Those in front of the next packet that is none; then `piece` gives that, if anything is pending."""
        found: list[Message] = []
        content, at, size = self._content, self._at, len(self._content)
        lacks_bytes = 0
        while at < size and not self._other_end:
            if size - at < 2:
                lacks_bytes = 1
                break
            start, length = at + 2, content[at + 1]
            if length > 127:
                start, length = _long_length(content, at)
            end = start + length
            topic_end = start + 2 + int.from_bytes(content[start : start + 2], "big")
            if end > size:
                lacks_bytes = end - size
                break
            if content[at] & _KIND_AND_QOS != _PUBLISH or topic_end > end:
                self._other_end = end
                break
            found.append((str(content[start + 2 : topic_end], "utf-8", "replace"), content[topic_end:end]))
            at = end
        self._at = at
        if lacks_bytes:
            self._cut, self._lacks_bytes = [content[at:]], lacks_bytes
            self._content, self._at = b"", 0
        return found

    def piece(self, most_bytes: int) -> bytes:
        """The next bytes of the packet that `messages` has stopped at."""
        end = min(self._at + most_bytes, self._other_end)
        piece = self._content[self._at : end]
        self._at = end
        if end == self._other_end:
            self._other_end = 0
        return piece


def _long_length(content: bytes, at: int) -> tuple[int, int]:
    """Section 2.2.3: where the body of a packet starts and how long it is, of more than 127 bytes.

    A length that is not whole yet lacks a byte; of one that has no end the packet is all that is there.
    """
    length = 0
    for place in range(4):
        if at + 1 + place == len(content):
            return len(content), 1
        digit = content[at + 1 + place]
        length |= (digit & 127) << 7 * place
        if not digit & 128:
            return at + 2 + place, length
    return len(content), 0
