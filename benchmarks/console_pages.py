"""How long the console's pages take, with how many devices, beside a page that asks the database nothing.

    python benchmarks/console_pages.py [--devices 10000,100000] [--rounds 15] [--postgres]

A real server process with everything that it runs beside HTTP, over a database of a fleet whose devices
differ (of a thousand eight are silent, five drift, three fail) and reported twice in the last minutes. One
client with one connection asks for each page in turn, round by round; medians over the rounds, and the
slowest. "health" is /health, the floor: the same server, process and client, and no page. "judged" is what
keeping the fleet's table costs: a look at one device, on average over the whole fleet.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))
from fleet_rows import digest
from large_fleet import busy, enlarge, furnish, name_of, roll_out
from postgres_server import postgres_server

from edge_fleet.brokers.child import free_loopback_port
from edge_fleet.config import ServerConfig
from edge_fleet.events import EventBus
from edge_fleet.home import Home
from edge_fleet.serve import initialise, now_ms
from edge_fleet.services import Services
from edge_fleet.standings.work import Standings
from edge_fleet.store import open_store

BUSY = 4242
PAGES = {
    "health": "/health",
    "a style sheet": "/console/static/console.css",
    "overview": "/console",
    "fleet": "/console/fleet",
    "fleet, one of all by name": f"/console/fleet?q={name_of(BUSY)[-4:]}",
    "fleet, label and health": "/console/fleet?q=site%3Dyard&health=silent",
    "fleet, last page by name": "/console/fleet?sort=name&page=200",
    "fleet, slowest first": "/console/fleet?sort=p95",
    "device, last hour": f"/console/devices/{name_of(BUSY)}",
    "device, last week": f"/console/devices/{name_of(BUSY)}?span=week",
    "rollouts": "/console/rollouts",
    "rollout to all, over": "/console/rollouts/r1",
    "its devices, last page": "/console/rollouts/r1?page={last}",
    "its devices, by a word": "/console/rollouts/r1?q=golden",
    "its devices, failed": "/console/rollouts/r1?standing=failed",
    "rollout taken back from all": "/console/rollouts/r2",
    "rollout at a tenth": "/console/rollouts/r3",
    "who is left out, and why": "/console/rollouts/r3/left-out",
    "left out, last page": "/console/rollouts/r3/left-out?page={last}",
    "left out by a selector": "/console/rollouts/r4/left-out",
    "draft": "/console/rollouts/r4",
    "one device's orders": f"/console/rollouts/r3/devices/{name_of(BUSY)}",
    "roll back?": "/console/rollouts/r3/rollback",
    "plan": "/console/rollouts/new",
    "approvals": "/console/approvals",
    "models": "/console/models",
    "one model": "/console/models/digits@3",
    "two compared": "/console/models/compare?before=digits@1&after=digits@3",
    "by digest": f"/console/models/find?q={digest('2')[7:19]}",
    "recall": f"/console/models/recall?what={digest('3')}",
    "alerts": "/console/alerts",
    "one alert": "/console/alerts/1",
    "rules of alerts": "/console/alerts/rules",
    "audit": "/console/audit",
    "audit, by a word": "/console/audit?q=cam-004242",
    "settings": "/console/settings",
    "users": "/console/settings/users",
    "tokens": "/console/settings/tokens",
    "webhooks": "/console/settings/webhooks",
    "keys": "/console/settings/keys",
    "system": "/console/settings/system",
}


class Nobody:
    """Nothing is sent from here."""

    def soon(self, devices: object) -> None:
        """Nothing."""


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--devices", default="10000,100000")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--postgres", action="store_true", help="On a PostgreSQL that is started here.")
    options = parser.parse_args()
    sizes = [int(part) for part in options.devices.split(",")]
    with ExitStack() as stack:
        server = stack.enter_context(postgres_server()) if options.postgres else None
        if options.postgres and server is None:
            raise SystemExit("PostgreSQL is not installed")
        found = [measured(size, options.rounds, server.fresh() if server else "") for size in sizes]
    print(f"{'median and slowest of ' + str(options.rounds) + ', ms':34}", end="")
    print("".join(f"{size:>12,} devices" for size in sizes))
    for page in PAGES:
        print(f"{page:34}", end="")
        for times, _ in found:
            shown = f"{statistics.median(times[page]):.1f} ({max(times[page]):.0f})"
            print(f"{shown:>20}", end="")
        print()
    print(f"{'judged, ms a device':34}" + "".join(f"{judged:>20.2f}" for _, judged in found))


def measured(devices: int, rounds: int, database: str) -> tuple[dict[str, list[float]], float]:
    """Milliseconds of every page in every round, and of a look at one device."""
    with tempfile.TemporaryDirectory() as place:
        home = Home(Path(place) / "home")
        config = ServerConfig(
            fleet="bench",
            http=f"127.0.0.1:{free_loopback_port()}",
            mqtt=f"127.0.0.1:{free_loopback_port()}",
            database=database,
            broker="mosquitto",
        )
        initialise(home, config)
        store = open_store(home.database_url(config))
        enlarge(store, devices, now_ms())
        busy(store, BUSY, now_ms())
        roll_out(store, devices, now_ms())
        furnish(store, devices, now_ms())
        began = time.perf_counter()
        Standings(Services(store, EventBus(), Nobody(), now_ms)).catch_up(now_ms())
        judged = (time.perf_counter() - began) / devices * 1000
        store.close()
        with serving(home) as url, logged_in(url, home.admin_token.read_text().strip()) as client:
            times: dict[str, list[float]] = {page: [] for page in PAGES}
            if "Every selected device" in (told := client.get(PAGES["who is left out, and why"]).text):
                raise SystemExit(f"the rollout at a tenth does not stand as it should: {told[-2000:]}")
            for number in range(rounds + 2):  # two to warm up
                for page, path in PAGES.items():
                    there = path.replace("{last}", str(pages_of(page, devices)))
                    began = time.perf_counter()
                    client.get(there).raise_for_status()
                    if number >= 2:
                        times[page].append((time.perf_counter() - began) * 1000)
            return times, judged


def pages_of(page: str, devices: int) -> int:
    """The last page of a table of devices, of which a page holds 50; of those left out some 3.6 % are."""
    return devices // 50 if page.startswith("its") else max(1, devices * 36 // 50_000)


@contextmanager
def serving(home: Home) -> Iterator[str]:
    """The server as its command runs it."""
    program = [
        sys.executable,
        "-c",
        "from edge_fleet.cli import main; main()",
        "serve",
        "--home",
        str(home.root),
    ]
    with (
        open(home.root / "log", "w") as log,
        subprocess.Popen(program, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if " serves " not in line:
                raise SystemExit(f"the server did not start: {line}{(home.root / 'log').read_text()[-500:]}")
            yield line.split(" serves ")[1].strip()
        finally:
            process.terminate()


@contextmanager
def logged_in(url: str, token: str) -> Iterator[httpx.Client]:
    """A browser's session."""
    with httpx.Client(base_url=url, trust_env=False, timeout=120) as client:
        client.post("/console/login", data={"token": token})
        yield client


if __name__ == "__main__":
    main()
