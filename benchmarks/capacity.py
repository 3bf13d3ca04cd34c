"""How many devices one machine serves: connections that are held, and what a heartbeat a minute costs.

    python benchmarks/capacity.py [--connections 20000] [--replayed 80000] [--minutes 3] [--broker mosquitto]

A server of its own process with SQLite and its managed broker. `--connections` simulated devices hold a real
MQTT connection each, with a key and an account of their own; each sends a signed window once a minute and a
hello every --hello seconds, and is answered with signed acknowledgements. Then `--replayed` further devices
send as much through one more connection, which the benchmark lets into the broker: their envelopes are sealed
beforehand, and everything from the broker on is as for the others. Meanwhile an operator opens pages of the
console and the API.

Beside it the floor: the same clients on the same broker with nobody behind it. Devices are made as rows
before the server starts, for enrolling them one by one is not what is measured here; how long one enrolment
takes beside all of them is. The clients share the machine with the server: what they take is in the table.
"""

from __future__ import annotations

import argparse
import base64
import multiprocessing
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from capacity_fleet import EVERY_S, FLEET, PROFILE, provision, replay, seed_of

from edge_contracts.enrolment import EnrolAnswer
from edge_fleet.accounts import Accounts
from edge_fleet.brokers.account_files import password_line
from edge_fleet.brokers.base import Account
from edge_fleet.brokers.child import free_loopback_port
from edge_fleet.brokers.choose import choose_broker
from edge_fleet.client import Client
from edge_fleet.config import ServerConfig
from edge_fleet.errors import FleetError
from edge_fleet.home import Home, find_running
from edge_fleet.keys import read_keys
from edge_fleet.serve import initialise, now_ms
from edge_fleet.simulation.connection import Pace
from edge_fleet.simulation.counts import Counts, total
from edge_fleet.simulation.enrolling import enrol_missing
from edge_fleet.simulation.memory import Identity, Kept, StateFolder
from edge_fleet.simulation.workers import Workers, places
from edge_fleet.store import open_store

SERVE = [sys.executable, "-c", "from edge_fleet.cli import main; main()", "serve"]
CONNECTS_PER_S = 500.0
REPLAYER = "replay.all"  # with a dot: no device can have that name
PAGES = ("/console", "/console/fleet", "/console/fleet?q=1234", "/console/devices/{device}",
         "/console/rollouts", "/console/models", "/api/v1/devices/{device}", "/api/v1/alerts",
         "/api/v1/health")  # fmt: skip
PAGE_PAUSE_S = 0.5


