"""What the studies of both brokers tried, beside `brokers/`: sessions, names, packets, ports."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from fleet_device import connect, eventually, mqtt_client
from running_broker import D1, D2, KINDS, SERVER, Running, running_broker

from edge_fleet.accounts import connect_packet
from edge_fleet.brokers.base import Account

OWN = ["edge/v1/f/d2/ack", "edge/v1/f/d2/assignment"]


@pytest.fixture(scope="module", params=sorted(KINDS))
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    place = tmp_path_factory.mktemp("broker") / "b"
    with running_broker(request.param, place, [SERVER, D1, D2]) as found:
        yield found


def _string(text: str) -> bytes:
    return struct.pack(">H", len(text.encode())) + text.encode()


def _connect(account: Account, client_id: str, clean: bool, will: tuple[str, bytes] | None = None) -> bytes:
    """MQTT 3.1.1 section 3.1, with what an attacker likes to choose."""
    flags = 0xC0 | (0x02 if clean else 0) | (0x2C if will else 0)  # will: QoS 1, retained
    body = b"\x00\x04MQTT\x04" + bytes([flags]) + b"\x00\x1e" + _string(client_id)
    if will:
        body += _string(will[0]) + struct.pack(">H", len(will[1])) + will[1]
    return _packet(0x10, body + _string(account.user) + _string(account.password))


def _packet(kind: int, body: bytes) -> bytes:
    length, encoded = len(body), bytearray()
    while True:
        length, digit = divmod(length, 128)
        encoded.append(digit | (0x80 if length else 0))
        if not length:
            return bytes([kind, *encoded]) + body


def _raw(running: Running, *packets: bytes) -> bytes:
    """What a broker answers to these bytes, until it closes or falls silent."""
    with socket.create_connection(("127.0.0.1", running.port), 5) as stream:
        stream.settimeout(0.5)
        answer = b""
        try:
            for packet in packets:
                stream.sendall(packet)
            while piece := stream.recv(4096):
                answer += piece
        except OSError:
            pass
        return answer


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("password", ["", "two"])
def test_a_stranger_with_a_devices_client_id_neither_cuts_it_nor_leaves_a_will(
    running: Running, password: str, clean: bool
) -> None:
    running.heard.clear()
    victim = mqtt_client(D2.user, D2.password, client_id="secret-id")
    got: list[str] = []
    victim.on_message = lambda _client, _data, message: got.append(message.topic)
    connect(victim, running.port, OWN, 0)
    try:
        stranger = Account("d1", password, (), ())
        answer = _raw(running, _connect(stranger, "secret-id", clean, ("edge/v1/f/d2/hello", b"will")))
        assert answer[:1] == b"\x20" and answer[3] in (4, 5), "refused: MQTT 3.1.1 table 3.1"
        running.link.publish("edge/v1/f/d2/ack", b"x")
        eventually(lambda: got, "an ack on the connection that stayed")
        assert victim.is_connected()
        running.goes_on()
        assert running.heard == []
    finally:
        victim.disconnect()
        victim.loop_stop()


@pytest.mark.parametrize("clean", [True, False])
def test_a_device_with_anothers_client_id_reads_nothing_of_it(running: Running, clean: bool) -> None:
    """Ids are random and secret, so it does not know one; if it did, it could cut the other, no more."""
    victim = mqtt_client(D2.user, D2.password, client_id="known-id")
    connect(victim, running.port, OWN, 0)
    with socket.create_connection(("127.0.0.1", running.port), 5) as thief:
        thief.sendall(_connect(D1, "known-id", clean))
        thief.settimeout(5)
        thief.recv(4)
        for topic in OWN:
            running.link.publish(topic, b"for the second device")
        running.goes_on()
        thief.settimeout(0.3)
        with suppress(TimeoutError):
            assert b"for the second device" not in thief.recv(4096)
    victim.disconnect()
    victim.loop_stop()
    again = mqtt_client(D2.user, D2.password, client_id="known-id")
    assert connect(again, running.port, OWN, 0) == [True, True]
    again.disconnect()
    again.loop_stop()


@pytest.mark.parametrize(
    "user", ["+", "#", "*", ">", "d*", "$SYS", "fleet.*", "d1/../d2", "d2 ", "ď2", "x" * 60_000]
)
def test_a_name_with_a_meaning_of_its_own_opens_nothing(running: Running, user: str) -> None:
    for password in ("two", "server-secret", ""):
        answer = _raw(running, _connect(Account(user, password, (), ()), "probe", True))
        assert answer[:4] != b"\x20\x02\x00\x00"
    running.goes_on()


def test_clients_that_leave_their_id_to_the_broker_do_not_cut_each_other(running: Running) -> None:
    """As mosquitto_sub does; the id is the broker's, and what such a client hears is its account's."""
    with ExitStack() as stack:
        streams = [
            stack.enter_context(socket.create_connection(("127.0.0.1", running.port), 5)) for _ in range(2)
        ]
        for stream in streams:
            stream.sendall(_connect(D1, "", True))
            assert stream.recv(4) == b"\x20\x02\x00\x00"
        for stream in streams:
            stream.sendall(b"\xc0\x00")
            assert stream.recv(2) == b"\xd0\x00", "both are answered still"
    kept = _raw(running, _connect(D1, "", False))
    assert kept[:4] != b"\x20\x02\x00\x00", "a session that is to be kept has a name"


@pytest.mark.parametrize("client_id", ["*", ">", "a.b", "$MQTT", "#", "a b", "\u2028", "y" * 30_000])
def test_a_client_id_with_a_meaning_of_its_own_widens_nothing(running: Running, client_id: str) -> None:
    """Whether it is let in is the broker's affair; what it hears is not."""
    with ExitStack() as stack:
        stream = stack.enter_context(socket.create_connection(("127.0.0.1", running.port), 5))
        filters = b"".join(_string(f) + b"\x00" for f in ("#", "edge/v1/f/d2/ack", "$SYS/#", "$JS/#"))
        stream.sendall(_connect(D1, client_id, True) + _packet(0x82, b"\x00\x01" + filters))
        running.link.publish("edge/v1/f/d2/ack", b"for the second device")
        running.goes_on()
        stream.settimeout(0.3)
        answer = b""
        try:
            while piece := stream.recv(4096):
                answer += piece
        except OSError:
            pass
        assert b"second device" not in answer


