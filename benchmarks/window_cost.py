"""What a window costs that arrives while a rollout is at work, by how many its device has sent already.

    python benchmarks/window_cost.py [--windows 1,10,100] [--devices 8] [--bins 20] [--numbers 5]

Half of the devices were reached by one of two stages and report under the release, half are controls under
the one before. "sums" is what a server does (`gathering.py`). The way beside it keeps the windows, and works
all of a device's up again when one comes (by the same code, at once). Bytes are those of tracemalloc, by
device: of all that is worked out, and of the kept windows alone. Times are processor milliseconds by window:
of a look that takes one more of each device in and asks the gates of a plan that names none; medians of
rounds in turns.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from edge_contracts.sketch import Baseline, QuantileSketch, ScalarBaseline
from edge_fleet.assignment import State
from edge_fleet.evidence import BundleFacts, Member, StageEvidence
from edge_fleet.gates import GATES
from edge_fleet.gates.verdict import GateLimit
from edge_fleet.gathering import Gathering, gather
from edge_fleet.reading import Reading

T = TypeVar("T")
ROUNDS = 9
EVERY_S = 60.0


class Arriving:
    """Windows that are handed over and not kept."""

    def __init__(self) -> None:
        """None has arrived."""
        self.now: Mapping[str, Sequence[Reading]] = {}

    def fresh(self) -> Iterator[tuple[str, Sequence[Reading]]]:
        """See `gathering.Windows`."""
        yield from self.now.items()

    def again(self, since_s: Mapping[str, float], fresh: bool) -> Iterator[tuple[str, Sequence[Reading]]]:
        """See `gathering.Windows`."""
        raise SystemExit(f"{len(since_s)} devices are to be read again, expected none")


class Made:
    """Windows as devices send them."""

    def __init__(self, devices: int, bins: int, numbers: int) -> None:
        """Describe the devices."""
        scalars = tuple(
            ScalarBaseline(name=f"n{n}", edges=tuple(map(float, range(9))), counts=(100,) * 10)
            for n in range(numbers)
        )
        base = Baseline(samples=1000, scalars=scalars)
        self.facts = {name: BundleFacts(name, "arm-cpu", base, 50.0) for name in ("new", "old")}
        self.names = [f"device-{n}" for n in range(devices)]
        reached = self.names[: devices // 2]
        self.members = [
            Member(name, n * 2 // len(reached), "new", "old", State.CONFIRMED, 1.0 + n * 2 // len(reached))
            for n, name in enumerate(reached)
        ]
        self._new, self._bins, self._numbers = set(reached), bins, numbers
        self._random = np.random.default_rng(1)

    def of(self, name: str, first: int, upto: int) -> list[Reading]:
        """A device's windows, by their numbers."""
        size = upto - first
        took = self._random.multinomial(120, np.ones(self._bins) / self._bins, size=size).tolist()
        counts = self._random.multinomial(120, np.full(10, 0.1), size=(size, self._numbers)).tolist()
        errors = self._random.integers(0, 3, size=size).tolist()
        heat = self._random.integers(40, 60, size=size).tolist()
        return [
            Reading(
                name,
                "new" if name in self._new else "old",
                10.0 + EVERY_S * number,
                120,
                errors=errors[n],
                latency_ms=QuantileSketch(
                    bins={100 + place: count for place, count in enumerate(took[n]) if count}
                ),
                scalars={f"n{place}": tuple(row) for place, row in enumerate(counts[n])},
                rss_bytes=10**8,
                temperature_c=float(heat[n]),
            )
            for n, number in enumerate(range(first, upto))
        ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--windows", default="1,10,100,1000,10000")
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--bins", type=int, default=20, help="of latency in each window")
    parser.add_argument("--numbers", type=int, default=5, help="that are monitored, of ten bins each")
    options = parser.parse_args()
    made = Made(options.devices, options.bins, options.numbers)
    print("windows   sums: KB  windows kept: KB  ratio   sums: ms  all again: ms  ratio")
    for count in map(int, options.windows.split(",")):
        measure(made, count)


def measure(made: Made, count: int) -> None:
    """Print a row."""
    kept_kb, kept = _held(lambda: {name: made.of(name, 0, count) for name in made.names})
    windows, gathering = Arriving(), Gathering()

    def take(found: Mapping[str, Sequence[Reading]]) -> StageEvidence:
        windows.now = found
        return gathering.look(made.members, windows, made.facts, 1, 0.0, 1)

    def all_taken() -> None:
        judged(take(kept))
        windows.now = {}

    sums_kb, _ = _held(all_taken)
    sums_ms, all_ms = [], []
    for number in range(count, count + ROUNDS):
        found = {name: made.of(name, number, number + 1) for name in made.names}
        for name, own in found.items():
            kept[name] += own
        sums_ms.append(_timed(lambda found=found: judged(take(found))))  # type: ignore[misc]
        all_ms.append(_timed(lambda: judged(everything(made, kept))))
    ours, theirs = (statistics.median(one) / len(made.names) for one in (sums_ms, all_ms))
    kept_kb, sums_kb = kept_kb / len(made.names), sums_kb / len(made.names)
    print(
        f"{count:7}{sums_kb:11.1f}{kept_kb:18.1f}{kept_kb / sums_kb:7.1f}{ours:11.2f}{theirs:15.2f}"
        f"{theirs / ours:7.1f}",
        flush=True,
    )


def everything(made: Made, kept: Mapping[str, Sequence[Reading]]) -> StageEvidence:
    """Evidence from all windows."""
    readings = [one for own in kept.values() for one in own]
    return gather(made.members, readings, made.facts, 1, 0.0)


def judged(found: StageEvidence) -> None:
    """Ask the gates of a plan that names none."""
    for gate in GATES.values():
        if gate.default is not None:
            gate.judge(found, GateLimit(limit=gate.default))


def _held(make: Callable[[], T]) -> tuple[float, T]:
    gc.collect()
    tracemalloc.start()
    found = make()
    gc.collect()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return held / 1000, found


def _timed(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return 1000 * (time.process_time() - began)


if __name__ == "__main__":
    main()
