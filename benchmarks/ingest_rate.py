"""Envelopes per second from the broker to committed and acknowledged rows, beside the signatures alone.

    python benchmarks/ingest_rate.py [--rounds 3] [--devices 8,40] [--records 1,10,100]

The server's process runs on one core: its network thread, ingest and database driver. The broker (its
child), the database server and the devices run on the others. Devices are real MQTT connections that replay
envelopes which were sealed beforehand, at most 64 on their way each, and go on when a signed
acknowledgement comes back, as the agent does; they do not write an outbox, so that the server is what is
measured. The floor is the same core doing nothing but Ed25519 verification of the same envelopes. Rounds of
all rows are interleaved; the table has medians.

A PostgreSQL server is started where one is installed, with fsync. The second table is parts of the path by
themselves.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
from ingest_devices import Device, drive

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))
from postgres_server import Postgres, postgres_server
from sqlalchemy import insert

from edge_contracts import cose
from edge_contracts.keys import PrivateKey
from edge_contracts.messages import CHAIN_START, Telemetry, Window, chain_value, seal, unseal
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
EPOCH, DEVICE, FLEET = "0" * 16, "d", "main"
SECONDS = 4.0  # of each run, roughly


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--devices", default="8,40")
    parser.add_argument("--records", default="1,10,100")
    parser.add_argument("--broker", default="nats")
    options = parser.parse_args()
    with postgres_server(fsync="on") as postgres:
        sizes = [int(n) for n in options.records.split(",")]
        counts = [int(n) for n in options.devices.split(",")]
        kinds = ["SQLite", *(["PostgreSQL"] if postgres else [])]
        if not postgres:
            print("PostgreSQL is not installed: SQLite only")
        rows = [(kind, devices, records) for records in sizes for devices in counts for kind in kinds]
        floors: dict[int, list[float]] = {records: [] for records in sizes}
        found: dict[tuple[str, int, int], list[tuple[float, float]]] = {row: [] for row in rows}
        for _ in range(options.rounds):
            for records in sizes:
                floors[records].append(signatures(records))
            for row in rows:
                found[row].append(_one(options, postgres, *row))
    print(
        "one core                                       envelopes/s  records/s  of the floor  CPU us/envelope"
    )
    for records in sizes:
        floor = statistics.median(floors[records])
        print(f"{records:4} records: Ed25519 verification alone{floor:16,.0f}{floor * records:11,.0f}")
        for kind, devices, _ in (row for row in rows if row[2] == records):
            rate = statistics.median(rate for rate, _ in found[kind, devices, records])
            cpu = statistics.median(cpu for _, cpu in found[kind, devices, records])
            name = f"     {devices} devices -> {kind} -> ack"
            print(f"{name:43}{rate:16,.0f}{rate * records:11,.0f}{rate / floor:13.0%}{cpu * 1e6:17,.0f}")
    print("\nparts alone, one thread, us/envelope    " + "".join(f"{n:8} records" for n in sizes))
    for name, part in (
        ("opening: signature, CBOR, checks", opening),
        ("judging and storing (SQLite)", storing),
    ):
        print(f"{name:40}" + "".join(f"{1e6 / part(records):16,.0f}" for records in sizes))


def _one(
    options: argparse.Namespace, postgres: Postgres | None, kind: str, devices: int, records: int
) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as place:
        database = postgres.fresh() if postgres and kind == "PostgreSQL" else ""
        return whole(Path(place), options.broker, database, devices, records)


def whole(place: Path, broker: str, database: str, devices: int, records: int) -> tuple[float, float]:
    """Envelopes a second from the first to the last acknowledgement, and seconds of processor for each."""
    home = Home(place / "server")
    mqtt = f"127.0.0.1:{free_loopback_port()}"
    command = [*SERVE, "--home", str(home.root), "--http", "127.0.0.1:0", "--mqtt", mqtt]
    command += ["--broker", broker, "--database", database]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        try:
            while (url := find_running(home)) is None:
                if server.poll() is not None:
                    raise SystemExit(server.stderr.read() if server.stderr else "the server ended")
                time.sleep(0.05)
            authorization = {"Authorization": f"Bearer {home.admin_token.read_text().strip()}"}
            with httpx.Client(base_url=url, headers=authorization, trust_env=False, timeout=60) as http:
                count = max(1, round(SECONDS * 16_000 / (records + 3) / devices))
                fleet = [Device(http, FLEET, n, [RECORD] * records, count) for n in range(devices)]
                with _cores(server.pid):
                    before = _cpu_s(server.pid)
                    took_s = drive(fleet)
                    cpu_s = _cpu_s(server.pid) - before
                stored = http.get("/api/v1/metrics").json()["since_start"]["envelopes_stored"]
        finally:
            server.terminate()
            server.communicate()
    total = devices * count
    if stored != total:
        raise SystemExit(f"{stored} of {total} envelopes were stored")
    return total / took_s, cpu_s / total


@contextmanager
def _cores(server: int) -> Iterator[None]:
    """The server's own threads on one core, everything else on the others."""
    every = os.sched_getaffinity(0)
    if len(every) < 2:
        raise SystemExit("one core is the server's: this needs two")
    own, others = {min(every)}, every - {min(every)}
    for thread in Path(f"/proc/{server}/task").iterdir():
        os.sched_setaffinity(int(thread.name), own)
    children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
    for process in (*map(int, children), os.getpid()):
        for thread in Path(f"/proc/{process}/task").iterdir():
            os.sched_setaffinity(int(thread.name), others)
    try:
        yield
    finally:
        os.sched_setaffinity(0, every)


def _cpu_s(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def signatures(records: int) -> float:
    """Verifications a second of one envelope's signature: the floor."""
    key = PrivateKey.generate()
    where = topic(FLEET, DEVICE, Channel.TELEMETRY)
    (verified,) = _batch(records, key, 1)
    envelope = cose.parse(verified.raw)
    signed = cose.to_be_signed(envelope.protected, where, envelope.payload)
    return _rate(lambda: key.public.verify(envelope.signature, signed))


def opening(records: int) -> float:
    """Envelopes a second through `unseal`."""
    key = PrivateKey.generate()
    where = topic(FLEET, DEVICE, Channel.TELEMETRY)
    (verified,) = _batch(records, key, 1)
    return _rate(lambda: unseal(Telemetry, verified.raw, where, key.public))


def _rate(work: Callable[[], object]) -> float:
    began, count = time.process_time(), 0
    while (took_s := time.process_time() - began) < 1:
        work()
        count += 1
    return count / took_s


def storing(records: int) -> float:
    """Envelopes a second through `store_batch`, opened beforehand; SQLite."""
    key = PrivateKey.generate()
    messages = _batch(records, key, BATCH * BATCHES)
    with tempfile.TemporaryDirectory() as place:
        store = open_store(f"sqlite:///{place}/storing.db")
        device = dict(id=DEVICE, profile=[], labels={}, credential="", enrolled_ms=1, epoch=EPOCH)
        stream = dict(device=DEVICE, epoch=EPOCH, high=-1, chain=CHAIN_START, started_ms=1)
        with store.write() as connection:
            connection.execute(insert(schema.devices).values(public_key=key.public.raw, **device))
            connection.execute(insert(schema.streams).values(**stream))
        began = time.process_time()
        for start in range(0, len(messages), BATCH):
            with store.write() as connection:
                store_batch(connection, messages[start : start + BATCH])
        took_s = time.process_time() - began
        store.close()
    return len(messages) / took_s


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
