"""What it costs that a label finds its answer after a restart.

    python benchmarks/label_memory.py [--rounds N]

First table: microseconds of one answer of a tiny model, in rounds that take turns: not remembered (a request
without a name), remembered under the hash of one process, as it would be in memory only, and as it is.
Second table: storing at some rates of answers, over a minute: pages written, bytes, syncs, milliseconds of
the agent's thread; then reading everything back. The disk is that of the temporary folder.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from lineup_models import SURE_X, bundle, open_serving  # noqa: E402

from edge_agent.device.home import Home  # noqa: E402
from edge_agent.doubt.feedback import REMEMBERED, FeedbackBook  # noqa: E402
from edge_agent.doubt.lineup import Lineup  # noqa: E402
from edge_agent.doubt.shelf import Shelf  # noqa: E402
from edge_agent.inference.request import Request  # noqa: E402
from edge_agent.inference.serving import Serving  # noqa: E402

INFERENCES = 2000
RATES = (("1 a minute", 1), ("1 a second", 60), ("30 a second", 1800), ("1,000 a second", 60_000))


class InMemoryOnly(FeedbackBook):
    """Names under Python's own hash, which no other process has."""

    def _name(self, request_id: str) -> int:
        return hash(request_id) or 1


def main() -> None:
    """Measure and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=41)
    with tempfile.TemporaryDirectory() as scratch:
        serving = open_serving(Path(scratch), bundle())
        answering(serving, parser.parse_args().rounds)
        print()
        storing(serving, Path(scratch))


def answering(serving: Serving, rounds: int) -> None:
    """The first table."""
    kinds = {
        "not remembered": (Lineup(FeedbackBook()), ""),
        "in memory only": (Lineup(InMemoryOnly()), "camera-7:"),
        "over restarts": (Lineup(FeedbackBook()), "camera-7:"),
    }
    names = [str(n) for n in range(INFERENCES)]
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(rounds + 1):
        for kind, (lineup, prefix) in kinds.items():
            requests = [Request({"x": SURE_X}, origin=prefix and prefix + name) for name in names]
            began = perf_counter()
            for request in requests:
                lineup.answer(serving, request)
            taken[kind].append((perf_counter() - began) / INFERENCES * 1e6)
    floor = np.array(taken["not remembered"][1:])
    print(f"{'microseconds of an answer':26} {'median':>8} {'added':>8} {'ratio':>8}")
    for kind, times in taken.items():
        own = np.array(times[1:])
        added, ratio = statistics.median(own - floor), statistics.median(own / floor)
        print(f"{kind:26} {statistics.median(own):8.2f} {added:8.2f} {ratio:8.2f}")


def storing(serving: Serving, scratch: Path) -> None:
    """The second table."""
    answer = serving.infer({"x": SURE_X})
    real, syncs = os.fsync, [0]

    def counted(fd: Any) -> None:
        syncs[0] += 1
        real(fd)

    os.fsync = counted
    print(f"{'a minute at':18} {'pages':>6} {'KB':>8} {'syncs':>6} {'ms':>8} {'MB a day':>9}")
    for index, (rate, answers) in enumerate(RATES):
        home = Home(scratch / str(index))
        home.folder.mkdir()
        book, shelf = FeedbackBook(), Shelf(home)
        for n in range(REMEMBERED // 2 + 1000 + answers):  # a book that is in use, in the middle of a page
            book.remember(f"r{n}", serving, answer, (0.5,))
            if n == REMEMBERED // 2 + 999:
                shelf.store(book)
        before = {path: path.stat().st_mtime_ns for path in (home.folder / "answers").iterdir()}
        syncs[0] = 0
        began = perf_counter()
        shelf.store(book)
        took_ms = (perf_counter() - began) * 1e3
        after = list((home.folder / "answers").iterdir())
        written = [path for path in after if path.stat().st_mtime_ns != before.get(path)]
        size = sum(path.stat().st_size for path in written)
        a_day = size * 1440 / 1e6
        print(f"{rate:18} {len(written):6} {size / 1e3:8.1f} {syncs[0]:6} {took_ms:8.1f} {a_day:9.1f}")
        began = perf_counter()
        Shelf(home).load()
        loaded_ms = (perf_counter() - began) * 1e3
    os.fsync = real
    total = sum(path.stat().st_size for path in after)
    print(f"reading {total / 1e6:.2f} MB back at a start: {loaded_ms:.1f} ms")


if __name__ == "__main__":
    main()