@dataclass
class Sampled:
    """What one stretch of time took.

    Args:
        cpu: Share of one core by program.
        rss: Bytes at the end by program.
        lag_ms: p50 and p99 of real connections, from the making of an envelope to its acknowledgement.
    """

    seconds: float
    connected: int
    cpu: dict[str, float]
    rss: dict[str, int]
    stored_per_s: float = 0.0
    acknowledged_per_s: float = 0.0
    lag_ms: tuple[float | None, float | None] = (None, None)
    pages: dict[str, list[float]] = field(default_factory=dict)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--connections", type=int, default=20_000)
    parser.add_argument("--replayed", type=int, default=80_000)
    parser.add_argument("--minutes", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--hello", type=float, default=600.0, help="seconds between two hellos of a device")
    parser.add_argument("--broker", choices=("mosquitto", "nats"), default="mosquitto")
    parser.add_argument("--no-floor", action="store_true", help="leave the broker alone out")
    parser.add_argument("--processes", type=int, default=0, help="for the clients")
    options = parser.parse_args()
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    with tempfile.TemporaryDirectory() as place:
        Capacity(Path(place), options).measure()


class Capacity:
    """One run.

    Args:
        place: An empty folder.
    """

    def __init__(self, place: Path, options: argparse.Namespace) -> None:
        """Make the home and all devices."""
        self.options, self.place = options, place
        self.home, self.port = Home(place / "server"), free_loopback_port()
        self.config = ServerConfig(
            fleet=FLEET, mqtt=f"127.0.0.1:{self.port}", http="127.0.0.1:0", broker=options.broker
        )
        initialise(self.home, self.config)
        self.keys = read_keys(self.home.keys)
        self.pace = Pace(EVERY_S, options.hello, 100, CONNECTS_PER_S)
        begun = time.monotonic()
        self.held = [f"sim-honest-{n:06}" for n in range(options.connections)]
        self.replayed = [f"replayed-{n:06}" for n in range(options.replayed)]
        provision(self.home.database_url(self.config), [*self.held, *self.replayed])
        self.provisioned_s = time.monotonic() - begun

    def measure(self) -> None:
        """The floor, the connections, the connections with the replayed; then print."""
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        print(
            f"{len(self.held)} connections, {len(self.replayed)} replayed; a process may open {files} files"
        )
        print(f"made as rows in {self.provisioned_s:.0f} s\n")
        floor = None
        if not self.options.no_floor:
            floor, floor_connect_s = self._floor()
            self._tell("floor: the broker alone", floor, floor_connect_s)
        with self._serving() as (server, http):
            client = Client(str(http.base_url), http.headers["Authorization"].removeprefix("Bearer "))
            took = self._enrolments(client)
            kept = [Kept(self._identity(name)) for name in self.held]
            workers = Workers(kept, self._places(), self.pace)
            try:
                idle = rss_of(server, workers)
                connect_s = connected(workers, len(self.held))
                time.sleep(EVERY_S)  # the first turns, and what connecting has left to do
                held = self._sample(server, workers, http, self.held[len(self.held) // 2])
                self._tell("the server behind it", held, connect_s, idle, floor)
                print(
                    f"  one enrolment over HTTP beside {len(self.held) + len(self.replayed)} devices: {took}"
                )
                self._pages(held)
                if self.replayed:
                    self._replay(server, workers, http, held)
            finally:
                workers.end()
            client.close()

    def _replay(self, server: int, workers: Workers, http: httpx.Client, before: Sampled) -> None:
        minutes = self.options.minutes + 1
        self._let_in(server)
        context = multiprocessing.get_context("spawn")
        ready, go, said = context.Event(), context.Event(), context.Event()
        account = (self.port, REPLAYER, self.keys.password(REPLAYER, "x"))
        process = context.Process(target=replay, args=(account, self.replayed, minutes, ready, go, said))
        process.start()
        try:
            ready.wait()
            go.set()
            said.wait()  # every hello
            both = self._sample(server, workers, http, self.replayed[len(self.replayed) // 2], process.pid)
            self._tell(f"with {len(self.replayed)} more by replay", both, None, None, before)
            self._pages(both)
            process.join()
            time.sleep(5)
            told = http.get("/api/v1/metrics").json()
            waiting = told["since_start"]["messages_waiting"]
            print(f"  refused in all: {told['refused'] or 'nothing'}; waiting: {waiting}")
        finally:
            process.terminate()
            process.join()

    def _floor(self) -> tuple[Sampled, float]:
        store = open_store(self.home.database_url(self.config))
        broker = choose_broker(self.config, self.place / "floor", lambda: None)
        broker.start(Accounts(store, self.keys, FLEET, broker, now_ms).listed())
        store.close()
        # nobody answers: what is not acknowledged is not sent again, so that as much is sent as with a server
        pace = Pace(EVERY_S, self.options.hello, 100, CONNECTS_PER_S, resend_s=float("inf"))
        workers = Workers([Kept(self._identity(name)) for name in self.held], self._places(), pace)
        try:
            idle = rss_of(broker.pid or 0, workers)
            connect_s = connected(workers, len(self.held))
            time.sleep(EVERY_S)
            found = self._sample(broker.pid or 0, workers, None, "")
        finally:
            workers.end()
            broker.stop()
        found.rss["idle broker"] = idle.get("broker", 0)
        return found, connect_s

    def _sample(
        self, pid: int, workers: Workers, http: httpx.Client | None, device: str, *others: int | None
    ) -> Sampled:
        """Watch for some minutes."""
        programs = programs_of(pid, workers, [one for one in others if one])
        counted, before = total(workers.counted()), cpu_of(programs)
        stored = http.get("/api/v1/metrics").json()["since_start"]["envelopes_stored"] if http else 0
        begun = time.monotonic()
        found = Sampled(0.0, 0, {}, {})
        while time.monotonic() - begun < 60 * self.options.minutes:
            if http is not None:
                for path in PAGES:
                    path = path.format(device=device)
                    asked = time.perf_counter()
                    answer = http.get(path)
                    if answer.status_code == 200:
                        found.pages.setdefault(path, []).append(1000 * (time.perf_counter() - asked))
                    time.sleep(PAGE_PAUSE_S)
            else:
                time.sleep(1)
        found.seconds = time.monotonic() - begun
        after, now = total(workers.counted()), cpu_of(programs)
        found.connected = after.connected
        found.cpu = {name: (now[name] - before[name]) / found.seconds for name in programs}
        found.rss = rss_of(pid, workers)
        found.acknowledged_per_s = (after.acknowledged - counted.acknowledged) / found.seconds
        new = Counts(lags=after.lags - counted.lags)
        found.lag_ms = new.lag_ms(0.5), new.lag_ms(0.99)
        if http is not None:
            told = http.get("/api/v1/metrics").json()["since_start"]["envelopes_stored"]
            found.stored_per_s = (told - stored) / found.seconds
        return found

    def _tell(
        self,
        what: str,
        found: Sampled,
        connect_s: float | None,
        idle: dict[str, int] | None = None,
        beside: Sampled | None = None,
    ) -> None:
        print(f"{what}: {found.connected} connections held over {found.seconds:.0f} s")
        if connect_s is not None:
            print(f"  connected in {connect_s:.0f} s, {found.connected / connect_s:,.0f}/s")
        for name in found.cpu:
            memory = found.rss.get(name, 0)
            start = (idle or {}).get(name) or (found.rss.get("idle broker", 0) if name == "broker" else 0)
            each = (
                f", {(memory - start) / max(1, found.connected) / 1024:6.1f} kB a connection" if start else ""
            )
            also = f"  (beside: {beside.cpu[name]:5.1%})" if beside and name in beside.cpu else ""
            print(f"  {name:8} {found.cpu[name]:6.1%} of a core, {memory / 2**20:6.0f} MB{each}{also}")
        if found.stored_per_s:
            p50, p99 = (f"{lag:.0f}" if lag is not None else "-" for lag in found.lag_ms)
            print(
                f"  {found.stored_per_s:,.0f} envelopes/s stored; of real connections "
                f"{found.acknowledged_per_s:,.0f}/s acknowledged, p50 {p50} ms, p99 {p99} ms later"
            )
        print(flush=True)

    def _pages(self, found: Sampled) -> None:
        print("  page                                     p50 ms   p99 ms")
        for path, times in found.pages.items():
            ordered = sorted(times)
            last = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
            print(f"  {path:40}{statistics.median(times):7.0f}{last:9.0f}")
        print(flush=True)

    def _identity(self, name: str) -> Identity:
        return Identity(
            kind="honest",
            seed=base64.b64encode(seed_of(name)).decode(),
            profile=PROFILE,
            enrolled=EnrolAnswer(
                device=name,
                fleet=FLEET,
                mqtt_host="",
                mqtt_port=self.port,
                mqtt_tls=False,
                mqtt_ca="",
                mqtt_user=name,
                mqtt_password=self.keys.password(name, "salt"),
                director_key=self.keys.director.public.base64,
                publisher_keys=(),
            ),
        )

    def _places(self) -> list[Any]:
        told = self._identity("sim").enrolled
        return list(places(told, "127.0.0.1", len(self.held), self.options.processes))

    def _enrolments(self, client: Client) -> str:
        """A few real ones, of which each changes the broker's accounts."""
        folder, times = StateFolder(self.place / "enrolled"), []
        for count in range(1, 6):
            begun = time.monotonic()
            try:
                enrol_missing(client, folder, {"honest": count}, ["x86-cpu"], lambda done, all_of: None)
            except FleetError as error:
                return str(error)
            times.append(time.monotonic() - begun)
        return f"{statistics.median(times):.2f} s"

    def _let_in(self, server: int) -> None:
        """The one connection for all replayed devices: an account that no server would give anybody."""
        folder, everything = self.home.broker, f"edge/v1/{FLEET}/#"
        account = Account(REPLAYER, self.keys.password(REPLAYER, "x"), (everything,), ())
        if self.options.broker != "mosquitto":
            raise SystemExit("--replayed needs --broker mosquitto")
        with (folder / "acl").open("a") as rights, (folder / "passwords").open("a") as passwords:
            rights.write(f"\nuser {account.user}\ntopic write {everything}\n")
            passwords.write(password_line(account.user, account.password))
        os.kill(broker_of(server), signal.SIGHUP)
        time.sleep(3)

    @contextmanager
    def _serving(self) -> Iterator[tuple[int, httpx.Client]]:
        with (self.place / "log").open("wb") as log, subprocess.Popen(
            [*SERVE, "--home", str(self.home.root)], stdout=log, stderr=log
        ) as server:  # fmt: skip
            try:
                wait(lambda: find_running(self.home) is not None, "the server")
                token = self.home.admin_token.read_text().strip()
                with httpx.Client(
                    base_url=str(find_running(self.home)),
                    headers={"Authorization": f"Bearer {token}"},
                    trust_env=False,
                    timeout=120,
                ) as http:
                    http.post("/console/login", data={"token": token})
                    yield server.pid, http
            finally:
                server.terminate()


def connected(workers: Workers, count: int) -> float:
    """Connect, and wait until all are; seconds."""
    begun, last, seen_s = time.monotonic(), 0, time.monotonic()
    workers.start()
    while (now := total(workers.counted()).connected) < count:
        if now > last:
            last, seen_s = now, time.monotonic()
        if time.monotonic() - seen_s > 60:
            print(f"  {now} of {count} connections were let in")
            break
        time.sleep(0.5)
    return time.monotonic() - begun


def broker_of(server: int) -> int:
    """The process id of a server's broker: its child, or the process itself."""
    process = psutil.Process(server)
    if process.name() in ("mosquitto", "nats-server"):
        return server
    return int(next(c.pid for c in process.children(True) if c.name() in ("mosquitto", "nats-server")))


def programs_of(server: int, workers: Workers, others: Sequence[int]) -> dict[str, list[psutil.Process]]:
    """What is measured, by name."""
    broker = broker_of(server)
    found = {"broker": [psutil.Process(broker)]}
    if broker != server:
        found["server"] = [psutil.Process(server)]
    found["clients"] = [psutil.Process(pid) for pid in (*workers.pids, *others)]
    return found


def cpu_of(programs: dict[str, list[psutil.Process]]) -> dict[str, float]:
    """Seconds of processor so far, by program."""
    return {name: sum(sum(one.cpu_times()[:2]) for one in processes) for name, processes in programs.items()}


def rss_of(server: int, workers: Workers) -> dict[str, int]:
    """Resident bytes by program."""
    programs = programs_of(server, workers, [])
    return {name: sum(one.memory_info().rss for one in them) for name, them in programs.items()}


def wait(condition: Callable[[], bool], what: str, longest_s: float = 120.0) -> None:
    """Wait for something that comes by itself."""
    deadline = time.monotonic() + longest_s
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"not in {longest_s:g} s: {what}")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
