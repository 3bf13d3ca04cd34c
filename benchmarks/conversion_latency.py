"""Latency of our artifacts, of MLPerf's own int8 files, and of the float files they stand for.

    python benchmarks/conversion_latency.py [--rounds N]

One thread, batch 1, interleaved rounds; medians over the rounds, ratios to the float file as medians
over pairs of neighbouring rounds. "speed" is MLPerf's time over a file's, in the same way; "pruned" is with
`--prune auto`, the default of `edge-convert build`, and what its gates let through. "LiteRT" is our x86-cpu
artifact, "OpenVINO" the one for Intel's NPU on the CPU device. The figures are this host's, with whatever
else it does.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median

from conversion_cases import Case, Contestant, cases, converted, shipped

from edge_convert.terminal import table
from edge_convert.timing import ROUNDS, interleaved_ms

HEAD = ("model", "form", "runtime", "kB", "median ms", "fastest ms", "of float", "speed")


def main() -> None:
    """Convert, time and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2 * ROUNDS)
    rounds = parser.parse_args().rounds
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases():
            contestants = {
                "float": shipped(case.source),
                "MLPerf int8": shipped(case.twin),
                "edgefleet x86-cpu": converted(case, "x86-cpu", Path(folder))[1],
                "edgefleet x86-cpu, pruned": converted(case, "x86-cpu", Path(folder), "auto")[1],
                "edgefleet intel-npu": converted(case, "intel-npu", Path(folder))[1],
            }
            rows += _timed(case, contestants, rounds)
    print(table(HEAD, rows))


def _timed(case: Case, contestants: dict[str, Contestant], rounds: int) -> list[tuple[str, ...]]:
    sample = case.evaluation[:1]
    times = interleaved_ms(
        {name: c.engine.repeat(c.bound(sample)) for name, c in contestants.items()}, rounds
    )
    return [
        (
            case.name,
            name,
            contestant.engine.runtime,
            f"{contestant.bytes / 1000:.1f}",
            f"{median(times[name]):.4f}",
            f"{min(times[name]):.4f}",
            f"{median(a / b for a, b in zip(times[name], times['float'], strict=True)):.2f}",
            f"{median(a / b for a, b in zip(times['MLPerf int8'], times[name], strict=True)):.2f}",
        )
        for name, contestant in contestants.items()
    ]


if __name__ == "__main__":
    main()
