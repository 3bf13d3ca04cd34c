"""Devices of `capacity.py`: as rows of a database, and as one connection that speaks for very many."""

from __future__ import annotations

import hashlib
import secrets
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from sqlalchemy import insert

from edge_contracts.envelope import chain_value, seal
from edge_contracts.keys import PrivateKey
from edge_contracts.messages import CHAIN_START, DeviceState, Telemetry, Window
from edge_contracts.sketch import QuantileSketch
from edge_contracts.topics import Channel, topic
from edge_fleet import schema
from edge_fleet.serve import now_ms
from edge_fleet.simulation import mqtt
from edge_fleet.simulation.workers import FACTORY
from edge_fleet.store import open_store

FLEET, PROFILE = "main", ("x86-cpu",)
EVERY_S = 60.0
HELLOS_PER_S = 400.0


def seed_of(name: str) -> bytes:
    """Of a device's key: made from its name, so that another process has it too."""
    return hashlib.sha256(name.encode()).digest()


def provision(url: str, names: Sequence[str]) -> None:
    """Devices as an enrolment leaves them, in one transaction."""
    store = open_store(url)
    with store.write() as connection:
        rows = [
            {
                "id": name,
                "public_key": PrivateKey.from_seed(seed_of(name)).public.raw,
                "profile": list(PROFILE),
                "labels": {"simulated": "honest"},
                "credential": "salt",
                "enrolled_ms": now_ms(),
                "state_n": -1,
            }
            for name in names
        ]
        connection.execute(insert(schema.devices), rows)
    store.close()


def replay(
    account: tuple[int, str, str], names: Sequence[str], minutes: float, ready: Any, go: Any, said: Any
) -> None:
    """A process that says for many devices what they have to say, evenly, through one connection."""
    port, user, password = account
    turns = int(minutes)
    packets: list[bytes] = []
    windows: list[list[bytes]] = [[] for _ in range(turns)]
    for number, name in enumerate(names):
        key, epoch, prev = PrivateKey.from_seed(seed_of(name)), secrets.token_hex(8), CHAIN_START
        hello = DeviceState(type="hello", device=name, n=1, epoch=epoch, next_seq=0, agent="0.1.0",
                            profile=PROFILE, counter=0, active=FACTORY, time_ms=now_ms())  # fmt: skip
        where = topic(FLEET, name, Channel.HELLO)
        packets.append(mqtt.publish(where, seal(hello, where, key), number % 65535 + 1))
        where = topic(FLEET, name, Channel.TELEMETRY)
        for seq in range(turns):
            raw = seal(Telemetry(epoch=epoch, seq=seq, prev=prev, recs=(window(seq),)), where, key)
            prev = chain_value(raw)
            windows[seq].append(mqtt.publish(where, raw, number % 65535 + 1))
    with socket.create_connection(("127.0.0.1", port)) as stream:
        stream.sendall(mqtt.connect("replay", user, password, 0))
        if stream.recv(4) != b"\x20\x02\x00\x00":
            raise SystemExit("the broker does not let the replaying connection in")
        ready.set()
        go.wait()
        stream.setblocking(False)
        # as many as could connect in that time
        _evenly(stream, packets, len(packets) / HELLOS_PER_S)
        said.set()
        for turn in windows:
            _evenly(stream, turn, EVERY_S)


def _evenly(stream: socket.socket, packets: Sequence[bytes], seconds: float) -> None:
    """All packets within a time, a hundredth of a second's worth at a time."""
    begun, sent = time.monotonic(), 0
    left = b""
    while sent < len(packets) or left:
        due = min(len(packets), int((time.monotonic() - begun) / seconds * len(packets)) + 1)
        left += b"".join(packets[sent:due])
        sent = due
        with suppress(BlockingIOError):
            left = left[stream.send(left) :] if left else left
        with suppress(BlockingIOError):
            while stream.recv(1 << 16):  # PUBACKs
                pass
        time.sleep(0.01)
    time.sleep(max(0.0, begun + seconds - time.monotonic()))


def window(seq: int) -> Window:
    """A minute of a device."""
    at_ms = now_ms()
    return Window(
        bundle=FACTORY.bundle, artifact=FACTORY.artifact, runtime=FACTORY.runtime, start_ms=at_ms - 60_000,
        end_ms=at_ms, duration_ms=60_000, inferences=100 + seq, latency_ms=QuantileSketch(bins={40: 100}),
        golden_total=1, golden_agree=1,
    )  # fmt: skip
