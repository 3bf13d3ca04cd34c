"""Attempts to break the brokers' rights, on each broker that is managed; and what keeps them running."""

from __future__ import annotations

import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fleet_device import connect, eventually, mqtt_client, require_broker
from paho.mqtt.client import Client, MQTTMessage

from edge_contracts.topics import FROM_DEVICE
from edge_fleet.accounts import connect_packet, lets_in
from edge_fleet.brokers import tether
from edge_fleet.brokers.account_files import AccountFiles, password_line, rights
from edge_fleet.brokers.base import (
    MAX_PACKET_BYTES,
    Account,
    device_account,
    probe_topic,
    server_account,
    subscriber_account,
)
from edge_fleet.brokers.child import free_loopback_port, most_connections
from edge_fleet.brokers.mosquitto import MosquittoBroker
from edge_fleet.brokers.nats import NatsBroker, subject
from edge_fleet.config import Address
from edge_fleet.errors import AddressInUse, BrokerFailed
from edge_fleet.link import Link

KINDS: dict[str, type[NatsBroker] | type[MosquittoBroker]] = {
    "nats": NatsBroker,
    "mosquitto": MosquittoBroker,
}
SERVER = server_account("f", "server-secret")
D1 = device_account("f", "d1", "one")
D2 = device_account("f", "d2", "two")
SUBSCRIBER = subscriber_account("f", "s1", "three")
ACCOUNTS = [SERVER, D1, D2, SUBSCRIBER]


@dataclass
class Running:
    """A broker, the server's link to it, and what the link heard."""

    kind: str
    broker: NatsBroker | MosquittoBroker
    port: int
    link: Link
    heard: list[tuple[str, bytes]] = field(default_factory=list)

    def client(self, account: Account | None, filters: list[str] | None = None, qos: int = 1) -> Listener:
        return Listener(self, account, filters or [], qos)

    def probe(self) -> None:
        """Wait until the broker has worked off what was sent before."""
        assert self.link.delivers(10.0)


class Listener:
    """A client that remembers what it is given."""

    def __init__(self, running: Running, account: Account | None, filters: list[str], qos: int) -> None:
        user, password = (account.user, account.password) if account else (None, None)
        self.client = mqtt_client(user, password)
        self.got: list[str] = []
        self.client.on_message = self._on_message
        self.granted = connect(self.client, running.port, filters, qos)

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        self.got.append(message.topic)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture(scope="module", params=sorted(KINDS))
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    require_broker(request.param)
    port = free_loopback_port()
    heard: list[tuple[str, bytes]] = []
    broker = KINDS[request.param](
        tmp_path_factory.mktemp("broker") / "b", Address("127.0.0.1", port), None, lambda: None
    )
    broker.start(ACCOUNTS)
    link = Link(
        broker.door, "f", SERVER.user, SERVER.password, lambda topic, payload: heard.append((topic, payload))
    )
    try:
        link.start()
        yield Running(request.param, broker, port, link, heard)
    finally:
        link.stop()
        broker.stop()


def test_a_device_is_heard_on_its_own_topics(running: Running) -> None:
    running.heard.clear()
    with running.client(D1) as d1:
        for channel in ("telemetry", "status", "hello"):
            d1.client.publish(f"edge/v1/f/d1/{channel}", b"x", qos=1).wait_for_publish(5)
        eventually(lambda: len(running.heard) == 3, "three messages of d1")
    heard = {topic.removeprefix("edge/v1/f/d1/") for topic, _ in running.heard}
    assert heard == {"telemetry", "status", "hello"}


def test_a_device_is_spoken_to_on_its_own_topics(running: Running) -> None:
    wanted = ["edge/v1/f/d1/ack", "edge/v1/f/d1/assignment"]
    with running.client(D1, wanted) as d1:
        assert d1.granted == [True, True]
        for topic in wanted:
            assert running.link.publish(topic, b"x")
        eventually(lambda: d1.got == wanted, "an ack and an assignment")


