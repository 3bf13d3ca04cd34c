"""What a broker sends, past paho or by it: the same messages in the same order, however it is cut."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import pytest
from paho.mqtt.enums import CallbackAPIVersion
from served_tls import Authority

from edge_fleet.simulation.mqtt import Reader, published
from edge_fleet.straight_socket import Message, Packets, StraightClient, StraightSocket

CONNACK, SUBACK, PINGRESP = b"\x20\x02\x00\x00", b"\x90\x03\x00\x01\x00", b"\xd0\x00"


def publish(topic: bytes, payload: bytes, first: int = 0x30, packet_id: bytes = b"") -> bytes:
    """MQTT 3.1.1 section 3.3."""
    left = len(body := len(topic).to_bytes(2, "big") + topic + packet_id + payload)
    head = bytearray([first])
    while True:
        left, digit = divmod(left, 128)
        head.append(digit | (128 if left else 0))
        if not left:
            return bytes(head) + body


def parted(packets: Packets) -> tuple[list[Message], bytes]:
    """All that is pending: the messages, and the bytes that paho gets."""
    messages, others = packets.messages(), b""
    while packets.pending:
        others += packets.piece(3)
        messages += packets.messages()
    return messages, others


# bodies of 0 to 3 bytes' lengths, and of each number that a length's digits end at
SIZES = (0, 1, 122, 123, 124, 300, 16_378, 16_379, 16_380, 70_000)
STREAM = b"".join(
    publish(b"a/%d" % n, bytes(size), first) + (PINGRESP if n % 3 == 0 else b"")
    for n, size in enumerate(SIZES)
    for first in (0x30, 0x31, 0x38)
)


@pytest.mark.parametrize("step", [1, 2, 3, 7, 127, 1000, 65_536, len(STREAM)])
def test_messages_are_the_same_however_the_stream_is_cut(step: int) -> None:
    packets, found, others = Packets(), [], b""
    for at in range(0, len(STREAM), step):
        packets.feed(STREAM[at : at + step])
        messages, rest = parted(packets)
        found += messages
        others += rest
    expected = [published(packet) for packet in Reader().feed(STREAM) if packet.kind == 3]
    assert found == [(one.topic, one.payload) for one in expected]
    assert len(found) == 3 * len(SIZES)
    assert others == PINGRESP * sum(3 for n in range(len(SIZES)) if n % 3 == 0)


def test_what_follows_a_packet_of_pahos_waits_until_paho_has_it() -> None:
    packets = Packets()
    packets.feed(publish(b"a", b"1") + SUBACK + publish(b"b", b"2"))
    assert packets.messages() == [("a", b"1")]
    assert packets.messages() == []
    assert packets.piece(1) + packets.piece(100) == SUBACK
    assert packets.messages() == [("b", b"2")]
    assert packets.pending == 0


@pytest.mark.parametrize(
    "packet",
    [
        publish(b"a", b"1", first=0x32, packet_id=b"\x00\x01"),  # QoS 1: is to be acknowledged
        publish(b"a", b"1", first=0x34, packet_id=b"\x00\x01"),
        b"\x30\x03\x00\x02a",  # a topic beyond the packet's end
        b"\x30\x00",
        b"\x30\x01a",
        b"\x30\xff\xff\xff\xff\x01",  # a length of five bytes, which there is none of
    ],
)
def test_what_is_no_plain_message_goes_to_paho_as_it_came(packet: bytes) -> None:
    packets = Packets()
    packets.feed(packet)
    assert parted(packets) == ([], packet)


def test_a_topic_that_is_not_utf8_is_a_topic_of_nobody() -> None:
    packets = Packets()
    packets.feed(publish(b"edge/\xff", b"1"))
    assert packets.messages() == [("edge/�", b"1")]


class Broker:
    """One that says what it is told to: `says[n]` after the subscription of its n-th connection, and no more.

    Args:
        ends: Connections that are closed after that.
    """

    def __init__(self, says: Sequence[bytes], ends: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self._says, self._ends, self._tls = says, ends, tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._over = threading.Event()

    def __enter__(self) -> Broker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        for number, content in enumerate(self._says):
            plain, _ = self._listener.accept()
            with self._tls.wrap_socket(plain, server_side=True) if self._tls else plain as connection:
                assert connection.recv(1000)  # CONNECT
                connection.sendall(CONNACK)
                assert connection.recv(1000)  # SUBSCRIBE
                connection.sendall(content)
                if number >= self._ends:
                    assert self._over.wait(20)


@contextmanager
def listening(port: int, tls: ssl.SSLContext | None = None) -> Iterator[SimpleQueue[Message | str]]:
    """What a client of a port hears: messages, and that it is subscribed."""
    heard: SimpleQueue[Message | str] = SimpleQueue()

    def received(messages: Sequence[Message]) -> None:
        for one in messages:
            heard.put(one)

    client = StraightClient(received, CallbackAPIVersion.VERSION2)
    if tls is not None:
        client.tls_set_context(tls)
    client.on_connect = lambda *_: client.subscribe("#")
    client.on_subscribe = lambda *_: heard.put("subscribed")
    client.reconnect_delay_set(min_delay=0, max_delay=0)
    client.connect_async("127.0.0.1", port)
    client.loop_start()
    try:
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()


@pytest.mark.parametrize("count", [30, 3000])
@pytest.mark.parametrize("with_tls", [False, True])
def test_a_burst_before_a_silence_is_heard_to_its_end(with_tls: bool, count: int, tmp_path: Path) -> None:
    served, trusted = None, None
    if with_tls:
        authority = Authority("ours")
        authority.issue(tmp_path / "cert", tmp_path / "key")
        served, trusted = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), authority.client()
        served.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    before = [(f"a/{n}", b"%d" % n) for n in range(3)]
    after = [(f"b/{n}", b"%d" % n * 50) for n in range(count)]
    sent = [b"".join(publish(topic.encode(), payload) for topic, payload in some) for some in (before, after)]
    said = sent[0] + SUBACK + sent[1]
    with Broker([said], tls=served) as broker, listening(broker.port, trusted) as heard:
        found = [heard.get(timeout=20) for _ in range(len(before) + 1 + len(after))]
    assert found == [*before, "subscribed", *after]


def test_half_a_message_of_a_lost_connection_is_no_part_of_the_next() -> None:
    whole = publish(b"a", b"0123456789")
    said = [SUBACK + whole[:-4], SUBACK + whole]
    with Broker(said, ends=1) as broker, listening(broker.port) as heard:
        found = [heard.get(timeout=20) for _ in range(3)]
    assert found == ["subscribed", "subscribed", ("a", b"0123456789")]


def test_a_closed_connection_is_told_to_paho_as_one() -> None:
    ours, theirs = socket.socketpair()
    straight = StraightSocket(ours, lambda _: None)
    theirs.close()
    assert straight.recv(1) == b""
    straight.close()
