"""One look of the conductor at a rollout that has reached everybody, by devices and how many changed.

    python benchmarks/tick_cost.py [--devices 1000,10000] [--ticks 5] [--changed 1%,100]

A real SQLite database with a rollout that bakes: every device confirmed, one window of the release
before and two of the new one each. "recount" is what a server that was started again pays once: everything
read, summed and judged anew. The others are looks after some devices did something: "windows" when each
reported a window, "states" when the assignment of each changed as well, "nothing" when none did. "members",
"evidence" and "gates" are the parts of "windows": which devices, what they reported, what the gates make of
it. Processor seconds, medians over ticks.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))
from fleet_device import window
from fleet_rows import FITS, digest
from rollout_fleet import Fleet, file, plan
from sqlalchemy import update

from edge_contracts.messages import ScalarCounts
from edge_contracts.sketch import QuantileSketch
from edge_fleet import schema
from edge_fleet.orders import NEXT_CHANGE
from edge_fleet.rollouts.conductor import Conductor
from edge_fleet.rollouts.counting import recount
from edge_fleet.rollouts.decision import decide
from edge_fleet.rollouts.looking import evidence_of, look
from edge_fleet.rollouts.readings import SeenReadings
from edge_fleet.rollouts.roster import Roster
from edge_fleet.storage.bulk import insert_many
from edge_fleet.storage.record_rows import WINDOW_COLUMNS, window_row

EPOCH = "0" * 16


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--devices", default="1000,10000")
    parser.add_argument("--ticks", type=int, default=5)
    parser.add_argument("--changed", default="1%,100", help="of the devices at each tick")
    options = parser.parse_args()
    print("devices  changed  recount s  windows s  members  evidence  gates  states s  nothing s  RSS MB")
    for devices in map(int, options.devices.split(",")):
        with tempfile.TemporaryDirectory() as place:
            measure(Path(place), devices, options.ticks, options.changed.split(","))


def measure(place: Path, devices: int, ticks: int, changes: Sequence[str]) -> None:
    """Print the rows of one size of fleet."""
    fleet = Fleet(file(place / "fleet.db"))
    rollout = furnish(fleet, devices)
    known = Roster(), SeenReadings()
    recount_s, _ = _timed(lambda: _look(fleet, rollout, *known))
    for text in changes:
        changed = max(1, devices * int(text[:-1]) // 100) if text.endswith("%") else min(devices, int(text))
        windows: list[dict[str, float]] = []
        states: list[float] = []
        for tick in range(ticks):
            fleet.now_ms += 1_000
            names = [f"device-{(tick * changed + n) % devices}" for n in range(changed)]
            report(fleet, names, digest("2"))
            windows.append(_look(fleet, rollout, *known))
            report(fleet, names, digest("2"))
            change(fleet, names, f"tick {tick}")
            states.append(sum(_look(fleet, rollout, *known).values()))
        nothing_s, _ = _timed(lambda: _look(fleet, rollout, *known))
        parts = {name: statistics.median(one[name] for one in windows) for name in windows[0]}
        memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{devices:7}{changed:9}{recount_s:11.2f}{sum(parts.values()):11.3f}{parts['members']:9.3f}"
            f"{parts['evidence']:10.3f}{parts['gates']:7.3f}{statistics.median(states):10.3f}"
            f"{nothing_s:11.3f}{memory_mb:8.0f}",
            flush=True,
        )
    fleet.store.close()


def change(fleet: Fleet, names: Sequence[str], detail: str) -> None:
    """The assignment of each device changes."""
    here = schema.assignments.c
    with fleet.store.write() as connection:
        for name in names:
            connection.execute(
                update(schema.assignments)
                .where(here.device == name)
                .values(detail=detail, change=NEXT_CHANGE)
            )


def _look(fleet: Fleet, rollout: str, roster: Roster, seen: SeenReadings) -> dict[str, float]:
    """What the conductor does for a look, in parts."""
    with fleet.store.read() as connection:
        members_s, (found, view) = _timed(lambda: look(connection, rollout, fleet.now_ms, roster))
        known_s, members = _timed(lambda: view.members)
        evidence_s, evidence = _timed(lambda: evidence_of(connection, found, members, seen))
        now_s = fleet.now_ms / 1000
        gates_s, decision = _timed(lambda: decide(found.plan, found.position, evidence, now_s))
    if decision.event is not None:
        raise SystemExit(f"the rollout does not bake: {decision.why}")
    return {"members": members_s + known_s, "evidence": evidence_s, "gates": gates_s}


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.process_time()
    found = work()
    return time.process_time() - began, found


def furnish(fleet: Fleet, devices: int) -> str:
    """A fleet whose every device was reached and has reported; gives the rollout's id."""
    fleet.publish("1")
    fleet.publish("2")
    names = [f"device-{n}" for n in range(devices)]
    now = fleet.now_ms
    fleet.enrol("first")
    report(fleet, ["first"], digest("1"))
    made = plan("2", "100%", gates={"error_rate": 0.05, "latency_p95": 2.0, "drift": 0.2}, bake_s=86_400)
    rollout = fleet.operator.create(made, "benchmark")
    fleet.operator.start(rollout, "benchmark")
    fleet.tick()
    columns = (
        "id",
        "public_key",
        "profile",
        "labels",
        "credential",
        "enrolled_ms",
        "last_seen_ms",
        "state_n",
    )
    rows = [(name, name.encode().ljust(32), '["arm-cpu"]', "{}", "", now, now, 0) for name in names]
    orders = [(name, 1, digest("2"), rollout, 0, False, 0, "confirmed", "", "", now, now) for name in names]
    with fleet.store.write() as connection:
        insert_many(connection, schema.devices, columns, rows)
        insert_many(
            connection,
            schema.assignments,
            (
                *("device", "number", "bundle", "rollout", "stage", "permit_downgrade", "expires_ms"),
                *("phase", "code", "detail", "created_ms", "changed_ms"),
            ),
            orders,
        )
        insert_many(
            connection,
            schema.rollout_members,
            ("rollout", "device", "stage", "bundle", "previous", "number"),
            [(rollout, name, 0, digest("2"), digest("1"), 1) for name in names],
        )
        recount(connection)
        connection.execute(
            update(schema.assignments).where(schema.assignments.c.device == "first").values(phase="confirmed")
        )
    fleet.now_ms -= 1_000
    report(fleet, names, digest("1"))
    fleet.now_ms += 2_000
    fleet.conductor = Conductor(fleet.services)  # rows were written behind its back: as after a restart
    fleet.tick()  # everybody has settled: the stage bakes
    for _ in range(2):
        report(fleet, [*names, "first"], digest("2"))
        fleet.now_ms += 1_000
    return rollout


def report(fleet: Fleet, names: list[str], bundle: str) -> None:
    """A window of each device arrives."""
    made = window(
        bundle,
        400,
        latency_ms=QuantileSketch(bins={n: 40 for n in range(60, 70)}),
        scalars=(ScalarCounts(name="input:x:mean", counts=tuple(FITS)),),
    )
    rows = [window_row((name, EPOCH, 0, fleet.now_ms), made) for name in names]
    with fleet.store.write() as connection:
        insert_many(connection, schema.windows, WINDOW_COLUMNS, rows)


if __name__ == "__main__":
    main()
