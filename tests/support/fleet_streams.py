"""Devices whose messages go into the database without a broker: as verified, in any order."""

from __future__ import annotations

from typing import Any

from fleet_device import Outbox, window
from sqlalchemy import insert

from edge_contracts.envelope import chain_value, unseal
from edge_contracts.keys import PrivateKey
from edge_contracts.messages import DeviceState, Telemetry
from edge_contracts.topics import Channel
from edge_fleet import schema
from edge_fleet.intake import Outcome, store_batch
from edge_fleet.store import Store
from edge_fleet.stream import Position
from edge_fleet.verification import Verified


class Device:
    """A device whose messages have been verified already."""

    def __init__(self, store: Store, name: str = "d1") -> None:
        self.store, self.name = store, name
        self.key = PrivateKey.generate()
        self.outbox = Outbox(name, "f", self.key)
        self.n = 0
        with store.write() as connection:
            connection.execute(
                insert(schema.devices).values(
                    id=name,
                    public_key=self.key.public.raw,
                    profile=["x86-cpu"],
                    labels={},
                    credential="c",
                    enrolled_ms=1,
                )
            )

    def state(self, kind: str = "hello", **fields: Any) -> Verified:
        self.n += 1
        stated: dict[str, Any] = {
            "type": kind,
            "device": self.name,
            "n": self.n,
            "epoch": self.outbox.epoch,
            "next_seq": self.outbox.next_seq,
            "agent": "0.1.0",
            "profile": ("x86-cpu",),
            "counter": 0,
            "time_ms": 1,
        }
        message = DeviceState(**(stated | fields))
        return Verified(self.name, Channel(kind), message, b"", 5_000)

    def telemetry(self, seq: int, received_ms: int = 6_000) -> Verified:
        raw = self.outbox.sealed[seq]
        return self.verified(raw, received_ms)

    def verified(self, raw: bytes, received_ms: int = 6_000) -> Verified:
        message = unseal(Telemetry, raw, self.outbox.topic, self.key.public)
        return Verified(self.name, Channel.TELEMETRY, message, raw, received_ms)

    def fill(self, count: int) -> None:
        for _ in range(count):
            self.outbox.add(window())

    def take(self, *batch: Verified) -> Outcome:
        with self.store.write() as connection:
            return store_batch(connection, batch)

    def position(self, outcome: Outcome) -> Position:
        return outcome.acks[(self.name, self.outbox.epoch)]

    def chain(self, seq: int) -> bytes:
        return chain_value(self.outbox.sealed[seq])
