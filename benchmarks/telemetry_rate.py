"""Telemetry records a second from the agent to acknowledged, beside paho-mqtt alone without signing.

    python benchmarks/telemetry_rate.py [--records 20000] [--rounds 3] [--broker nats]

Ours: each record is put into the outbox on the disk, numbered, chained and signed, sent, verified and
committed by a real server, and forgotten after its signed ack. The puts are part of the time.

paho alone: the same records as CBOR, one message each, QoS 1, from memory to a subscriber in another process
that counts them, over a broker of the same kind: no signature, no disk, no answer but the broker's.

Sender, broker and server share this machine's cores. Medians of interleaved rounds. The time of processors
is that of sender, broker and server (or counter) together, and depends less on what else the machine does:
until the last ack, and in the end, when all is summed up too, which gives way to what is to be acknowledged.
In the last row an account may read the records as plain JSON, which are then published one by one.
The second table is what the disk gives: puts a second in each mode of durability.
"""

from __future__ import annotations

import argparse
import queue
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from statistics import median

import httpx
import psutil
from ingest_rate import RECORD, SERVE, wait_for_the_rest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from agent_fleet import Broker  # noqa: E402
from kill_device import Snapshots, take  # noqa: E402

from edge_agent.device.config import read_device_key  # noqa: E402
from edge_agent.device.enrol import enrol  # noqa: E402
from edge_agent.device.home import Home as DeviceHome  # noqa: E402
from edge_agent.telemetry.identity import Identity  # noqa: E402
from edge_agent.telemetry.mqtt import Happening, Link  # noqa: E402
from edge_agent.telemetry.outbox import Limits, Outbox  # noqa: E402
from edge_agent.telemetry.outbox_file import Durability  # noqa: E402
from edge_agent.telemetry.reporter import Reporter  # noqa: E402
from edge_contracts.envelope import encode_record  # noqa: E402
from edge_contracts.keys import PrivateKey  # noqa: E402
from edge_fleet.brokers.child import free_loopback_port  # noqa: E402
from edge_fleet.home import Home, find_running  # noqa: E402