FOREIGN_TOPICS = [
    "edge/v1/f/d2/telemetry",
    "edge/v1/f/d2/status",
    "edge/v1/f/d2/hello",
    "edge/v1/f/d2/ack",
    "edge/v1/f/d2/assignment",
    "edge/v1/f/d1/ack",
    "edge/v1/f/d1/assignment",
    "edge/v1/f/d1",
    "edge/v1/f/d1/other",
    "edge/v1/f/d1/telemetry/more",
    "edge/v1/g/d1/telemetry",
    probe_topic("f"),
    "$SYS/broker",
    "$JS/API/STREAM/DELETE/$MQTT_msgs",
    "$MQTT/msgs/edge/v1/f/d2/telemetry",
    "anything",
]


@pytest.mark.parametrize("retain", [False, True])
@pytest.mark.parametrize("qos", [0, 1])
def test_a_device_is_not_heard_on_other_topics(running: Running, qos: int, retain: bool) -> None:
    running.heard.clear()
    with running.client(D2, ["edge/v1/f/d2/ack", "edge/v1/f/d2/assignment"]) as d2:
        for topic in FOREIGN_TOPICS:
            with running.client(D1) as d1:  # a broker may cut who oversteps
                d1.client.publish(topic, b"x", qos=qos, retain=retain).wait_for_publish(1)
        running.probe()
        assert running.heard == []
        assert d2.got == []
    with running.client(D2, ["edge/v1/f/d2/ack", "edge/v1/f/d2/assignment"]) as late:
        running.probe()
        assert late.got == []


FOREIGN_FILTERS = [
    "#",
    "+/+/+/+/+",
    "edge/#",
    "edge/v1/f/#",
    "edge/v1/f/+/ack",
    "edge/v1/f/+/assignment",
    "edge/v1/f/d1/#",
    "edge/v1/f/d2/ack",
    "edge/v1/f/d2/assignment",
    "edge/v1/f/d2/telemetry",
    "edge/v1/f/d1/telemetry",
    probe_topic("f"),
    "$SYS/#",
    "$JS/#",
    "$MQTT/msgs/#",
    "$share/g/edge/v1/f/d2/ack",
]


@pytest.mark.parametrize("qos", [0, 1])
def test_a_device_hears_nothing_of_others(running: Running, qos: int) -> None:
    """Whether a broker refuses the subscription or filters what it delivers is its own affair."""
    with running.client(D1, FOREIGN_FILTERS, qos) as d1, running.client(D2) as d2:
        for channel in ("telemetry", "status", "hello"):
            d2.client.publish(f"edge/v1/f/d2/{channel}", b"x", qos=1).wait_for_publish(5)
        for topic in ("edge/v1/f/d2/ack", "edge/v1/f/d2/assignment"):
            running.link.publish(topic, b"x")
        running.probe()
        running.link.publish("edge/v1/f/d1/ack", b"own")
        running.probe()
        assert set(d1.got) <= {"edge/v1/f/d1/ack"}


@pytest.mark.parametrize("topic", ["edge/v1/f/d2/hello", "edge/v1/f/d2/ack", "edge/v1/f/d1/assignment"])
def test_a_will_to_a_foreign_topic_is_not_delivered(running: Running, topic: str) -> None:
    running.heard.clear()
    with running.client(D2, ["edge/v1/f/d2/ack"]) as d2:
        _die_with_will(running, topic)
        # wills fire in the order of the deaths: this one is allowed, and shows that the other was due
        _die_with_will(running, "edge/v1/f/d1/status")
        eventually(lambda: running.heard, "the will that is allowed")
        running.probe()
        assert d2.got == []
        assert [heard for heard, _ in running.heard] == ["edge/v1/f/d1/status"]


def _die_with_will(running: Running, topic: str) -> None:
    client = mqtt_client(D1.user, D1.password)
    client.will_set(topic, b"will", qos=1, retain=topic.endswith("ack"))
    connect(client, running.port)
    client.loop_stop()
    client.socket().close()  # without DISCONNECT: the will is due


@pytest.mark.parametrize(
    ("user", "password"),
    [
        (None, None),
        ("d1", "two"),
        ("d1", ""),
        ("d1", None),
        ("", ""),
        ("D1", "one"),
        ("fleet.server", "one"),
        ("nobody", "one"),
        ("root", ""),
    ],
)
def test_who_has_no_account_is_not_let_in(running: Running, user: str | None, password: str | None) -> None:
    client = mqtt_client(user, password)
    with pytest.raises(ConnectionRefusedError):
        connect(client, running.port)


