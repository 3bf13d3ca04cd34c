"""Whether the daemon stays as small as it began: load and faults for an hour, then FLAT or GROWS.

    python benchmarks/soak.py [--minutes 60] [--only FAULT ...] [--every 5]

The real `edge-agent run --isolate` with a folder in a loop (unreadable, misshapen and not finite inputs among
them) and clients over HTTP and a Unix socket, which also ask wrongly; telemetry goes to a real nats-server.
All along, one after another: the broker is killed and started, the server falls silent, updates are
installed, refused, cut off in the download and rolled back, and the isolated child is killed. The daemon
is killed as well, in the first half only: the second half is one process, its samples get a fitted line.
A quantity grows when that line rises by more than its bound over the second half. Exit code 1 when one does,
or when good requests are refused other than by "not now" (503). With --only one kind of fault and a small
--every a few minutes tell what that one leaves behind.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import numpy as np
import psutil
from soak_process import quantities, watched
from soak_verdict import BOUNDS, table

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import agent_bundles  # noqa: E402
import agent_fleet  # noqa: E402

from edge_contracts.bundle import open_bundle  # noqa: E402

ENTRY = [sys.executable, "-c", "from edge_agent.cli import main; main()"]
# A request that is being answered when the child is killed fails; one that comes meanwhile is told to wait.
MOST_REFUSED = 0.01
AWAY_S = 4.0
FAULTS = (
    "updates", "broker killed", "child killed", "bad updates", "server silent", "downloads cut", "rollbacks",
    "agent killed",
)  # fmt: skip
INFER = "/v2/models/tiny/infer"
GOOD = json.dumps(
    {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [0.5, -1, 0.25, 1.5]}]}
)
WRONG = (GOOD.replace("4]", "5]"), GOOD.replace("FP32", "INT8"), "{", GOOD.replace('"x"', '"z"'))


class UnixConnection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path) -> None:
        """Take the socket's path."""
        super().__init__("edge", timeout=10)
        self._path = str(path)

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(10)
        self.sock.connect(self._path)


