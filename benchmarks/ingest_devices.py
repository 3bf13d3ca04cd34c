"""Devices of `ingest_rate.py`: MQTT 3.1.1 connections that replay sealed envelopes as these are acknowledged.

By hand and without a signature on the way, so that a second core can drive more than one core of a
server takes.
"""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Sequence

import cbor2
import httpx

from edge_contracts import cose
from edge_contracts.enrolment import EnrolAnswer, EnrolRequest, enrol_proof
from edge_contracts.envelope import chain_value, encode_record, seal, seal_records
from edge_contracts.keys import PrivateKey
from edge_contracts.messages import CHAIN_START, DeviceState, Window
from edge_contracts.topics import Channel, topic

IN_FLIGHT = 64
STUCK_S = 60.0


class Device:
    """One enrolled device with a number of sealed envelopes."""

    def __init__(
        self, http: httpx.Client, fleet: str, number: int, records: Sequence[Window], count: int
    ) -> None:
        """Enrol it and seal its envelopes; it does not connect yet."""
        key, token = PrivateKey.generate(), http.post("/api/v1/tokens", json={}).json()["token"]
        name = f"device-{number}"
        request = EnrolRequest(
            token=token,
            public_key=key.public.base64,
            proof=_base64(key.sign(enrol_proof(token, name))),
            profile=("x86-cpu",),
            name=name,
        )
        answer = http.post("/api/v1/enrol", json=request.model_dump(mode="json"))
        answer.raise_for_status()
        self._enrolled = EnrolAnswer.model_validate_json(answer.content)
        epoch, prev, encoded = os.urandom(8).hex(), CHAIN_START, [encode_record(one) for one in records]
        self._topic = topic(fleet, name, Channel.TELEMETRY)
        self.packets = []
        for seq in range(count):
            raw = seal_records(epoch, seq, prev, encoded, self._topic, key)
            prev = chain_value(raw)
            self.packets.append(_publish(self._topic, raw))
        hello = DeviceState(
            type="hello",
            device=name,
            n=1,
            epoch=epoch,
            next_seq=count,
            agent="0.1.0",
            profile=("x86-cpu",),
            counter=0,
            time_ms=1,
        )
        where = topic(fleet, name, Channel.HELLO)
        self.hello = _publish(where, seal(hello, where, key))
        self._acks = topic(fleet, name, Channel.ACK)
        self.sent, self.high, self._buffer = 0, -1, b""
        self.socket = socket.socket()

    def connect(self) -> None:
        """Log in and subscribe to acknowledgements; both are answered."""
        told = self._enrolled
        self.socket.connect((told.mqtt_host or "127.0.0.1", told.mqtt_port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        body = _text("MQTT") + b"\x04\xc2\x00\x00" + _text(told.device) + _text(told.mqtt_user)
        self.socket.sendall(_packet(0x10, body + _text(told.mqtt_password)))
        self.socket.sendall(_packet(0x82, b"\x00\x01" + _text(self._acks) + b"\x00"))
        answered = 0
        while answered < 4 + 5:  # CONNACK, SUBACK
            answered += len(
                self.socket.recv(4 + 5 - answered) or exit("the broker closed a device's connection")
            )

    def more(self) -> bytes:
        """Envelopes that may leave now."""
        start = self.sent
        self.sent = min(len(self.packets), self.high + 1 + IN_FLIGHT)
        return b"".join(self.packets[start : self.sent])

    def heard(self, content: bytes) -> None:
        """Take what the broker sent: acknowledgements."""
        self._buffer += content
        while (packet := _first_packet(self._buffer)) is not None:
            head, body, self._buffer = packet
            if head >> 4 == 3:
                topic_bytes = int.from_bytes(body[:2], "big")
                ack = cbor2.loads(cose.parse(body[2 + topic_bytes :]).payload)
                self.high = max(self.high, ack["high"])

    @property
    def done(self) -> bool:
        """Whether everything is acknowledged."""
        return self.high == len(self.packets) - 1


def drive(devices: Sequence[Device]) -> float:
    """Let all of them send everything; seconds from the first envelope to the last acknowledgement."""
    selector = selectors.DefaultSelector()
    for device in devices:
        device.connect()
        device.socket.sendall(device.hello)
        selector.register(device.socket, selectors.EVENT_READ, device)
    waiting = set(devices)
    time.sleep(1)  # hellos are answered, threads are at rest
    began = last = time.perf_counter()
    for device in devices:
        device.socket.sendall(device.more())
    while waiting:
        ready = selector.select(1)
        if ready:
            last = time.perf_counter()
        elif time.perf_counter() - last > STUCK_S:
            raise SystemExit(f"{len(waiting)} devices wait for acknowledgements that do not come")
        for key, _ in ready:
            device = key.data
            device.heard(device.socket.recv(1 << 16) or exit("the broker closed a device's connection"))
            if device.done:
                waiting.discard(device)
            elif packets := device.more():
                device.socket.sendall(packets)
    took_s = time.perf_counter() - began
    for device in devices:
        device.socket.close()
    selector.close()
    return took_s


def _base64(content: bytes) -> str:
    import base64

    return base64.b64encode(content).decode()


def _text(text: str) -> bytes:
    raw = text.encode()
    return len(raw).to_bytes(2, "big") + raw


def _packet(head: int, body: bytes) -> bytes:
    length, left = bytearray(), len(body)
    while True:
        left, digit = divmod(left, 128)[0], left % 128
        length.append(digit | (0x80 if left else 0))
        if not left:
            return bytes([head]) + bytes(length) + body


def _publish(where: str, payload: bytes) -> bytes:
    return _packet(0x30, _text(where) + payload)


def _first_packet(buffer: bytes) -> tuple[int, bytes, bytes] | None:
    """Head, body and what follows; None when it is not whole yet."""
    length = shift = 0
    for place in range(1, min(len(buffer), 5)):
        length |= (buffer[place] & 0x7F) << shift
        shift += 7
        if not buffer[place] & 0x80:
            end = place + 1 + length
            return (buffer[0], buffer[place + 1 : end], buffer[end:]) if len(buffer) >= end else None
    return None