def test_a_stranger_with_the_servers_client_id_does_not_cut_the_server(running: Running) -> None:
    client = mqtt_client(None, None, client_id=running.link._client._client_id.decode())
    with pytest.raises(ConnectionRefusedError):
        connect(client, running.port)
    assert running.link.is_up
    running.probe()


def test_a_subscriber_hears_all_telemetry_and_nothing_else(running: Running) -> None:
    wanted = ["edge/v1/f/+/telemetry", "edge/v1/f/+/hello", "edge/v1/f/+/ack", "edge/v1/f/#", "#"]
    with running.client(SUBSCRIBER, wanted) as subscriber, running.client(D1) as d1, running.client(D2) as d2:
        for client, name in ((d1, "d1"), (d2, "d2")):
            for channel in ("telemetry", "hello", "status"):
                client.client.publish(f"edge/v1/f/{name}/{channel}", b"x", qos=1).wait_for_publish(5)
            running.link.publish(f"edge/v1/f/{name}/ack", b"x")
        eventually(lambda: len(set(subscriber.got)) == 2, "telemetry of both devices")
        running.probe()
    assert set(subscriber.got) == {"edge/v1/f/d1/telemetry", "edge/v1/f/d2/telemetry"}


def test_verified_telemetry_comes_from_the_server_and_goes_to_subscribers(running: Running) -> None:
    wanted = ["edge/v1/f/+/verified/+"]
    with running.client(SUBSCRIBER, wanted) as subscriber, running.client(D1, wanted) as d1:
        running.link.publish("edge/v1/f/d1/verified/window", b"x")
        eventually(lambda: subscriber.got, "what the server says")
        running.probe()
        assert set(subscriber.got) == {"edge/v1/f/d1/verified/window"} and d1.got == []
        subscriber.got.clear()
        for kind in ("window", "event", "gap", "other"):
            with running.client(D1) as forger, running.client(SUBSCRIBER) as other:
                for client in (forger, other):
                    client.client.publish(f"edge/v1/f/d1/verified/{kind}", b"x", qos=1).wait_for_publish(1)
        running.link.publish("edge/v1/f/d1/verified/event", b"x")  # comes after all of those
        eventually(lambda: "edge/v1/f/d1/verified/event" in subscriber.got, "the server again")
        running.probe()
        assert subscriber.got == ["edge/v1/f/d1/verified/event"], "only what the server said"


def test_a_subscriber_says_nothing(running: Running) -> None:
    running.heard.clear()
    for topic in ["edge/v1/f/d1/telemetry", "edge/v1/f/subscriber.s1/telemetry", "edge/v1/f/d1/ack", "x"]:
        with running.client(SUBSCRIBER) as subscriber:
            subscriber.client.publish(topic, b"x", qos=1).wait_for_publish(1)
    running.probe()
    assert running.heard == []


def test_a_packet_over_the_limit_is_not_taken_and_others_go_on(running: Running) -> None:
    running.heard.clear()
    with running.client(D1) as d1, running.client(D2) as d2:
        d1.client.publish("edge/v1/f/d1/telemetry", bytes(MAX_PACKET_BYTES + 1), qos=0)
        d2.client.publish("edge/v1/f/d2/telemetry", bytes(MAX_PACKET_BYTES - 4096), qos=1)
        eventually(lambda: running.heard, "the packet that fits")
        running.probe()
    assert [topic for topic, _ in running.heard] == ["edge/v1/f/d2/telemetry"]


def test_accounts_come_and_go_without_cutting_the_others(running: Running) -> None:
    added = device_account("f", "d3", "four")
    with running.client(D1, ["edge/v1/f/d1/ack"]) as d1, running.client(D2) as d2:
        assert not lets_in(running.broker.door, added)
        running.broker.update([SERVER, D1, SUBSCRIBER, added])
        eventually(lambda: lets_in(running.broker.door, added), "the new account")
        eventually(lambda: not lets_in(running.broker.door, D2), "the end of the old account")
        eventually(lambda: not d2.client.is_connected(), "the end of its connection")
        assert d1.client.is_connected() and running.link.is_up
        assert running.link.publish("edge/v1/f/d1/ack", b"x")
        eventually(lambda: d1.got, "a message on the connection that stayed")
    running.broker.update(ACCOUNTS)
    eventually(lambda: lets_in(running.broker.door, D2), "the account again")


