"""Envelopes per second from the broker to committed and acknowledged rows, beside the signatures alone.

    python benchmarks/ingest_rate.py [--rounds 3] [--devices 8,40] [--records 1,10,100]

The server's process runs on one core: its network thread, ingest and database driver. The broker (its
child), the database server and the devices run on the others. Devices are real MQTT connections that replay
envelopes which were sealed beforehand, at most 64 on their way each, and go on when a signed
acknowledgement comes back, as the agent does; they do not write an outbox, so that the server is what is
measured. The floor is the same core doing nothing but Ed25519 verification of the same envelopes. Rounds of
all rows are interleaved; the table has medians.

"acknowledged" is from the first envelope to the last acknowledgement: sums and the telling again of records
give way to it for half a minute. Its "us" are processor time of the server for each envelope until then: what
it waits for the disk or for PostgreSQL is not in them. "in the end" counts everything: processor time from
the first envelope until all is summed up and told again, as the rate that one core can keep up for ever.

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
from sqlalchemy import func, insert, select

from edge_contracts import cose
from edge_contracts.envelope import chain_value, seal, unseal
from edge_contracts.keys import PrivateKey
from edge_contracts.messages import CHAIN_START, Ack, Telemetry, Window
from edge_contracts.plain_cbor import has_tag
from edge_contracts.sketch import QuantileSketch
from edge_contracts.topics import Channel, topic
from edge_fleet import schema
from edge_fleet.brokers.child import free_loopback_port
from edge_fleet.home import Home, find_running
from edge_fleet.intake import store_batch
from edge_fleet.republish import Republisher, position
from edge_fleet.storage.rollups import roll_up, rolled_up_to
from edge_fleet.store import open_store, opened
from edge_fleet.telemetry import last_id
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
        found: dict[tuple[str, int, int], list[tuple[float, float, float]]] = {row: [] for row in rows}
        for _ in range(options.rounds):
            for records in sizes:
                floors[records].append(signatures(records))
            for row in rows:
                found[row].append(_one(options, postgres, *row))
    print(
        "one core                                     acknowledged           of the            in the end\n"
        "                                           envelopes/s  records/s  floor     us   records/s     us"
    )
    for records in sizes:
        floor = statistics.median(floors[records])
        print(f"{records:4} records: Ed25519 alone{floor:27,.0f}{floor * records:11,.0f}{1e6 / floor:14,.0f}")
        for kind, devices, _ in (row for row in rows if row[2] == records):
            rate, soon_s, cpu_s = (
                statistics.median(column) for column in zip(*found[kind, devices, records], strict=True)
            )
            name = f"     {devices} devices -> {kind} -> ack"
            print(
                f"{name:40}{rate:14,.0f}{rate * records:11,.0f}{rate / floor:7.0%}{soon_s * 1e6:7,.0f}"
                f"{records / cpu_s:12,.0f}{cpu_s * 1e6:7,.0f}"
            )
    print("\nparts alone, one thread, us/envelope     " + "".join(f"{n:8} records" for n in sizes))
    stages = {records: parts(records) for records in sizes}
    for name in stages[sizes[0]]:
        print(f"{name:40}" + "".join(f"{stages[records][name]:16,.1f}" for records in sizes))


def _one(
    options: argparse.Namespace, postgres: Postgres | None, kind: str, devices: int, records: int
) -> tuple[float, float, float]:
    with tempfile.TemporaryDirectory() as place:
        database = postgres.fresh() if postgres and kind == "PostgreSQL" else ""
        return whole(Path(place), options.broker, database, devices, records)


def whole(place: Path, broker: str, database: str, devices: int, records: int) -> tuple[float, float, float]:
    """Envelopes a second until the last is acknowledged, seconds of processor for each, and in the end."""
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
                # without an account that may hear it nothing would be told again
                http.post("/api/v1/tokens", json={"role": "subscriber"}).raise_for_status()
                count = max(1, round(SECONDS * 16_000 / (records + 3) / devices))
                fleet = [Device(http, FLEET, n, [RECORD] * records, count) for n in range(devices)]
                with _cores(server.pid):
                    before = _cpu_s(server.pid)
                    took_s = drive(fleet)
                    soon_s = _cpu_s(server.pid) - before
                    wait_for_the_rest(database or f"sqlite:///{home.root / 'fleet.db'}")
                    cpu_s = _cpu_s(server.pid) - before
                stored = http.get("/api/v1/metrics").json()["since_start"]["envelopes_stored"]
        finally:
            server.terminate()
            server.communicate()
    total = devices * count
    if stored != total:
        raise SystemExit(f"{stored} of {total} envelopes were stored")
    return total / took_s, soon_s / total, cpu_s / total


def wait_for_the_rest(url: str, told_too: bool = True) -> None:
    """Until everything that is stored is summed up and told again."""
    with opened(url) as engine:
        while True:
            with engine.connect() as connection:
                newest = connection.execute(select(func.max(schema.windows.c.id))).scalar() or 0
                told = position(connection) or 0
                if rolled_up_to(connection) >= newest and (not told_too or told >= last_id(connection)):
                    return
            time.sleep(0.2)


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
    public = key.public  # made once, as ingest does for all of a device's envelopes in a batch
    where = topic(FLEET, DEVICE, Channel.TELEMETRY)
    (verified,) = _batch(records, key, 1)
    envelope = cose.parse(verified.raw)
    signed = cose.to_be_signed(envelope.protected, where, envelope.payload)
    return _rate(lambda: public.verify(envelope.signature, signed))


def parts(records: int) -> dict[str, float]:
    """Microseconds of an envelope's stages, each by itself; the broker link's are paho's own."""
    key = PrivateKey.generate()
    public = key.public
    where = topic(FLEET, DEVICE, Channel.TELEMETRY)
    (verified,) = _batch(records, key, 1)
    envelope = cose.parse(verified.raw)
    signed = cose.to_be_signed(envelope.protected, where, envelope.payload)
    raw = cose.decode(envelope.payload, "telemetry")
    ack = Ack(device=DEVICE, epoch=EPOCH, high=0, chain=CHAIN_START)
    found = {
        "Ed25519 verification": _us(lambda: public.verify(envelope.signature, signed)),
        "the envelope around it": _us(
            lambda: (cose.parse(verified.raw), public.key_id, _signed(envelope, where))
        ),
        "CBOR of the records": _us(lambda: cose.decode(envelope.payload, "telemetry")),
        "of it, looking for tags": _us(lambda: has_tag(envelope.payload)),
        "checks of every field": _us(lambda: Telemetry.model_validate(raw)),
    }
    found["opening, whole"] = _us(lambda: unseal(Telemetry, verified.raw, where, public))
    found["one acknowledgement"] = _us(lambda: seal(ack, where, key))
    return found | stored_parts(records, key)


