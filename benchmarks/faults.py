"""Faults survived: an end of the process, or of the power, at every operation of a device's life on its disk.

    python benchmarks/faults.py [--random 1000] [--sigkill 100] [--every 1] [--jobs 6]

A life of updates, rollbacks, telemetry and an install by hand is recorded under a shim that sees every
write, rename, sync, unlink and mkdir, SQLite's too (tests/support/fault_*). Then the real daemon is
started on what the disk holds

* killed: after each operation, with everything that was written up to then (what a kill leaves);
* power cut: after each operation, with nothing but what was synced;
* at random: after random operations, with random parts of what was not synced: sectors, lengths, names;
* SIGKILL: of a real process at random operations, every other time in the middle of a write.

Lost: something that the world had been told of (an envelope, a counter, a snapshot's number) is gone or
changed. Bricked: it does not start, or answers with no verified bundle or the wrong one. Untrue: it
reports another bundle than the one that answers. At the end the same cuts without some of the syncs, to
see that the harness notices. Needs a C compiler; about half an hour on two cores.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from fault_disk import Operation  # noqa: E402
from fault_harness import (  # noqa: E402
    Case,
    Outcome,
    Recording,
    build_shim,
    cuts,
    judge_all,
    kills,
    random_cuts,
    really_killed,
    record,
)

PARTS = ("killed", "cut", "random", "sigkill", "left-out")
LEFT_OUT: dict[str, Callable[[Operation], bool]] = {
    "of the state, before it is renamed": lambda o: o.path.endswith("state.json.new"),
    "of the home's names": lambda o: o.path == "home",
    "of a slot's files": lambda o: "/slots/" in o.path and o.path.count("/") > 2,
    "of the slots' names": lambda o: o.path == "home/slots",
    "of the outbox's log": lambda o: o.path.endswith("outbox.db-wal"),
    "of a publisher's key": lambda o: o.path.endswith("trusted.json.new"),
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--random", type=int, default=1000, help="random power cuts [default: 1000]")
    parser.add_argument("--sigkill", type=int, default=100, help="processes that are killed [default: 100]")
    parser.add_argument("--every", type=int, default=1, help="take every so many-th operation [default: all]")
    parser.add_argument("--jobs", type=int, default=6, help="devices at a time [default: 6]")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=PARTS, action="append", help="a part of the tables; repeatable")
    asked = parser.parse_args()
    random, parts = Random(asked.seed), asked.only or PARTS
    with tempfile.TemporaryDirectory(prefix="edge-faults-") as scratch:
        folder = Path(scratch)
        shim = build_shim(folder)
        recording = record(folder / "life", shim)
        print("| step of the life | operations on the disk |\n|---|---|")
        for step in recording.steps:
            print(f"| {step.name} | {len(step.points)} |")
        total = sum(len(step.points) for step in recording.steps)
        print(f"| all | {total} |\n", flush=True)
        print("| fault | cases | lost | bricked | untrue |\n|---|---|---|---|---|", flush=True)
        rows: tuple[tuple[str, str, Iterable[Case]], ...] = (
            ("killed", "killed after each operation", kills(recording, asked.every)),
            ("cut", "power cut after each operation, only what was synced", cuts(recording, asked.every)),
            (
                "random",
                "power cut at random, random part of the rest",
                random_cuts(recording, asked.random, random),
            ),
            (
                "sigkill",
                "SIGKILL of a real process, half of them in the middle of a write",
                _real(recording, asked.sigkill, random, shim, folder / "killed"),
            ),
        )
        wrong: list[Outcome] = []
        for part, name, cases in rows:
            if part not in parts:
                continue
            found = list(judge_all(recording, cases, folder / "runs", asked.jobs))
            print(f"| {name} | {_counts(found)} |", flush=True)
            wrong += [outcome for outcome in found if outcome.faults]
        for outcome in wrong:
            print(f"\n{outcome.what}: {'; '.join(outcome.faults)}", flush=True)
        if "left-out" not in parts:
            sys.exit(bool(wrong))
        print("\n| syncs left out | cases | lost | bricked | untrue |\n|---|---|---|---|---|", flush=True)
        for name, matches in LEFT_OUT.items():
            poorer = recording.without(lambda o, matches=matches: o.kind == "sync" and matches(o))  # type: ignore[misc]
            found = list(judge_all(recording, cuts(poorer, max(3, asked.every)), folder / "runs", asked.jobs))
            print(f"| {name} | {_counts(found)} |", flush=True)
    sys.exit(bool(wrong))


def _real(recording: Recording, count: int, random: Random, shim: Path, folder: Path) -> Iterable[Case]:
    for number in range(count):
        step = random.choice(recording.steps)
        at = random.randint(1, len(step.points))
        yield really_killed(recording, step, at, number % 2 == 1, shim, folder)


def _counts(found: list[Outcome]) -> str:
    sums = [sum(bool(getattr(o, kind)) for o in found) for kind in ("lost", "bricked", "untrue")]
    return " | ".join(map(str, [len(found), *sums]))


if __name__ == "__main__":
    main()
