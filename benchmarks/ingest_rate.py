"""Telemetry records per second from the agents' outboxes to verified rows, beside its parts alone.

    python benchmarks/ingest_rate.py [--devices 8] [--envelopes 500] [--broker mosquitto] [--database URL]

Everything is the real thing: the agent's outboxes on disk, filled beforehand, its flight window and its
connection; a server process with its broker and database; signed acknowledgements back into the outboxes.
The senders share this machine's cores with the server and the broker. The other lines are parts of the
path by themselves, in one thread: what a faster machine, not faster code, could give.
"""

from __future__ import annotations

import argparse
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import httpx
from sqlalchemy import insert

from edge_agent.device.config import DeviceConfig, read_device_key
from edge_agent.device.enrol import enrol
from edge_agent.device.home import Home as DeviceHome
from edge_agent.telemetry.flight import Flight
from edge_agent.telemetry.mqtt import Happening, Link, LinkUp, Received
from edge_agent.telemetry.outbox import Identity, Limits, Outbox
from edge_contracts.keys import PrivateKey
from edge_contracts.messages import (
    CHAIN_START,
    DeviceState,
    Telemetry,
    Window,
    chain_value,
    seal,
    unseal,
)
from edge_contracts.sketch import QuantileSketch
from edge_contracts.topics import Channel, topic
from edge_fleet import schema
from edge_fleet.brokers.child import free_loopback_port
from edge_fleet.home import Home, find_running
from edge_fleet.intake import store_batch
from edge_fleet.store import open_store
from edge_fleet.verification import Verified

SERVE = [sys.executable, "-c", "from edge_fleet.cli import main; main()", "serve"]
RECORD = Window(
    bundle="sha256:" + "ab" * 32,
    artifact="int8",
    runtime="litert 2.3.0",
    start_ms=1_800_000_000_000,
    end_ms=1_800_000_060_000,
    duration_ms=60_000,
    inferences=600,
    errors={"timeout": 1},
    latency_ms=QuantileSketch(bins={n: 50 for n in range(12)}),
    golden_total=10,
    golden_agree=10,
    cpu_s=3.5,
    rss_bytes=60 << 20,
)
BATCH, BATCHES = 256, 8
EPOCH, DEVICE, FLEET = "0" * 16, "d", "f"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--envelopes", type=int, default=500, help="of each device")
    parser.add_argument("--broker", default="nats")
    parser.add_argument("--database", default="", help="SQLAlchemy URL; SQLite when not given")
    options = parser.parse_args()
    print(f"{'path':46}{'records each':>14}{'envelopes/s':>13}{'records/s':>11}")
    for records in (1, 10, 100):
        for name, measured in (
            ("outbox -> broker -> verified row -> ack", whole),
            ("  opening envelopes alone (signature, CBOR)", opening),
            ("  judging and storing opened envelopes alone", storing),
            ("  raw insert of their rows alone", inserting),
        ):
            with tempfile.TemporaryDirectory() as place:
                rate = measured(Path(place), options, records)
            print(f"{name:46}{records:14}{rate:13,.0f}{rate * records:11,.0f}", flush=True)


def whole(place: Path, options: argparse.Namespace, records: int) -> float:
    """Envelopes a second from full outboxes to the last acknowledgement."""
    home = Home(place / "server")
    mqtt = f"127.0.0.1:{free_loopback_port()}"
    command = [*SERVE, "--home", str(home.root), "--http", "127.0.0.1:0", "--mqtt", mqtt]
    command += ["--broker", options.broker, "--database", options.database]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        try:
            while (url := find_running(home)) is None:
                if server.poll() is not None:
                    raise SystemExit(server.stderr.read() if server.stderr else "the server ended")
                time.sleep(0.05)
            authorization = {"Authorization": f"Bearer {home.admin_token.read_text().strip()}"}
            with httpx.Client(base_url=url, headers=authorization, trust_env=False) as http:
                senders = []
                for number in range(options.devices):
                    token = http.post("/api/v1/tokens", json={}).json()["token"]
                    senders.append(Sender(DeviceHome(place / str(number)), url, token))
                for sender in senders:
                    sender.fill(options.envelopes, records)
                began = time.perf_counter()
                for sender in senders:
                    sender.start()
                for sender in senders:
                    sender.join()
                took_s = time.perf_counter() - began
                stored = http.get("/api/v1/metrics").json()["since_start"]["envelopes_stored"]
        finally:
            server.terminate()
            server.communicate()
    total = options.devices * options.envelopes
    if stored != total:
        raise SystemExit(f"{stored} of {total} envelopes were stored")
    return float(total / took_s)