def _signed(envelope: cose.Envelope, where: str) -> bytes:
    return cose.to_be_signed(envelope.protected, where, envelope.payload)


def _us(work: Callable[[], object]) -> float:
    return 1e6 / _rate(work)


def _rate(work: Callable[[], object]) -> float:
    began, count = time.process_time(), 0
    while (took_s := time.process_time() - began) < 1:
        work()
        count += 1
    return count / took_s


def stored_parts(records: int, key: PrivateKey) -> dict[str, float]:
    """Storing (opened beforehand), summing up and telling again, microseconds an envelope; SQLite."""
    messages = _batch(records, key, BATCH * BATCHES)
    found = {}
    with tempfile.TemporaryDirectory() as place:
        store = open_store(f"sqlite:///{place}/storing.db")
        device = dict(id=DEVICE, profile=[], labels={}, credential="", enrolled_ms=1, epoch=EPOCH)
        stream = dict(device=DEVICE, epoch=EPOCH, high=-1, chain=CHAIN_START, started_ms=1)
        with store.write() as connection:
            connection.execute(insert(schema.devices).values(public_key=key.public.raw, **device))
            connection.execute(insert(schema.streams).values(**stream))
        telling = Republisher(store, FLEET, lambda _topic, _payload: True)
        telling.begin()

        def timed(work: Callable[[], None]) -> float:
            began = time.process_time()
            work()
            return (time.process_time() - began) / len(messages) * 1e6

        def store_all() -> None:
            for start in range(0, len(messages), BATCH):
                with store.write() as connection:
                    store_batch(connection, messages[start : start + BATCH])

        def sum_all() -> None:
            more = 1
            while more:
                with store.write() as connection:
                    more = roll_up(connection)

        def tell_all() -> None:
            while telling.step():
                pass

        found["judging and storing (SQLite)"] = timed(store_all)
        found["summing up, later"] = timed(sum_all)
        found["telling again, later, without MQTT"] = timed(tell_all)
        store.close()
    return found


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
