"""Whether the server stays as small as it began: a fleet, people and faults for an hour, then FLAT or GROWS.

    python benchmarks/soak_fleet.py [--minutes 60] [--devices 200] [--database URL]

A real `edge-fleet serve` with its broker, and `edge-fleet simulate`: honest devices and each kind of broken
one. All along releases are published and rolled out, some go back, the broker is killed, the devices are
killed and come back, a backup is made, the receiver of webhooks refuses, and somebody guesses at tokens. A
person reads whatever pages of the console the last one led to; another one follows the events for a while,
again and again. The server is killed as well, in the first half only: the second half is one process, its
samples get a fitted line. A quantity grows when that line rises by more than its bound over the second half.
Exit code 1 when one does, when a page or a call is answered with 5xx while nothing is down, or when a device
that did nothing wrong was refused. What the database holds grows with what devices send, and is stated, not
judged: retention bounds it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
from soak_process import quantities, watched
from soak_verdict import table

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import agent_bundles  # noqa: E402
from webhook_receiver import Receiver, receiver  # noqa: E402

from edge_fleet.brokers.child import free_loopback_port  # noqa: E402
from edge_fleet.home import Home, find_running  # noqa: E402

ENTRY = [sys.executable, "-c", "from edge_fleet.cli import main; main()"]
FAULT_S, FOLLOWED_S, READ_S = 5.0, 4.0, 0.3
RECOVERED_S = 30.0  # left alone after the last fault: what devices sent by then is acknowledged
# More than an agent's: caches of a fleet, SQLite's pages, the API's threads as they are asked for
BOUNDS = {"RSS MiB": 6.0, "anonymous MiB": 6.0, "open files": 4.0, "threads": 3.0, "children": 1.0}
PLAN = {"format": "edgefleet.rollout/1", "stages": ["10%", "100%"], "bake_s": 5, "gates": {"error_rate": 0.5}}
BROKEN = "all:1"
LINK = re.compile(r'href="(/console[^"#]*)"')


class Soak:
    """A server, its fleet, its people, and what is done to them."""

    def __init__(self, folder: Path, devices: int, database: str, hook: Receiver) -> None:
        """Start all of them."""
        self.folder, self.home, self.hook = folder, Home(folder / "server"), hook
        self.devices, self.database, self.done = devices, database, Counter[str]()
        self.over, self.down = threading.Event(), threading.Event()
        self.mqtt, self.http = (f"127.0.0.1:{free_loopback_port()}" for _ in range(2))
        self._releases, self.rollout = itertools.count(1), ""
        self.process = self.serve()
        self.wait_until_up()
        key = {"public_key": agent_bundles.KEY.public.base64, "label": "soak"}
        self.call("POST", "/api/v1/publishers", json=key)
        self.call("POST", "/api/v1/webhooks", json={"url": hook.url})
        self.call("POST", "/api/v1/tokens", json={"role": "subscriber"})
        self.simulation = self.simulate()

    def serve(self) -> subprocess.Popen[bytes]:
        """Start the server."""
        command = ["serve", "--home", str(self.home.root), "--mqtt", self.mqtt, "--http", self.http]
        command += ["--database", self.database] if self.database else []
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen([*ENTRY, *command], stdout=subprocess.DEVNULL, stderr=log)

    def wait_until_up(self) -> None:
        """Until it answers."""
        for _ in range(600):
            with suppress(httpx.HTTPError):
                if find_running(self.home) and self.client().get("/health").status_code == 200:
                    return
            time.sleep(0.1)
        raise RuntimeError(f"the server does not begin: {(self.folder / 'log').read_text()[-2000:]}")

    def simulate(self) -> subprocess.Popen[bytes]:
        """Start the devices; the same ones each time."""
        command = ["simulate", "--home", str(self.home.root), "--devices", str(self.devices), "--every", "2"]
        command += ["--broken", BROKEN, "--profile", "x86-cpu", "--hello", "20", "--processes", "1", "--json"]
        with (self.folder / "simulated").open("wb") as said, (self.folder / "simulate.log").open("ab") as log:
            return subprocess.Popen([*ENTRY, *command], stdout=said, stderr=log)

    def client(self) -> httpx.Client:
        """A client with the administrator's rights."""
        token = self.home.admin_token.read_text().strip()
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.Client(base_url=f"http://{self.http}", headers=headers, trust_env=False, timeout=60)

    def call(self, method: str, path: str, **content: object) -> httpx.Response | None:
        """One call of the API; None while the server is down."""
        try:
            with self.client() as client:
                answer = client.request(method, path, **content)  # type: ignore[arg-type]
        except httpx.HTTPError:
            self.done["calls without an answer"] += 1
            return None
        self.note(answer)
        return answer

    def note(self, answer: httpx.Response) -> None:
        """Count an answer; one of 5xx although nothing was down is a fault."""
        self.done[f"answers {answer.status_code}"] += 1
        if answer.status_code >= 500 and not self.down.is_set():
            self.done["faults"] += 1
            print(f"{answer.request.method} {answer.request.url} -> {answer.text[:300]}", file=sys.stderr)

    def read_pages(self) -> None:
        """Be somebody at the console: from page to page by their links, now and then from the beginning."""
        rng, pages, path = random.Random(1), None, "/console"
        while not self.over.wait(READ_S):
            try:
                if pages is None:
                    pages = httpx.Client(base_url=f"http://{self.http}", trust_env=False, timeout=60)
                    token = self.home.admin_token.read_text().strip()
                    self.note(pages.post("/console/login", data={"token": token}))
                answer = pages.get(path, follow_redirects=True)
                self.note(answer)
                self.done["pages"] += 1
                links = LINK.findall(answer.text.replace("&amp;", "&"))
                path = rng.choice(links) if links and rng.random() < 0.9 else "/console"
                if rng.random() < 0.01:
                    pages.close()
                    pages = None
            except httpx.HTTPError:
                self.done["pages without an answer"] += 1
                pages = None

    def follow(self) -> None:
        """Follow the events for a while, leave without a word, and come again."""
        while not self.over.wait(1.0):
            try:
                with self.client() as client, client.stream("GET", "/api/v1/events") as answer:
                    until_s = time.monotonic() + FOLLOWED_S
                    for _ in answer.iter_bytes():
                        if time.monotonic() > until_s or self.over.is_set():
                            break
                self.done["followed"] += 1
            except httpx.HTTPError:
                self.done["followed in vain"] += 1

    def release(self) -> None:
        """Publish the next release and roll it out; the one before is over or taken back."""
        number = next(self._releases)
        archive = agent_bundles.build(version=str(number))
        if self.call("POST", "/api/v1/releases", files=[("bundles", ("tiny.edge", archive))]) is None:
            return
        plan = PLAN | {"release": f"tiny@{number}", "select": "simulated=honest|golden"}
        answer = self.call("POST", "/api/v1/rollouts", json={"plan": plan, "start": True})
        if answer is None:
            return
        if answer.status_code == 409:  # the one before is not over on every device
            self.done["rollouts that had to wait"] += 1
            self.call("POST", f"/api/v1/rollouts/{self.rollout}/rollback", json={"why": "soak"})
            return
        answer.raise_for_status()
        self.rollout = answer.json()["id"]
        self.over.wait(3 * FAULT_S)
        if number % 2:
            back = self.call("POST", f"/api/v1/rollouts/{self.rollout}/rollback", json={"why": "soak"})
            self.done["rollouts taken back"] += back is not None and back.status_code == 200

    def kill_broker(self) -> None:
        """The broker is gone until the server starts it again."""
        self.down.set()
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children():
                child.kill()
        self.over.wait(FAULT_S)
        self.down.clear()

    def kill_devices(self) -> None:
        """All devices lose their power, and come back."""
        self.simulation.kill()
        self.simulation.wait()
        self.simulation = self.simulate()

    def refuse_webhooks(self) -> None:
        """The receiver answers with errors for a while."""
        self.hook.answers[:] = [500] * 20
        self.hook.got.clear()

    def back_up(self) -> None:
        """A backup beside the running server."""
        file = self.folder / "backup"
        command = [*ENTRY, "backup", str(file), "--home", str(self.home.root)]
        command += ["--database", self.database] if self.database else []
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=300)
        file.unlink()

    def guess(self) -> None:
        """Somebody who has no right to anything."""
        with suppress(httpx.HTTPError), self.client() as client:
            for path in ("/api/v1/devices", "/console/fleet", "/api/v1/none"):
                self.note(client.get(path, headers={"Authorization": "Bearer guessed"}))

    def kill_server(self) -> None:
        """The server dies and is started again."""
        self.down.set()
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = self.serve()
        self.wait_until_up()
        self.down.clear()

    def disturb(self, until_kills_s: float) -> None:
        """One fault after another."""
        faults: tuple[tuple[str, Callable[[], None]], ...] = (
            ("releases", self.release),
            ("broker killed", self.kill_broker),
            ("backups", self.back_up),
            ("webhooks refused", self.refuse_webhooks),
            ("releases", self.release),
            ("guesses", self.guess),
            ("devices killed", self.kill_devices),
            ("server killed", self.kill_server),
        )
        for name, fault in itertools.cycle(faults):
            if self.over.wait(FAULT_S):
                return
            if fault == self.kill_server and time.monotonic() > until_kills_s:
                continue
            fault()
            self.done[name] += 1

    def sample(self) -> dict[str, float] | None:
        """Every quantity now; None while the server starts."""
        try:
            return quantities(self.process.pid)[0]
        except (psutil.NoSuchProcess, FileNotFoundError):
            return None

    def end(self) -> int:
        """Stop the devices, then the server; its exit code."""
        self.simulation.send_signal(signal.SIGINT)
        self.simulation.wait(120)
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def harmed(soak: Soak) -> list[str]:
    """Kinds of devices that did nothing wrong and were refused or not acknowledged, and what of them."""
    said = json.loads((soak.folder / "simulated").read_text())
    return [f"{row['kind']} ({row['why']})" for row in said["kinds"] if row["verdict"] == "HARMED"]


