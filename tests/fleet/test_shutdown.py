"""How a server ends: what it has taken in is stored and acknowledged, and nothing holds it up for ever."""

from __future__ import annotations

import json
import queue
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import httpx
import pytest
from fleet_device import FleetDevice, enrol, eventually
from fleet_server import client
from fleet_streams import Device
from sqlalchemy import select

from edge_contracts.envelope import unseal
from edge_contracts.keys import PrivateKey
from edge_contracts.messages import Ack
from edge_contracts.topics import Channel, topic
from edge_fleet import schema
from edge_fleet import store as stores
from edge_fleet.access.directors import Directors
from edge_fleet.access.https import http_tls
from edge_fleet.brokers.child import free_loopback_port
from edge_fleet.config import ServerConfig
from edge_fleet.errors import RequestInvalid
from edge_fleet.events import EventBus
from edge_fleet.home import Home, find_running
from edge_fleet.ingest import Ingest
from edge_fleet.intake import store_batch
from edge_fleet.store import Store, open_store
from edge_fleet.supervision import Supervisor

WAIT_S = 60.0
DEVICES, EACH = 3, 400


class Nobody:
    """A dispatch that has nothing to do."""

    def soon(self, devices: Iterable[str]) -> None:
        pass


class Acknowledged:
    """What an ingest has published."""

    def __init__(self, director: PrivateKey) -> None:
        self._director = director.public
        self.high: dict[str, int] = {}

    def publish(self, name: str, payload: bytes) -> bool:
        ack = unseal(Ack, payload, name, self._director)
        self.high[ack.device] = max(ack.high, self.high.get(ack.device, -1))
        return True


def _known(opened: Store, name: str) -> Device:
    """A device that has said hello."""
    device = Device(opened, name)
    with opened.write() as connection:
        store_batch(connection, [device.state()])
    return device


def _ingest(opened: Store) -> tuple[Ingest, Acknowledged]:
    director = PrivateKey.generate()
    acknowledged = Acknowledged(director)
    ingest = Ingest(
        opened, EventBus(), Nobody(), Directors.only(director), "f", acknowledged.publish, lambda: 6_000
    )
    return ingest, acknowledged


def _offer(ingest: Ingest, devices: list[Device]) -> None:
    """Messages of devices in turns, faster than anything can store them."""
    for _ in range(EACH):
        for device in devices:
            ingest.received([(topic("f", device.name, Channel.TELEMETRY), device.outbox.add())])


def _stored(opened: Store, device: str) -> list[int]:
    own = schema.envelopes.c
    with opened.read() as connection:
        query = select(own.seq).where(own.device == device).order_by(own.seq)
        return list(connection.execute(query).scalars())


def test_what_has_arrived_is_stored_and_acknowledged_before_the_end(store: Store) -> None:
    devices = [_known(store, f"d{n}") for n in range(DEVICES)]
    ingest, acknowledged = _ingest(store)
    _offer(ingest, devices)
    ingest.start()
    ingest.stop(within_s=WAIT_S)
    assert (ingest.works, ingest.waiting) == (False, 0)
    for device in devices:
        assert _stored(store, device.name) == list(range(EACH))
    assert acknowledged.high == {device.name: EACH - 1 for device in devices}
    # and what comes later is not taken
    _offer(ingest, devices[:1])
    assert ingest.waiting == 0