CUT_OFF = connect_packet(D1)[:-3]
BROKEN: dict[str, tuple[bytes, ...]] = {
    "nothing of MQTT": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",),
    "zeros": (bytes(4096),),
    "ones": (b"\xff" * 4096,),
    "a length of five bytes": (b"\x10\xff\xff\xff\xff\x7f",),
    "256 MB announced": (b"\x10\xff\xff\xff\x7f" + bytes(1000),),
    "cut off": (CUT_OFF,),
    "publish before connect": (_packet(0x30, _string("edge/v1/f/d2/hello") + b"forged"),),
    "protocol 9": (_packet(0x10, b"\x00\x04MQTT\x09\xc2\x00\x05"),),
    "twice, the second as the server": (
        connect_packet(D1),
        connect_packet(Account(SERVER.user, "guess", (), ())),
        _packet(0x30, _string("edge/v1/f/d2/hello") + b"forged"),
    ),
    "a topic that is not UTF-8": (connect_packet(D1), _packet(0x30, b"\x00\x03\xff\xfe\xfdx")),
    "a topic with a zero": (connect_packet(D1), _packet(0x30, _string("edge/v1/f/d1\0/hello") + b"x")),
    "a wildcard topic": (connect_packet(D1), _packet(0x30, _string("edge/v1/f/+/hello") + b"x")),
    "an empty subscription": (connect_packet(D1), _packet(0x82, b"\x00\x01")),
    "a subscription without an end": (
        connect_packet(D1),
        _packet(0x82, b"\x00\x01" + b"\xff\xff" + b"x" * 9),
    ),
    "acknowledgements of nothing": (connect_packet(D1), _packet(0x40, b"\x12\x34") * 50),
}


@pytest.mark.parametrize("attack", sorted(BROKEN))
def test_a_broken_packet_disturbs_nobody(running: Running, attack: str) -> None:
    running.heard.clear()
    _raw(running, *BROKEN[attack])
    running.goes_on()
    assert running.heard == []


def test_what_is_not_broken_and_its_own_is_heard(running: Running) -> None:
    """The attacks above and below fail for what they are, not for how they are sent."""
    running.heard.clear()
    own = _packet(0x30, _string("edge/v1/f/d1/hello") + b"own")
    answer = _raw(running, _connect(D1, "an-id", True, ("edge/v1/f/d2/hello", b"will")), own)
    assert answer[:4] == b"\x20\x02\x00\x00"
    eventually(lambda: running.heard, "the device's own message")
    running.goes_on()
    assert running.heard == [("edge/v1/f/d1/hello", b"own")]


def test_a_message_of_qos_2_is_heard_on_no_foreign_topic(running: Running) -> None:
    running.heard.clear()
    publish = _packet(0x34, _string("edge/v1/f/d2/hello") + b"\x00\x07" + b"forged")
    _raw(running, connect_packet(D1), publish, _packet(0x62, b"\x00\x07"))
    running.goes_on()
    assert running.heard == []


def test_silent_connections_lock_nobody_out(running: Running) -> None:
    with ExitStack() as stack:
        for n in range(300):
            silent = stack.enter_context(socket.create_connection(("127.0.0.1", running.port), 5))
            if n % 2:
                silent.sendall(CUT_OFF)
        running.goes_on()


def test_a_devices_password_opens_no_other_port_of_nats(running: Running) -> None:
    if running.kind != "nats":
        pytest.skip("mosquitto has no other protocol")
    config = (running.broker._folder / "nats.conf").read_text()
    found = re.search(r'listen: "127.0.0.1:(\d+)"', config)
    assert found is not None
    for account in (D1, SERVER):
        with socket.create_connection(("127.0.0.1", int(found[1])), 5) as stream:
            stream.settimeout(5)
            assert stream.recv(4096).startswith(b"INFO")
            words = f'CONNECT {{"user":"{account.user}","pass":"{account.password}","verbose":true}}\r\n'
            stream.sendall(words.encode() + b"SUB > 1\r\nPING\r\n")
            answer = b""
            while piece := stream.recv(4096):
                answer += piece
            assert b"-ERR" in answer and b"PONG" not in answer
