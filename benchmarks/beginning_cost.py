"""A look of the conductor while a stage begins devices, by the kind of plan and by how many devices changed.

    python benchmarks/beginning_cost.py [--devices 10000,100000] [--changed 1%,100] [--rounds 3] [--postgres]

A rollout has reached a tenth of the fleet and is at a stage of all of it, one device at a time. A look finds
whom it has still to reach, whom of these it may begin, and what the others wait for. "all read" is one that
reads every device, as every such look did; "recount" is the first of a server that was started. The others
are looks after "changed" devices did something: "said" when each said another thing of itself that is chosen
by, "begun" when as many were given the release, "nothing" when none did. The gates are left out: they are
`tick_cost.py`'s. Seconds on the clock, medians.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))
from large_fleet import enlarge, name_of, roll_out
from postgres_server import postgres_server
from sqlalchemy import select, update

from edge_contracts.messages import DeviceState
from edge_fleet import orders
from edge_fleet.device_state import store_state
from edge_fleet.rollouts import candidates, members, rows, targets
from edge_fleet.rollouts.engine import View, advance
from edge_fleet.rollouts.looking import Known, due_of, evidence_of, look
from edge_fleet.rollouts.phases import Phase
from edge_fleet.rollouts.plan import parse_plan
from edge_fleet.rollouts.rows import Rollout
from edge_fleet.rollouts.targets import Alike, Target
from edge_fleet.schema import devices, rollouts
from edge_fleet.serve import now_ms
from edge_fleet.store import Store, open_store

PLANS: dict[str, dict[str, Any]] = {
    "all devices": {},
    "by labels": {"select": "site=yard|lab"},
    "by health": {"select": "health=ok|degraded"},
    "with a control group": {"control": "10%", "stages": ["80%", "100%"]},
    "A/B": {"kind": "ab", "experiment": {"name": "taste", "share": 0.5}},
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--devices", default="10000,100000")
    parser.add_argument("--changed", default="1%,100", help="of the devices between two looks")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--postgres", action="store_true", help="On a PostgreSQL that is started here.")
    options = parser.parse_args()
    print("devices  plan                  changed  all read s  recount s  said s  begun s  nothing s")
    with ExitStack() as stack:
        server = stack.enter_context(postgres_server()) if options.postgres else None
        if options.postgres and server is None:
            raise SystemExit("PostgreSQL is not installed")
        for number in map(int, options.devices.split(",")):
            for name in PLANS:
                with tempfile.TemporaryDirectory() as place:
                    url = server.fresh() if server else f"sqlite:///{place}/fleet.db"
                    measure(url, number, name, options.changed.split(","), options.rounds)


def measure(url: str, number: int, name: str, changes: Sequence[str], rounds: int) -> None:
    """Print the rows of one fleet with one plan."""
    store = open_store(url)
    enlarge(store, number, now_ms(), windows=0, stays_ms=3_600_000)
    roll_out(store, number, now_ms())
    plan = {"format": "edgefleet.rollout/1", "release": "digits@3", "stages": ["100%"], "max_in_flight": 1}
    plan |= {"gates": {}, "silence_s": 86_400} | PLANS[name]
    with store.write() as connection:
        told = {"plan": parse_plan(plan).model_dump(mode="json"), "phase": Phase.RUNNING, "stage": 0}
        connection.execute(update(rollouts).where(rollouts.c.id == "r3").values(told))
    known, said = Known(), 1
    recount_s, _ = _timed(lambda: _look(store, known))
    for text in changes:
        changed = max(1, number * int(text[:-1]) // 100) if text.endswith("%") else min(number, int(text))
        times: dict[str, list[float]] = {"said": [], "begun": [], "nothing": [], "all": []}
        for turn in range(rounds):
            said += 1
            # of the devices that it has not reached
            names = [name_of(number - 1 - (turn * changed + n) % (number // 2)) for n in range(changed)]
            _say(store, names, said)
            times["said"].append(_timed(lambda: _look(store, known))[0])
            due = targets.in_turn(_look(store, known))
            _begin(store, list(islice(due, changed)))
            times["begun"].append(_timed(lambda: _look(store, known))[0])
            times["nothing"].append(_timed(lambda: _look(store, known))[0])
            all_s, every = _timed(lambda: _look(store, known, _everybody))
            times["all"].append(all_s)
            if list(targets.in_turn(every)) != list(targets.in_turn(_look(store, known))):
                raise SystemExit("the look finds others than reading every device does")
        found = {what: statistics.median(values) for what, values in times.items()}
        print(
            f"{number:7}  {name:21}{changed:8}{found['all']:12.3f}{recount_s:11.3f}{found['said']:8.3f}"
            f"{found['begun']:9.3f}{found['nothing']:11.3f}",
            flush=True,
        )
    store.close()


def _everybody(connection: Any, rollout: Rollout, view: View, _known: Known) -> list[Alike]:
    """As it was done: every device read and resolved."""
    stage = rollout.position.stage
    every = candidates.load_targets(connection, rollout, now_ms())
    reached = [row.device for row in view.counted]
    held_back = rollout.plan.held_back(stage)
    found = targets.due(rollout.id, rollout.plan.stages[stage], reached, every, held_back)
    return targets.grouped(rollout.id, found)


def _kept(connection: Any, rollout: Rollout, _view: View, known: Known) -> list[Alike]:
    return due_of(connection, rollout, now_ms(), known)


def _look(store: Store, known: Known, due: Callable[..., list[Alike]] = _kept) -> list[Alike]:
    """Whom the stage has still to reach; with what the conductor makes of it."""
    with store.read() as connection:
        found, view = look(connection, "r3", now_ms(), known.roster)
        nothing = evidence_of(connection, found, (), known.readings)
        wanted: list[Alike] = []

        def asked() -> list[Alike]:
            wanted.extend(due(connection, found, view, known))
            return wanted

        advance(view, now_ms() / 1000, asked, lambda _: nothing)
    return wanted


def _say(store: Store, names: Sequence[str], n: int) -> None:
    """These devices say another thing of themselves, as it comes from the broker."""
    with store.write() as connection:
        for name in names:
            state, profile = connection.execute(
                select(devices.c.state, devices.c.profile).where(devices.c.id == name)
            ).one()
            active = {**state["active"], "fallback": "" if state["active"]["fallback"] else "no NPU"}
            told = {**state, "active": active, "n": n, "device": name, "type": "status", "profile": profile}
            told |= {"epoch": "0" * 16, "time_ms": now_ms()}
            store_state(connection, DeviceState.model_validate(told), now_ms())


def _begin(store: Store, due: Sequence[Target]) -> None:
    """These devices are given the release."""
    with store.write() as connection:
        found = rows.load(connection, "r3")
        for target in due:
            assert target.bundle is not None
            number = orders.issue(connection, target.device, target.bundle, now_ms(), rollout="r3", stage=0)
            members.add(connection, found.id, 0, target.device, target.bundle, None, number)


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


if __name__ == "__main__":
    main()
