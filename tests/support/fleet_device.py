"""A device for tests of the server: a key, an outbox in memory, and a real MQTT connection."""

from __future__ import annotations

import base64
import queue
import secrets
import shutil
import threading
import time
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from waiting import until

from edge_contracts.enrolment import EnrolAnswer, enrol_proof
from edge_contracts.envelope import chain_value, seal, unseal
from edge_contracts.keys import PrivateKey, PublicKey
from edge_contracts.messages import (
    CHAIN_START,
    Ack,
    Assignment,
    DeviceState,
    Event,
    Gap,
    Progress,
    Telemetry,
    Window,
)
from edge_contracts.topics import Channel, topic

SOME_BUNDLE = "sha256:" + "ab" * 32
WAIT_S = 30.0
eventually = until


def window(bundle: str = SOME_BUNDLE, inferences: int = 10, **fields: Any) -> Window:
    """A window of telemetry."""
    stated: dict[str, Any] = {"start_ms": 1000, "end_ms": 2000, "duration_ms": 1000}
    stated |= {"artifact": "int8", "runtime": "litert 2"} | fields
    return Window(bundle=bundle, inferences=inferences, **stated)


def event(name: str = "started", **fields: Any) -> Event:
    """An event of telemetry."""
    return Event(name=name, time_ms=1000, **fields)


class Outbox:
    """Numbers, chains and signs envelopes, and keeps them all."""

    def __init__(self, device: str, fleet: str, key: PrivateKey) -> None:
        self.epoch = secrets.token_hex(8)
        self.topic = topic(fleet, device, Channel.TELEMETRY)
        self.key = key
        self.next_seq = 0
        self.prev = CHAIN_START
        self.sealed: dict[int, bytes] = {}

    def add(self, *records: Window | Event | Gap) -> bytes:
        """The next envelope."""
        message = Telemetry(epoch=self.epoch, seq=self.next_seq, prev=self.prev, recs=records or (window(),))
        envelope = seal(message, self.topic, self.key)
        self.sealed[self.next_seq] = envelope
        self.next_seq += 1
        self.prev = chain_value(envelope)
        return envelope


def enrol_request(
    token: str, key: PrivateKey, name: str | None = None, profile: Sequence[str] = ("x86-cpu",)
) -> dict[str, Any]:
    """The body of an enrolment."""
    return {
        "token": token,
        "public_key": key.public.base64,
        "proof": base64.b64encode(key.sign(enrol_proof(token, name))).decode(),
        "profile": list(profile),
        "name": name,
    }


def enrol(
    http: httpx.Client, token: str, name: str | None = None, profile: Sequence[str] = ("x86-cpu",)
) -> FleetDevice:
    """Enrol a new device."""
    key = PrivateKey.generate()
    answer = http.post("/api/v1/enrol", json=enrol_request(token, key, name, profile))
    assert answer.status_code == 200, answer.text
    return FleetDevice(EnrolAnswer.model_validate(answer.json()), key, tuple(profile))


class FleetDevice:
    """An enrolled device."""

    def __init__(self, enrolled: EnrolAnswer, key: PrivateKey, profile: tuple[str, ...]) -> None:
        self.enrolled, self.key, self.profile = enrolled, key, profile
        self.id, self.fleet = enrolled.device, enrolled.fleet
        self.outbox = Outbox(self.id, self.fleet, key)
        self.n = 0
        self.director = PublicKey.from_base64(enrolled.director_key)
        self.acks: queue.Queue[Ack] = queue.Queue()
        self.assignments: queue.Queue[Assignment] = queue.Queue()
        self._client: Client | None = None

    def topic(self, channel: Channel) -> str:
        """One of its topics."""
        return topic(self.fleet, self.id, channel)

    def connect(self) -> None:
        """Connect and subscribe to its own two topics."""
        self._client = mqtt_client(self.enrolled.mqtt_user, self.enrolled.mqtt_password)
        self._client.on_message = self._received
        connect(
            self._client,
            self.enrolled.mqtt_port,
            [self.topic(Channel.ACK), self.topic(Channel.ASSIGNMENT)],
        )

    def close(self) -> None:
        """Disconnect."""
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()

    def send(self, channel: Channel, payload: bytes) -> None:
        """Publish on one of its topics."""
        assert self._client is not None
        self._client.publish(self.topic(channel), payload, qos=1).wait_for_publish(WAIT_S)

    def send_now(self, channel: Channel, payload: bytes) -> None:
        """Publish and do not wait, whether the broker is there or not."""
        assert self._client is not None
        self._client.publish(self.topic(channel), payload, qos=0)

    def state(self, kind: str = "hello", progress: Progress | None = None, **fields: Any) -> bytes:
        """A signed snapshot."""
        self.n += 1
        stated: dict[str, Any] = {
            "type": kind,
            "device": self.id,
            "n": self.n,
            "epoch": self.outbox.epoch,
            "next_seq": self.outbox.next_seq,
            "agent": "0.1.0",
            "profile": self.profile,
            "counter": 0,
            "progress": progress,
            "time_ms": 1,
        }
        channel = Channel.HELLO if kind == "hello" else Channel.STATUS
        return seal(DeviceState(**(stated | fields)), self.topic(channel), self.key)

    def hello(self) -> None:
        """Say hello."""
        self.send(Channel.HELLO, self.state())

    def wait_ack(self, high: int) -> Ack:
        """The acknowledgement up to a number; those before it are passed over."""
        deadline = time.monotonic() + WAIT_S
        while True:
            ack = self.acks.get(timeout=max(0.01, deadline - time.monotonic()))
            if ack.high >= high and ack.epoch == self.outbox.epoch:
                return ack

    def _received(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        if message.topic == self.topic(Channel.ACK):
            self.acks.put(unseal(Ack, message.payload, message.topic, self.director))
        else:
            self.assignments.put(unseal(Assignment, message.payload, message.topic, self.director))


def mqtt_client(user: str | None, password: str | None, client_id: str | None = None) -> Client:
    """A client that is not connected yet."""
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id or secrets.token_hex(8),
        protocol=MQTTProtocolVersion.MQTTv311,
    )
    if user is not None:
        client.username_pw_set(user, password)
    return client


def connect(client: Client, port: int, filters: Sequence[str] = (), qos: int = 1) -> list[bool]:
    """Connect and subscribe.

    Returns:
        Whether each subscription was granted.

    Raises:
        ConnectionRefusedError: The broker refuses the client.
    """
    ready, verdict = threading.Event(), []
    granted: list[bool] = []

    def on_connect(_c: Client, _d: Any, _f: Any, reason: Any, _p: Any) -> None:
        verdict.append(reason)
        if reason.is_failure or not filters:
            ready.set()
        else:
            client.subscribe([(name, qos) for name in filters])

    def on_subscribe(_c: Client, _d: Any, _m: int, reasons: Any, _p: Any) -> None:
        granted.extend(not reason.is_failure for reason in reasons)
        ready.set()

    client.on_connect, client.on_subscribe = on_connect, on_subscribe
    client.connect("127.0.0.1", port)
    client.loop_start()
    assert ready.wait(WAIT_S), "the broker does not answer"
    if verdict[0].is_failure:
        client.loop_stop()
        raise ConnectionRefusedError(str(verdict[0]))
    return granted


def require_broker(kind: str) -> None:
    """Skip where a broker is not installed."""
    if kind == "mosquitto" and not (
        shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
    ):
        pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
