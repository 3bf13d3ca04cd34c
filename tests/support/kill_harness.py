"""Agent, broker and ingest killed again and again, and what has arrived in the end.

Everything is the real thing: `edge-fleet serve` with its broker as a process, and `kill_device.py`, the
agent's reporter, outbox and connection. A broker is killed by the server's own supervisor (SIGKILL), a
server by us, and its broker dies with it.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Any

import cbor2
import httpx

from edge_agent.device.enrol import enrol
from edge_agent.device.home import Home as DeviceHome
from edge_contracts import cose
from edge_fleet.brokers.child import free_loopback_port
from edge_fleet.home import Home, find_running

DEADLINE_S = 90.0
SERVE = [sys.executable, "-c", "from edge_fleet.cli import main; main()", "serve"]
DEVICE = Path(__file__).parent / "kill_device.py"


@dataclass(frozen=True)
class Result:
    """What became of the records.

    Args:
        kept: Records that the device had in its outbox.
        sent: Envelopes given to a broker, each as often as it was.
        stored: Envelopes in the server's database.
        lost: Records that were kept and are not there.
        twice: Records that are there more than once.
        gaps: Losses that the device owns up to.
        refused: Forks and broken chains that the server saw.
    """

    kept: int
    sent: int
    stored: int
    lost: int
    twice: int
    gaps: int
    refused: int
    kills: Counter[str] = field(default_factory=Counter)


class Trial:
    """A server and a device that are killed.

    Args:
        rate: Records a second.
    """

    def __init__(self, folder: Path, rate: float, broker: str = "nats", durability: str = "power") -> None:
        """Start both."""
        self._folder, self._rate, self._durability = folder, rate, durability
        self._home = Home(folder / "server")
        self._command = [
            *SERVE,
            "--home",
            str(self._home.root),
            "--http",
            f"127.0.0.1:{free_loopback_port()}",
        ]
        self._command += ["--mqtt", f"127.0.0.1:{free_loopback_port()}", "--broker", broker]
        self.kept, self._sent, self._done = -1, 0, False
        self.kills: Counter[str] = Counter()
        self._server = self._start_server()
        token = self._ask("POST", "/api/v1/tokens", {})["token"]
        self._config = enrol(DeviceHome(folder / "device"), self._url, token, "x86-cpu")
        self._device = self._start_device()

    def __enter__(self) -> Trial:
        """Both run."""
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Nothing is left running."""
        self._reap()
        if self._server.poll() is None:
            self._server.kill()
        self._server.wait()

    def put(self, records: int) -> None:
        """Wait until the device has kept so many more."""
        goal = self.kept + records
        self._until(lambda: self.kept >= goal, f"record {goal} is kept")

    def kill_agent(self) -> None:
        """SIGKILL, and a new start."""
        self._reap()
        self.kills["agent"] += 1
        self._device = self._start_device()

    def kill_broker(self) -> None:
        """SIGKILL; the server's supervisor starts it again."""
        self._ask("POST", "/api/v1/broker/outage", {"seconds": 0.3})
        self.kills["broker"] += 1

    def kill_server(self) -> None:
        """SIGKILL of the server; its broker dies with it."""
        self._server.kill()
        self._server.wait()
        self.kills["server"] += 1
        self._server = self._start_server()

    def finish(self) -> Result:
        """Let everything arrive, and count."""
        assert self._device.stdin is not None
        self._device.stdin.close()
        self._until(lambda: self._done, "everything is acknowledged")
        os.kill(self._server.pid, signal.SIGTERM)
        self._server.wait(30)
        return self._count()

    def _reap(self) -> None:
        """SIGKILL of the device."""
        if self._device.poll() is None:
            self._device.kill()
        self._device.wait()
        self._reader.join()
        for pipe in (self._device.stdin, self._device.stdout):
            if pipe is not None:
                pipe.close()

    def _count(self) -> Result:
        names: Counter[str] = Counter()
        gaps = 0
        db = sqlite3.connect(next(self._home.root.rglob("*.db")))
        try:
            rows = db.execute("SELECT raw FROM envelopes").fetchall()
            refused = db.execute("SELECT count(*) FROM forks").fetchone()[0]
        finally:
            db.close()
        for (raw,) in rows:
            for record in cbor2.loads(cose.parse(raw).payload)["recs"]:
                if record["kind"] == "event":
                    names[record["name"]] += 1
                gaps += record["kind"] == "gap"
        lost = [n for n in range(self.kept + 1) if not names[f"n{n}"]]
        twice = [name for name, count in names.items() if count > 1]
        return Result(
            self.kept + 1, self._sent, len(rows), len(lost), len(twice), gaps, refused, Counter(self.kills)
        )

    def _start_server(self) -> subprocess.Popen[str]:
        log = (self._folder / "server.log").open("ab")
        process = subprocess.Popen(self._command, stdout=log, stderr=log, text=True)
        log.close()
        self._until(lambda: self._answers(process), "the server answers")
        return process

    def _answers(self, process: subprocess.Popen[str]) -> bool:
        if process.poll() is not None:
            raise AssertionError(f"the server ended: {(self._folder / 'server.log').read_text()[-2000:]}")
        url = find_running(self._home)
        if url is None:
            return False
        self._url = url
        try:
            return bool(self._ask("GET", "/api/v1/metrics", None))
        except httpx.HTTPError:
            return False

    def _start_device(self) -> subprocess.Popen[str]:
        home = str(self._folder / "device")
        # what was kept when it was killed is said to be kept only if it got round to saying so; the next one
        # begins after that, so that a record that was kept in silence may be there, and is not put again
        first = str(self._next())
        command = [sys.executable, str(DEVICE), home, first, str(self._rate), self._durability]
        log = (self._folder / "device.log").open("ab")
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
        log.close()
        self._reader = threading.Thread(target=self._read, args=(process,), daemon=True)
        self._reader.start()
        return process

    def _next(self) -> int:
        """The first number that no record in the outbox or on the server has."""
        path = self._folder / "device" / "outbox.db"
        found = self.kept
        if path.exists():
            db = sqlite3.connect(path)
            try:
                for (record,) in db.execute("SELECT record FROM pending"):
                    found = max(found, _number(cbor2.loads(record)))
                for (raw,) in db.execute("SELECT envelope FROM envelopes"):
                    for one in cbor2.loads(cose.parse(raw).payload)["recs"]:
                        found = max(found, _number(one))
            finally:
                db.close()
        self.kept = found
        return found + 1

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            word, _, rest = line.strip().partition(" ")
            if word == "kept":
                self.kept = int(rest)
            elif word == "sent":
                self._sent += 1
            elif word == "done":
                self._done = True

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._home.admin_token.read_text().strip()}"}
        with httpx.Client(base_url=self._url, headers=headers, trust_env=False, timeout=20) as http:
            answer = http.request(method, path, json=body)
            answer.raise_for_status()
            found: dict[str, Any] = json.loads(answer.content or b"{}")
            return found

    def _until(self, question: Callable[[], bool], what: str) -> None:
        deadline_s = monotonic() + DEADLINE_S
        while not question():
            if monotonic() > deadline_s:
                raise AssertionError(f"not within {DEADLINE_S:g} s: {what}")
            sleep(0.02)


def _number(record: dict[str, Any]) -> int:
    name = str(record.get("name", ""))
    return int(name[1:]) if name.startswith("n") and name[1:].isdigit() else -1


def rounds(trial: Trial, count: int, records: int) -> None:
    """Kill each of the three in turn, with so many records between two kills."""
    for _ in range(count):
        for kill in (trial.kill_agent, trial.kill_broker, trial.kill_agent, trial.kill_server):
            trial.put(records)
            kill()
    trial.put(records)