class Sender(threading.Thread):
    """One device that empties its outbox as the agent does."""

    def __init__(self, home: DeviceHome, url: str, token: str) -> None:
        """Enrol it; it does not connect yet."""
        super().__init__()
        self._config: DeviceConfig = enrol(home, url, token, "x86-cpu")
        self._key = read_device_key(home, self._config)
        self._path = home.folder / "benchmark.db"
        self._happened: queue.Queue[Happening] = queue.Queue()
        self._link = Link(self._config, self._happened.put, Random(1))

    def fill(self, envelopes: int, records: int) -> None:
        """Put envelopes into the outbox."""
        outbox = self._outbox()
        sealed: set[int] = set()
        for _ in range(envelopes):
            outbox.put([RECORD] * records)
            sealed |= {seq for seq, _ in outbox.waiting(1 << 20, sealed)}
        outbox.close()

    def run(self) -> None:
        """Connect, say hello, and send until everything is acknowledged."""
        outbox, flight = self._outbox(), Flight(Random(1))
        self._link.start()
        while not isinstance(self._happened.get(timeout=30), LinkUp):
            pass
        self._link.publish(Channel.HELLO, self._hello(outbox))
        while len(outbox):
            waiting = outbox.waiting(flight.room, flight.flying) if flight.room else []
            for _, envelope in waiting:
                self._link.publish(Channel.TELEMETRY, envelope)
            flight.sent([seq for seq, _ in waiting], time.monotonic())
            try:
                happening = self._happened.get(timeout=1)
            except queue.Empty:
                flight.overdue(time.monotonic())
                continue
            if isinstance(happening, Received) and happening.channel is Channel.ACK:
                outbox.acknowledge(happening.payload)
                flight.acknowledged(outbox.acked, time.monotonic())
        self._link.stop()
        outbox.close()

    def _outbox(self) -> Outbox:
        config = self._config
        identity = Identity(config.fleet, config.device, self._key, config.director)
        return Outbox(self._path, identity, Limits(1 << 20, 4 << 30))

    def _hello(self, outbox: Outbox) -> bytes:
        config = self._config
        state = DeviceState(
            type="hello",
            device=config.device,
            n=1,
            epoch=outbox.epoch,
            next_seq=outbox.next_seq,
            agent="0.1.0",
            profile=config.lineage,
            counter=0,
            time_ms=1,
        )
        return seal(state, topic(config.fleet, config.device, Channel.HELLO), self._key)


def opening(place: Path, options: argparse.Namespace, records: int) -> float:
    """Envelopes a second through `unseal`."""
    key = PrivateKey.generate()
    where = topic(FLEET, DEVICE, Channel.TELEMETRY)
    (verified,) = _batch(records, key, 1)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < 1:
        unseal(Telemetry, verified.raw, where, key.public)
        count += 1
    return count / (time.perf_counter() - began)


def storing(place: Path, options: argparse.Namespace, records: int) -> float:
    """Envelopes a second through `store_batch`, opened beforehand."""
    key = PrivateKey.generate()
    messages = _batch(records, key, BATCH * BATCHES)
    store = open_store(options.database or f"sqlite:///{place / 'floor.db'}")
    with store.write() as connection:
        connection.execute(
            insert(schema.devices).values(
                id=DEVICE,
                public_key=key.public.raw,
                profile=[],
                labels={},
                credential="",
                enrolled_ms=1,
                epoch=EPOCH,
            )
        )
        connection.execute(
            insert(schema.streams).values(
                device=DEVICE, epoch=EPOCH, high=-1, chain=CHAIN_START, started_ms=1
            )
        )
    began = time.perf_counter()
    for start in range(0, len(messages), BATCH):
        with store.write() as connection:
            store_batch(connection, messages[start : start + BATCH])
    took_s = time.perf_counter() - began
    store.close()
    return len(messages) / took_s


def inserting(place: Path, options: argparse.Namespace, records: int) -> float:
    """Envelopes a second when only a batch's bytes and as many plain rows are inserted."""
    raw = _batch(records, PrivateKey.generate(), 1)[0].raw
    store = open_store(options.database or f"sqlite:///{place / 'floor.db'}")
    plain = schema.meta
    began = time.perf_counter()
    for batch in range(BATCHES):
        rows = [
            {"key": f"{batch}-{envelope}-{record}", "value": raw.hex() if record == 0 else "x" * 300}
            for envelope in range(BATCH)
            for record in range(records)
        ]
        with store.write() as connection:
            connection.execute(insert(plain), rows)
    took_s = time.perf_counter() - began
    store.close()
    return BATCH * BATCHES / took_s


def _batch(records: int, key: PrivateKey, count: int) -> Sequence[Verified]:
    """A run of opened envelopes of one device."""
    made, prev = [], CHAIN_START
    where = topic(FLEET, DEVICE, Channel.TELEMETRY)
    for seq in range(count):
        message = Telemetry(epoch=EPOCH, seq=seq, prev=prev, recs=(RECORD,) * records)
        raw = seal(message, where, key)
        prev = chain_value(raw)
        made.append(Verified(DEVICE, Channel.TELEMETRY, message, raw, 1))
    return made


if __name__ == "__main__":
    main()