def test_single_accounts_come_and_go_as_well_as_all(running: Running) -> None:
    added = [device_account("f", f"e{n}", f"secret{n}") for n in range(3)]
    with running.client(D1, ["edge/v1/f/d1/ack"]) as d1, running.client(D2) as d2:
        for account in added:
            assert running.broker.change([account, account], set())
            eventually(lambda: lets_in(running.broker.door, account), "the new account")  # noqa: B023
        with running.client(added[0], ["edge/v1/f/e0/ack", "edge/v1/f/d1/ack"]) as one:
            assert running.link.publish("edge/v1/f/e0/ack", b"mine")
            running.probe()
            eventually(lambda: one.got, "its own message")
            running.heard.clear()
            one.client.publish("edge/v1/f/e0/hello", b"x", qos=1).wait_for_publish(5)
            one.client.publish("edge/v1/f/d1/hello", b"forged", qos=1)
            eventually(lambda: running.heard, "its word")
            running.probe()
            assert [topic for topic, _ in running.heard if "hello" in topic] == ["edge/v1/f/e0/hello"]
        assert not lets_in(running.broker.door, device_account("f", "e1", "secret2"))
        if not running.broker.change([], {"d2", "e1"}):
            running.broker.update([SERVER, D1, SUBSCRIBER, added[0], added[2]])
        eventually(lambda: not lets_in(running.broker.door, added[1]), "the end of an account")
        eventually(lambda: not d2.client.is_connected(), "the end of its connection")
        assert lets_in(running.broker.door, added[2])
        assert d1.client.is_connected() and running.link.is_up
    # a subscriber's rights are its own: the list is made anew
    assert running.kind == "nats" or not running.broker.change([subscriber_account("f", "s2", "x")], set())
    running.broker.update(ACCOUNTS)
    eventually(lambda: lets_in(running.broker.door, D2), "the account again")


def test_a_list_of_users_that_was_written_by_another_is_made_anew(tmp_path: Path) -> None:
    broker = NatsBroker(tmp_path, Address("127.0.0.1", free_loopback_port()), None, lambda: None)
    assert not broker.change([D1], set())  # nothing was written yet
    broker.update([SERVER])
    assert broker.change([D1], set())
    assert not broker.change([], {"d1"})
    (tmp_path / "users.conf").write_text("users: []")
    assert not broker.change([D2], set())


def test_files_without_shared_rights_are_written_whole(tmp_path: Path) -> None:
    files = AccountFiles(tmp_path, by_pattern=False)
    files.write([SERVER, D1])
    assert not files.change([D2], set())
    shared = AccountFiles(tmp_path, by_pattern=True)
    shared.write([SERVER])
    assert not shared.change([D1], set()), "no device yet: nobody knows what all of them may"
    shared.write([SERVER, D1])
    assert not shared.change([device_account("other", "d2", "two")], set())
    before = (tmp_path / "passwords").read_text()
    assert shared.change([D2, D1], set())
    after = (tmp_path / "passwords").read_text()
    assert after.startswith(before) and [line.split(":")[0] for line in after.splitlines()][2:] == ["d2"]
    assert shared.change([], {"d1"})
    assert [line.split(":")[0] for line in (tmp_path / "passwords").read_text().splitlines()] == [
        SERVER.user,
        "d2",
    ]


def test_a_broker_that_is_killed_comes_back_empty_and_the_link_with_it(running: Running) -> None:
    with running.client(D1) as d1:
        d1.client.publish("edge/v1/f/d1/hello", b"kept?", qos=1, retain=True).wait_for_publish(5)
    before = running.broker.pid
    assert before is not None
    running.probe()  # the message itself has come through: what is heard from here on was kept
    running.heard.clear()
    os.kill(before, signal.SIGKILL)
    eventually(lambda: not running.link.is_up, "the end of the link")
    eventually(lambda: running.link.is_up, "the link")
    assert running.broker.pid not in (None, before)
    running.probe()
    assert running.heard == []