def test_a_database_that_is_away_holds_no_end_up_and_nothing_is_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "BUSY_TIMEOUT_MS", 20)
    opened = open_store(f"sqlite:///{tmp_path / 'fleet.db'}")
    devices = [_known(opened, f"d{n}") for n in range(DEVICES)]
    ingest, acknowledged = _ingest(opened)
    other = sqlite3.connect(tmp_path / "fleet.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    _offer(ingest, devices)
    ingest.start()
    eventually(lambda: ingest.failing, "word that the database is away")
    ingest.stop(within_s=0.1)
    other.rollback()
    other.close()
    assert not ingest.works
    assert acknowledged.high == {}
    assert [_stored(opened, device.name) for device in devices] == [[]] * DEVICES
    opened.close()


class Manager:
    """What a service manager hears."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._socket.settimeout(WAIT_S)

    def hear(self, word: str) -> str:
        """The next message with a word in it."""
        while True:
            message = self._socket.recv(4096).decode()
            if word in message:
                return message

    def close(self) -> None:
        self._socket.close()


class Process:
    """A server as its unit starts it, in a process of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.home = Home(folder / "home")
        self.manager = Manager(folder)
        self._log = (folder / "log").open("wb")
        command = [Path(sys.executable).with_name("edge-fleet"), "serve", "--home", self.home.root]
        place = f"127.0.0.1:{free_loopback_port()}"
        self.process = subprocess.Popen(
            [*map(str, command), "--fleet=f", "--http=127.0.0.1:0", f"--mqtt={place}", *options],
            stdout=self._log,
            stderr=self._log,
            env={"PATH": "/usr/bin:/usr/sbin", "NOTIFY_SOCKET": str(self.manager.path),
                 "WATCHDOG_USEC": "200000"},
        )  # fmt: skip
        assert "STATUS=serves http" in self.manager.hear("READY=1")
        self.url = str(find_running(self.home))
        self.token = self.home.admin_token.read_text().strip()

    def end(self) -> int:
        """Tell it to stop, as a service manager does."""
        self.process.send_signal(signal.SIGTERM)
        assert "STOPPING=1" in self.manager.hear("STOPPING=1")
        return self.process.wait(WAIT_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.manager.close()
        self._log.close()


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    found = Process(tmp_path)
    yield found
    found.close()


class Load(threading.Thread):
    """A device that reports without a pause."""

    def __init__(self, device: FleetDevice) -> None:
        super().__init__()
        self._device, self._over = device, threading.Event()

    def run(self) -> None:
        while not self._over.is_set():
            self._device.send_now(Channel.TELEMETRY, self._device.outbox.add())
            self._over.wait(0.002)

    def stop(self) -> None:
        self._over.set()
        self.join()


class Watching(threading.Thread):
    """One who follows a stream of the server to its end."""

    def __init__(self, url: str, token: str, path: str) -> None:
        super().__init__()
        self._url, self._token, self._path = url, token, path
        self.began = threading.Event()
        self.ended: queue.Queue[bool] = queue.Queue()

    def run(self) -> None:
        with client(self._url, self._token) as http, http.stream("GET", self._path) as answer:
            try:
                for _ in answer.iter_bytes():
                    self.began.set()
                self.ended.put(True)
            except httpx.HTTPError:
                self.ended.put(False)


def _slow_request(url: str, token: str) -> tuple[socket.socket, bytes]:
    """A request for a token of which half the body is still to come; gives the rest."""
    body = json.dumps({"role": "viewer", "label": "under way"}).encode()
    place = httpx.URL(url)
    stream = socket.create_connection((place.host, place.port or 0), WAIT_S)
    head = (
        f"POST /api/v1/tokens HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    )
    stream.sendall(head.encode())
    assert stream.recv(100).startswith(b"HTTP/1.1 100")  # it is being worked on
    stream.sendall(body[:10])
    return stream, body[10:]


def test_a_server_that_is_told_to_stop_under_load_finishes_and_loses_nothing(process: Process) -> None:
    process.manager.hear("WATCHDOG=1")
    with client(process.url, process.token) as http:
        tokens = [http.post("/api/v1/tokens", json={"role": "enrol"}).json()["token"] for _ in range(3)]
        devices = [enrol(http, token) for token in tokens]
    watching = [Watching(process.url, process.token, f"/api/v1/{path}") for path in ("events", "telemetry")]
    loads = []
    for device in devices:
        device.connect()
        device.hello()
        loads.append(Load(device))
        loads[-1].start()
    for one in watching:
        one.start()
    for device in devices:
        device.wait_ack(20)
    for one in watching:
        assert one.began.wait(WAIT_S)
    stream, rest = _slow_request(process.url, process.token)
    process.process.send_signal(signal.SIGTERM)
    process.manager.hear("STOPPING=1")
    # streams end by themselves, nobody new is let in, and the request that was under way is answered
    assert [one.ended.get(timeout=WAIT_S) for one in watching] == [True, True]
    with pytest.raises(httpx.TransportError), client(process.url) as http:
        http.get("/health")
    stream.sendall(rest)
    assert stream.recv(4096).startswith(b"HTTP/1.1 201")
    stream.close()
    assert process.process.wait(WAIT_S) == 0
    for load in loads:
        load.stop()
    for one in watching:
        one.join()
    assert not process.home.running.exists()
    opened = open_store(f"sqlite:///{process.home.root / 'fleet.db'}")
    with opened.read() as connection:
        labels = list(connection.execute(select(schema.tokens.c.label)).scalars())
    assert "under way" in labels
    for device in devices:
        stored = _stored(opened, device.id)
        acked = max(ack.high for ack in list(device.acks.queue))
        assert stored[: acked + 1] == list(range(acked + 1))
        assert stored == list(range(len(stored)))
        device.close()
    opened.close()


def test_an_interrupted_server_ends_as_well(process: Process) -> None:
    process.process.send_signal(signal.SIGINT)
    assert process.process.wait(WAIT_S) == 0


def test_a_server_with_a_certificate_of_its_own_serves_https(tmp_path: Path) -> None:
    found = Process(tmp_path, "--https")
    try:
        assert found.url.startswith("https://127.0.0.1:")
        context = ssl.create_default_context(cafile=str(found.home.keys / "authority.pem"))
        with httpx.Client(verify=context, trust_env=False) as http:
            assert http.get(f"{found.url}/ready").status_code == 200
        with pytest.raises(httpx.ConnectError), httpx.Client(trust_env=False) as http:
            http.get(f"{found.url}/ready")  # nobody else knows this authority
        # the command line of this machine knows it by the home
        program = str(Path(sys.executable).with_name("edge-fleet"))
        told = subprocess.run(
            [program, "health", "--home", found.home.root, "--json"], capture_output=True, text=True
        )
        assert json.loads(told.stdout)["status"] == "ok", told.stderr
        # and one elsewhere by a variable
        for ca, code in ((found.home.keys / "authority.pem", 0), (found.home.admin_token, 1)):
            told = subprocess.run(
                [program, "token", "list", "--server", found.url, "--token", found.token],
                capture_output=True, text=True, env={"EDGE_FLEET_CA": str(ca), "HOME": str(tmp_path)},
            )  # fmt: skip
            assert told.returncode == code, told.stderr
        assert found.end() == 0
    finally:
        found.close()


def test_health_waits_for_a_server_that_begins_and_not_longer_than_it_is_told(tmp_path: Path) -> None:
    program = str(Path(sys.executable).with_name("edge-fleet"))
    ask = [program, "health", "--home", str(tmp_path / "home"), "--json"]
    never = subprocess.run([*ask, "--wait", "1"], capture_output=True, text=True)
    assert never.returncode == 1 and "no server runs with the home" in never.stderr
    with subprocess.Popen([*ask, "--wait", "60"], stdout=subprocess.PIPE, text=True) as waiting:
        found = Process(tmp_path)
        try:
            told, _ = waiting.communicate(timeout=WAIT_S)
            assert waiting.returncode == 0 and json.loads(told)["status"] == "ok"
        finally:
            found.end()
            found.close()


def test_a_certificate_without_its_key_is_refused(tmp_path: Path) -> None:
    for key, words in (("", "needs both"), ("b.pem", "cannot use a.pem and b.pem: No such file")):
        with pytest.raises(RequestInvalid, match=words):
            http_tls(ServerConfig(http_cert="a.pem", http_key=key), Home(tmp_path), 0)


def test_a_manager_that_does_not_listen_holds_nothing_up(tmp_path: Path) -> None:
    deaf = Manager(tmp_path)
    environment = {"NOTIFY_SOCKET": str(deaf.path), "WATCHDOG_USEC": "0"}
    supervisor = Supervisor(environment)
    for _ in range(2_000):  # more than a socket keeps (net.unix.max_dgram_qlen)
        supervisor.alive()
    deaf.hear("WATCHDOG=1")
    deaf.close()
    supervisor.alive()  # and one that went away
    Supervisor({}).ready("nobody asked")
    Supervisor({**environment, "WATCHDOG_PID": "1"}).alive()