class Soak:
    """A device under load, its fleet, and what is done to both."""

    def __init__(self, folder: Path, fleet: agent_fleet.TinyFleet) -> None:
        """Enrol the device and start it."""
        self.folder, self.fleet, self.done = folder, fleet, Counter[str]()
        self.home, self.inputs, self.socket = folder / "home", folder / "in", folder / "s"
        self.port = agent_fleet.free_port()
        self.over = threading.Event()
        self._numbers = itertools.count(1)
        self.inputs.mkdir()
        rng = np.random.default_rng(3)
        np.savez(self.inputs / "a.npz", x=rng.uniform(-2, 2, (200, 4)).astype(np.float32))
        np.savez(self.inputs / "b.npz", x=np.full((2, 4), np.nan, np.float32))
        np.savez(self.inputs / "c.npz", x=np.zeros((2, 7), np.float32))
        (self.inputs / "d.npz").write_bytes(b"not an archive")
        self.command(
            "enroll", "--server", fleet.url, "--token", agent_fleet.TOKEN, "--profile", "x86-cpu",
            "--name", "cam-1",
        )  # fmt: skip
        self.process = self.start()

    def command(self, *arguments: str) -> None:
        """Run a command of the agent beside the daemon."""
        whole = [*ENTRY, *arguments, "--home", str(self.home)]
        subprocess.run(whole, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)

    def start(self) -> subprocess.Popen[bytes]:
        """Start the daemon."""
        run = ["run", "--home", str(self.home), "--input", str(self.inputs), "--loop", "--rate", "50"]
        run += ["--serve", f"127.0.0.1:{self.port}", "--socket", str(self.socket), "--isolate"]
        run += ["--window", "2", "--hello", "3", "--health-window", "1", "--health-inferences", "5"]
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen([*ENTRY, *run], stderr=log)

    def by_http(self) -> HTTPConnection:
        """A new connection to the address."""
        return HTTPConnection("127.0.0.1", self.port, timeout=10)

    def by_socket(self) -> HTTPConnection:
        """A new connection to the socket."""
        return UnixConnection(self.socket)

    def ask(self, open_connection: Callable[[], HTTPConnection], needs_token: bool) -> None:
        """Be a client until the end: mostly right, at times wrong, anew after a lost connection."""
        rng, connection = random.Random(1), None
        while not self.over.wait(0.05):
            try:
                connection = connection or open_connection()
                token = (self.home / "serve.token").read_text().strip() if needs_token else ""
                wrong = rng.random() < 0.1
                headers = {"Authorization": f"Bearer {token}"}
                connection.request("POST", INFER, rng.choice(WRONG) if wrong else GOOD, headers)
                reply = connection.getresponse()
                reply.read()
                self.done[f"replies {reply.status}"] += 1
                if not wrong and reply.status not in (200, 503):
                    self.done["good requests refused"] += 1
                if rng.random() < 0.02:
                    connection.close()
                    connection = None
            except (OSError, HTTPException):
                self.done["connections lost"] += 1
                connection = None

    def release(self, good: bool = True) -> None:
        """Assign a new bundle; a bad one answers its golden inputs wrongly."""
        number = next(self._numbers)
        expected = None if good else np.full((16, 3), 0.5, np.float32)
        archive = agent_bundles.build(key=self.fleet.publisher, version=str(number), expected=expected)
        self.fleet.assign(archive, open_bundle(archive).digest, number, number)

    def kill_broker(self) -> None:
        """The broker is gone for some seconds."""
        self.fleet.broker.kill()
        self.over.wait(AWAY_S)
        self.fleet.broker.start()

    def fall_silent(self) -> None:
        """The server neither acknowledges nor answers."""
        self.fleet.mute = True
        self.over.wait(AWAY_S)
        self.fleet.mute = False

    def cut_download(self) -> None:
        """The connection breaks off within the archive."""
        self.fleet.cut_after = 1000
        self.release()

    def roll_back(self) -> None:
        """Somebody at the device goes back; what cannot be gone back to is refused."""
        try:
            self.command("rollback")
        except subprocess.CalledProcessError:
            self.done["rollbacks refused"] += 1
        except subprocess.TimeoutExpired:  # the machine has much else to do
            self.done["rollbacks given up"] += 1

    def kill_child(self) -> None:
        """The process of the runtime dies."""
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children():
                child.kill()

    def kill_agent(self) -> None:
        """The daemon dies and is started again."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = self.start()

    @property
    def faults(self) -> dict[str, Callable[[], None]]:
        """By what they are counted as."""
        return {
            "updates": self.release, "broker killed": self.kill_broker, "child killed": self.kill_child,
            "bad updates": lambda: self.release(False), "server silent": self.fall_silent,
            "downloads cut": self.cut_download, "rollbacks": self.roll_back, "agent killed": self.kill_agent,
        }  # fmt: skip

    def disturb(self, until_kills_s: float, names: Sequence[str], every_s: float) -> None:
        """One fault after another."""
        for name in itertools.cycle(names):
            if self.over.wait(every_s):
                return
            if name == "agent killed" and time.monotonic() > until_kills_s:
                continue
            self.faults[name]()
            self.done[name] += 1

    def sample(self) -> dict[str, float] | None:
        """Every quantity now; None while the daemon starts."""
        try:
            found, children = quantities(self.process.pid)
            resident = sum(child.memory_info().rss for child in children)
            size = sum(p.stat().st_blocks * 512 for p in self.home.rglob("*") if p.is_file())
        except (psutil.NoSuchProcess, FileNotFoundError):  # it starts, or a slot is written just now
            return None
        return found | {"children's RSS MiB": resident / 2**20, "home MiB": size / 2**20}


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--only", choices=FAULTS, action="append", help="a kind of fault; repeatable")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two faults [default: 5]")
    asked = parser.parse_args()
    minutes = asked.minutes
    with (
        tempfile.TemporaryDirectory(prefix="edge-soak-") as scratch,
        agent_fleet.tiny_fleet(Path(scratch)) as fleet,
    ):
        soak = Soak(Path(scratch), fleet)
        begun_s = time.monotonic()
        workers = [
            threading.Thread(target=soak.ask, args=(soak.by_http, True)),
            threading.Thread(target=soak.ask, args=(soak.by_socket, False)),
            threading.Thread(
                target=soak.disturb, args=(begun_s + minutes * 27, asked.only or FAULTS, asked.every)
            ),
        ]
        try:
            times, samples = watched(
                minutes, workers, lambda: soak.process, soak.sample, soak.folder / "log", begins_s=5.0
            )
        finally:
            soak.over.set()
            for worker in workers:
                worker.join()
            soak.process.send_signal(signal.SIGTERM)
            code = soak.process.wait(60)
        answered = sum(w.inferences for w in fleet.records("window"))
        faults = fleet.faults
    print(
        f"{minutes:g} minutes, {len(samples)} samples, {answered} answers reported; "
        f"the daemon ended with {code}"
    )
    print("; ".join(f"{name} {count}" for name, count in sorted(soak.done.items())))
    print(f"what the server found wrong in the telemetry: {'; '.join(faults) or 'nothing'}\n")
    text, grows = table(times, samples, BOUNDS)
    print(text)
    refused = soak.done["good requests refused"] / max(1, soak.done["replies 200"])
    print(f"{refused:.3%} of the good requests were refused; {MOST_REFUSED:.0%} are allowed")
    sys.exit(bool(grows or faults or code or refused > MOST_REFUSED))


if __name__ == "__main__":
    main()