def test_an_outage_keeps_it_down_for_its_time(running: Running) -> None:
    began = time.monotonic()
    running.broker.outage(1.5)
    eventually(lambda: not running.link.is_up, "its end")
    eventually(lambda: running.link.is_up, "its return")
    assert time.monotonic() - began >= 1.5
    running.probe()


def test_secrets_are_in_files_of_the_owner_only(running: Running) -> None:
    folder = running.broker._folder
    assert folder.stat().st_mode & 0o077 == 0
    for path in folder.iterdir():
        if path.is_file() and b"one" in path.read_bytes():
            assert path.stat().st_mode & 0o077 == 0, path


def test_a_device_that_takes_every_qos_1_subscription_locks_nobody_out(running: Running) -> None:
    """nats-server has 1,000 for all clients together; agents and the server subscribe with QoS 0."""
    greedy = [_session_with_qos_1(running.port) for _ in range(520)]
    try:
        with running.client(D2, ["edge/v1/f/d2/ack", "edge/v1/f/d2/assignment"], qos=0) as d2:
            assert d2.granted == [True, True]
            running.link.publish("edge/v1/f/d2/ack", b"x")
            eventually(lambda: d2.got, "an ack")
            running.heard.clear()
            d2.client.publish("edge/v1/f/d2/telemetry", b"x", qos=1).wait_for_publish(5)
            eventually(lambda: running.heard, "telemetry")
    finally:
        for session in greedy:
            session.close()


def _session_with_qos_1(port: int) -> socket.socket:
    session = socket.create_connection(("127.0.0.1", port), 5)
    session.sendall(connect_packet(D1))
    assert session.recv(4) == b"\x20\x02\x00\x00"
    filters = b"".join(struct.pack(">H", len(f)) + f.encode() + b"\x01" for f in D1.subscribe)
    session.sendall(bytes([0x82, len(filters) + 2]) + b"\x00\x01" + filters)  # SUBSCRIBE
    assert session.recv(6)[0] == 0x90  # SUBACK
    return session


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_port_that_is_taken_is_one_line(tmp_path: Path, kind: str) -> None:
    require_broker(kind)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        address = Address("127.0.0.1", holder.getsockname()[1])
        broker = KINDS[kind](tmp_path, address, None, lambda: None)
        with pytest.raises(AddressInUse, match=f"cannot listen at {address}: Address already in use"):
            broker.start(ACCOUNTS)
        assert broker.pid is None


def test_a_broker_that_does_not_start_says_why(tmp_path: Path) -> None:
    broker = NatsBroker(tmp_path, Address("127.0.0.1", free_loopback_port()), None, lambda: None)
    (tmp_path / "store").symlink_to("/dev/null")  # cannot be made a folder
    with pytest.raises(BrokerFailed, match=r"nats-server does not start: .+"):
        broker.start(ACCOUNTS)
    assert broker.pid is None


def test_the_link_refuses_a_broker_that_does_not_know_the_server(tmp_path: Path) -> None:
    port = free_loopback_port()
    broker = NatsBroker(tmp_path / "b", Address("127.0.0.1", port), None, lambda: None)
    broker.start([D1])
    try:
        link = Link(broker.door, "f", SERVER.user, "wrong", lambda *_: None)
        with pytest.raises(BrokerFailed, match="does not let the server in"):
            link.start()
    finally:
        broker.stop()