Measured = tuple[float, float, float]  # records a second, microseconds of processors for each, in the end
COUNTER = """
import sys
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
port, wanted = int(sys.argv[1]), int(sys.argv[2])
left = wanted
client = Client(CallbackAPIVersion.VERSION2)
client.username_pw_set("server", "server")
def message(client, data, message):
    global left
    left -= 1
    if left == 0:
        print("all", flush=True)
        client.disconnect()
client.on_message = message
client.on_subscribe = lambda *_: print("ready", flush=True)
client.on_connect = lambda client, *_: client.subscribe("records", 1)
client.connect("127.0.0.1", port)
client.loop_forever()
"""


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--broker", default="nats")
    options = parser.parse_args()
    ways: dict[str, Callable[[Path], Measured]] = {
        "paho alone, not signed, not kept": lambda place: paho(place, options.records)
    }
    for durability in Durability:
        for together in (100, 10, 1):
            # a put of one record each is bound by the disk alone: fewer tell as much
            count = options.records if together > 1 or durability is Durability.PROCESS else 2000
            ways[f"ours, {durability}, {together} in a put"] = (
                lambda place, d=durability, n=together, c=count: ours(place, options.broker, d, n, c)  # type: ignore[misc]
            )
    ways["the same, told to a subscriber"] = lambda place: ours(
        place, options.broker, Durability.PROCESS, 100, options.records, subscribed=True
    )
    rates: dict[str, list[Measured]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            with tempfile.TemporaryDirectory() as place:
                rates[name].append(way(Path(place)))
    floor = median(rate for rate, _, _ in next(iter(rates.values())))
    print(f"{f'records of {len(encode_record(RECORD))} bytes':36}{'records/s':>11}", end="")
    print(f"{'lowest':>9}{'highest':>9}{'ratio':>7}{'CPU us/record':>15}{'in the end':>12}")
    for name, found in rates.items():
        only = [rate for rate, _, _ in found]
        middle, cpu_us, whole_us = (
            median(only),
            median(cpu for _, cpu, _ in found),
            median(w for *_, w in found),
        )
        print(f"{name:36}{middle:11,.0f}{min(only):9,.0f}{max(only):9,.0f}", end="")
        print(f"{middle / floor:7.2f}{cpu_us:15.0f}{whole_us:12.0f}")
    print(f"\n{'puts alone':36}{'puts/s':>11}{'records/s':>11}")
    for durability in Durability:
        for together in (1, 10, 100):
            with tempfile.TemporaryDirectory() as place:
                rate = puts(Path(place), durability, together)
            print(
                f"{durability + ', ' + str(together) + ' in a put':36}{rate:11,.0f}{rate * together:11,.0f}"
            )


def cpu_s() -> float:
    """Processor time of this process and of those that it has started and that still run."""
    here = psutil.Process()
    total = 0.0
    for process in (here, *here.children(recursive=True)):
        times = process.cpu_times()
        total += times.user + times.system
    return total


def paho(place: Path, count: int) -> Measured:
    """Until the last one is counted and the last PUBACK is here."""
    broker = Broker(place / "broker")
    broker.start()
    payload = encode_record(RECORD)
    acknowledged = queue.Queue[int]()
    client = Client(CallbackAPIVersion.VERSION2)
    client.username_pw_set("server", "server")
    client.max_inflight_messages_set(200)
    client.on_publish = lambda _c, _d, mid, *_: acknowledged.put(mid)
    command = [sys.executable, "-c", COUNTER, str(broker.port), str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as counter:
        assert counter.stdout is not None
        counter.stdout.readline()
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        used_s, began = cpu_s(), time.perf_counter()
        for _ in range(count):
            client.publish("records", payload, qos=1)
        for _ in range(count):
            acknowledged.get(timeout=60)
        used_s = cpu_s() - used_s  # without the counter's, once it has ended
        if counter.stdout.readline() != "all\n":
            raise SystemExit("paho's messages did not all arrive")
        took_s = time.perf_counter() - began
    client.disconnect()
    client.loop_stop()
    broker.kill()
    return count / took_s, used_s / count * 1e6, used_s / count * 1e6


def ours(
    place: Path, broker: str, durability: Durability, together: int, count: int, subscribed: bool = False
) -> Measured:
    """From the first put to the last ack.

    Args:
        subscribed: Whether an account may read what is verified.
    """
    home = Home(place / "server")
    mqtt = f"127.0.0.1:{free_loopback_port()}"
    command = [*SERVE, "--home", str(home.root), "--http", "127.0.0.1:0", "--mqtt", mqtt, "--broker", broker]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            while (url := find_running(home)) is None:
                if server.poll() is not None:
                    raise SystemExit("the server ended")
                time.sleep(0.05)
            authorization = {"Authorization": f"Bearer {home.admin_token.read_text().strip()}"}
            with httpx.Client(base_url=url, headers=authorization, trust_env=False) as http:
                token = http.post("/api/v1/tokens", json={}).json()["token"]
                if subscribed:
                    http.post("/api/v1/tokens", json={"role": "subscriber"}).raise_for_status()
                rate, used_s = send(DeviceHome(place / "device"), url, token, durability, together, count)
                rest_s = cpu_s()
                wait_for_the_rest(f"sqlite:///{home.root / 'fleet.db'}", subscribed)
                rest_s = cpu_s() - rest_s
                stored = http.get("/api/v1/metrics").json()["since_start"]["records_stored"]
        finally:
            server.terminate()
            server.wait()
    if stored != count:
        raise SystemExit(f"{stored} of {count} records were stored")
    return rate, used_s / count * 1e6, (used_s + rest_s) / count * 1e6


def send(
    home: DeviceHome, url: str, token: str, durability: Durability, together: int, count: int
) -> tuple[float, float]:
    """Put and send as the agent does, as fast as it goes; records a second, and seconds of processors."""
    config = enrol(home, url, token, "x86-cpu")
    happenings: queue.Queue[Happening] = queue.Queue()
    link = Link(config, happenings.put, Random(1))
    key, limits = read_device_key(home, config), Limits(1 << 20, 1 << 30)
    reporter = Reporter(home, config, key, link, Snapshots(config), Random(1), 60.0, limits, durability)
    link.start()
    take(reporter, happenings.get(timeout=30))
    used_s, began, left = cpu_s(), time.perf_counter(), count
    while left or len(reporter.outbox):
        for _ in range(max(1, 100 // together)):
            if left:
                reporter.keep([RECORD] * together)
                left -= together
        try:
            take(reporter, happenings.get(timeout=0 if left else 0.01))
        except queue.Empty:
            reporter.tick(time.monotonic())
    took_s, used_s = time.perf_counter() - began, cpu_s() - used_s
    link.stop()
    reporter.close()
    return count / took_s, used_s


def puts(place: Path, durability: Durability, together: int) -> float:
    """Puts a second into an outbox that nobody empties."""
    key = PrivateKey.generate()
    outbox = Outbox(
        place / "outbox.db", Identity("f", "d", key, key.public), Limits(1 << 20, 1 << 30), durability
    )
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < 2 and done < 5000:
        outbox.put([RECORD] * together)
        done += 1
    rate = done / (time.perf_counter() - began)
    outbox.close()
    return rate


if __name__ == "__main__":
    main()