def main() -> None:
    """Run it and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--devices", type=int, default=200)
    parser.add_argument("--database", default="", help="of a PostgreSQL; SQLite when not given")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edge-soak-") as scratch, receiver() as hook:
        soak = Soak(Path(scratch), options.devices, options.database, hook)
        begun_s = time.monotonic()
        workers = [
            threading.Thread(target=soak.read_pages),
            threading.Thread(target=soak.follow),
            threading.Thread(target=soak.disturb, args=(begun_s + options.minutes * 27,)),
        ]
        try:
            times, samples = watched(
                options.minutes, workers, lambda: soak.process, soak.sample, soak.folder / "log"
            )
        finally:
            soak.over.set()
            for worker in workers:
                worker.join()
            time.sleep(RECOVERED_S)
            answer = soak.call("GET", "/api/v1/metrics") if soak.process.poll() is None else None
            code = soak.end()
        wrong = harmed(soak)
        size_mib = sum(f.stat().st_size for f in soak.home.root.glob("fleet.db*")) / 2**20
    stored = answer.json()["since_start"]["envelopes_stored"] if answer is not None else 0
    print(
        f"{options.minutes:g} minutes, {options.devices} devices, {len(samples)} samples, "
        f"{stored} envelopes since the server's last start, database {size_mib:.0f} MiB; "
        f"the server ended with {code}"
    )
    print("; ".join(f"{name} {count}" for name, count in sorted(soak.done.items())))
    print(f"devices that did nothing wrong and were refused or not heard: {', '.join(wrong) or 'none'}\n")
    text, grows = table(times, samples, BOUNDS)
    print(text)
    sys.exit(bool(grows or wrong or code or soak.done["faults"]))


if __name__ == "__main__":
    main()