def test_the_link_refuses_a_broker_that_does_not_deliver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_fleet.link.CONNECT_TIMEOUT_S", 1.0)
    deaf = Account(SERVER.user, SERVER.password, publish=(), subscribe=SERVER.subscribe)
    broker = NatsBroker(tmp_path / "b", Address("127.0.0.1", free_loopback_port()), None, lambda: None)
    broker.start([deaf])
    try:
        link = Link(broker.door, "f", SERVER.user, SERVER.password, lambda *_: None)
        with pytest.raises(BrokerFailed, match="a message to edge/v1/f/probe did not come back"):
            link.start()
    finally:
        broker.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_a_tethered_program_dies_with_the_one_who_started_it() -> None:
    script = (
        "import subprocess, sys, os, time\n"
        f"command = [sys.executable, {tether.__file__!r}, str(os.getpid()), '/bin/sleep', '600']\n"
        "child = subprocess.Popen(command)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        eventually(lambda: _command(child).startswith("/bin/sleep"), "the program")
        parent.kill()
    eventually(lambda: not _command(child), "the end of the program")


def test_a_broker_may_open_all_files_that_the_system_allows_and_devices_fewer() -> None:
    script = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    few = ["/bin/sh", "-c", 'ulimit -Sn 256; exec "$@"', "sh"]
    program = [sys.executable, tether.__file__, str(os.getpid()), sys.executable, "-c", script]
    may_open = int(subprocess.run([*few, *program], capture_output=True, text=True, check=True).stdout)
    assert may_open == resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    # the server's own connections are beside those of devices
    assert 0 < most_connections() <= may_open - 40


def test_subjects_of_filters_cannot_be_widened() -> None:
    assert subject("edge/v1/f/+/telemetry") == "edge.v1.f.*.telemetry"
    for bad in ("edge/v1/f/*/ack", "edge/v1/f/>/ack", "edge/v1/f.g/d/ack", "edge/v1/#", "edge//ack", "a b"):
        with pytest.raises(ValueError, match="cannot hold"):
            subject(bad)


def test_password_lines_are_those_of_mosquitto_passwd(tmp_path: Path) -> None:
    """mosquitto_passwd's own format, checked by hand against PBKDF2 of another implementation."""
    from base64 import b64decode

    from cryptography.hazmat.primitives.hashes import SHA512
    from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

    user, _, rest = password_line("d1", "secret").rstrip("\n").partition(":")
    _, kind, rounds, salt, hashed = rest.split("$")
    assert (user, kind, rounds) == ("d1", "7", "1")
    derived = PBKDF2HMAC(SHA512(), 64, b64decode(salt), int(rounds)).derive(b"secret")
    assert derived == b64decode(hashed)
    assert password_line("d1", "secret") != password_line("d1", "secret")


def test_a_pattern_for_devices_gives_nothing_to_an_account_that_is_none(tmp_path: Path) -> None:
    """What is right for every device would let a subscriber, who may say nothing, speak by its name."""
    require_broker("mosquitto")
    broker = MosquittoBroker(tmp_path, Address("127.0.0.1", free_loopback_port()), None, lambda: None)
    reader = subscriber_account("f", "0123", "three")
    broker.start([server_account("f", "zero"), device_account("f", "d1", "one"), reader])
    heard: list[str] = []
    link = Link(broker.door, "f", "fleet.server", "zero", lambda topic, payload: heard.append(topic))
    try:
        link.start()
        client = mqtt_client(reader.user, reader.password)
        connect(client, broker.door.address.port)
        for channel in FROM_DEVICE:
            where = f"edge/v1/f/{reader.user}/{channel}"
            client.publish(where, b"x", qos=1).wait_for_publish(10)
        client.disconnect()
        client.loop_stop()
        device = mqtt_client("d1", "one")
        connect(device, broker.door.address.port)
        device.publish("edge/v1/f/d1/hello", b"x", qos=1).wait_for_publish(10)
        device.disconnect()
        device.loop_stop()
        eventually(lambda: heard, "the device")
        assert heard == ["edge/v1/f/d1/hello"]
    finally:
        link.stop()
        broker.stop()


def test_rights_are_shared_by_devices_unless_certificates_let_them_in() -> None:
    """A revoked device's certificate is good until its connection ends: it must have no rights left."""
    accounts = [server_account("f", "s"), *(device_account("f", f"d{n}", "p") for n in range(3))]
    shared, own = (rights(accounts, by_pattern).splitlines() for by_pattern in (True, False))
    assert "pattern write edge/v1/f/%u/telemetry" in shared
    assert not any("d1" in line for line in shared)
    assert not any(line.startswith("pattern") for line in own)
    assert own.count("topic read edge/v1/f/d1/ack") == 1


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""
