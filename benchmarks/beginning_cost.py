"""What a look asks about the fleet while a stage begins devices, by the kind of plan.

    python benchmarks/beginning_cost.py [--devices 10000,100000] [--rounds 3] [--postgres]

A rollout has reached a tenth of the fleet. "satisfied" is a look at a stage of a tenth, which wants no more
devices; "next stage" is a look at a stage of all, which has to know whom to begin, in order. Beside them
"one by one", every device read and resolved, which was the only way. Seconds on the clock, medians.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))
from large_fleet import enlarge, roll_out
from postgres_server import postgres_server
from sqlalchemy import Connection

from edge_fleet.rollouts import rows, targets
from edge_fleet.rollouts.looking import targets_of
from edge_fleet.rollouts.members import load_members
from edge_fleet.rollouts.plan import parse_plan
from edge_fleet.rollouts.rows import Rollout
from edge_fleet.serve import now_ms
from edge_fleet.store import open_store

PLANS: dict[str, dict[str, Any]] = {
    "all devices": {},
    "by labels": {"select": "site=yard|lab"},
    "with a control group": {"control": "10%"},
    "A/B": {"kind": "ab", "experiment": {"name": "taste", "share": 0.5}},
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--devices", default="10000,100000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--postgres", action="store_true", help="On a PostgreSQL that is started here.")
    options = parser.parse_args()
    print("devices  plan                  satisfied s  next stage s  one by one s")
    with ExitStack() as stack:
        server = stack.enter_context(postgres_server()) if options.postgres else None
        if options.postgres and server is None:
            raise SystemExit("PostgreSQL is not installed")
        for devices in map(int, options.devices.split(",")):
            place = stack.enter_context(tempfile.TemporaryDirectory())
            measure(server.fresh() if server else f"sqlite:///{place}/fleet.db", devices, options.rounds)


def measure(url: str, devices: int, rounds: int) -> None:
    """Print the rows of one size of fleet."""
    store = open_store(url)
    enlarge(store, devices, now_ms())
    roll_out(store, devices, now_ms())
    with store.read() as connection:
        found = rows.load(connection, "r3")
        reached = [row.device for row in load_members(connection, found.id)]
        for name, changes in PLANS.items():
            plan = {"format": "edgefleet.rollout/1", "release": "digits@3", "stages": ["10%", "100%"]}
            first = replace(found, plan=parse_plan({**plan, **changes}), position=_at(found, 0))
            second = replace(first, position=_at(found, 1))
            times = (
                _median(rounds, lambda: _look(connection, first, reached, True)),  # noqa: B023
                _median(rounds, lambda: _look(connection, second, reached, True)),  # noqa: B023
                _median(rounds, lambda: _look(connection, second, reached, False)),  # noqa: B023
            )
            print(f"{devices:7}  {name:21}{times[0]:12.3f}{times[1]:14.3f}{times[2]:14.3f}", flush=True)
    store.close()


def _at(found: Rollout, stage: int) -> Any:
    return replace(found.position, stage=stage)


def _look(connection: Connection, rollout: Rollout, reached: list[str], counts: bool) -> None:
    """Whom the stage has still to reach, as a look finds it."""
    told = targets_of(connection, rollout, now_ms(), len(reached) if counts else None)
    index = rollout.position.stage
    targets.due(rollout.id, rollout.plan.stages[index], reached, told, rollout.plan.held_back(index))


def _median(rounds: int, work: Callable[[], None]) -> float:
    found = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


if __name__ == "__main__":
    main()
