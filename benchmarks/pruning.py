"""Pruned and quantized artifacts beside MLPerf's own int8 files: speed, size, and what the answers lose.

    python benchmarks/pruning.py [--rounds N] [--steps N] [--models NAME ...]

From the float file and unlabelled calibration samples alone. The float columns are of the form before it is
quantized. Agreement is the share of evaluation samples with the source's class, "bal" its mean over the
source's classes. Speed is the median of the paired ratios of interleaved rounds to MLPerf's int8 file on
LiteRT, one thread, "fastest" that of the fastest rounds, which neighbours disturb least; "predicted" is the
time model's, to the source. Only the keywords have labels: their
accuracy change is paired with the float source's, with its standard error. The pictures are crops of natural
scenes, not the data that the picture models were trained on: agreement bounds their loss and does not tell
it. CPU seconds are of making the form from the one before, distillation (extra [torch]) included.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

import numpy as np
from conversion_cases import Array, Case, Contestant, cases, shipped
from time_model import steady_heap

from edge_contracts.profile import load_profile
from edge_convert import candidates, reference
from edge_convert.graph import Graph
from edge_convert.measures.compare import compare
from edge_convert.pruning import distill
from edge_convert.pruning.prune import LadderOptions, Pruned, ladder
from edge_convert.quantizing.quantize import rules_for
from edge_convert.quantizing.quantizer import Quantizer
from edge_convert.source import read_source
from edge_convert.terminal import table
from edge_convert.timing import ROUNDS, interleaved_ms

HEAD = (
    "model", "form", "float agree", "bal", "int8 agree", "bal", "int8 points", "kB", "of MLPerf",
    "speed", "fastest", "predicted", "CPU s",
)  # fmt: skip
SHARES = {"ic": (0.95, 0.9), "vww": (0.97, 0.95, 0.9), "kws": (0.95, 0.9, 0.85, 0.75)}
TAUGHT = {"ic": (0.5,), "vww": (0.6,), "kws": (0.75, 0.6)}
RECIPES = ("wi8_ai8_minmax_bc", "wi8_ai8_mse_bc")


@dataclass(frozen=True, eq=False)
class Row:
    """One form, made: what it answers in float and in int8."""

    name: str
    pruned: Pruned
    floats: Array
    int8s: Array
    contestant: Contestant
    seconds: float


def forms(graph: Graph, feeds: dict[str, Array], key: str, steps: int) -> Iterator[tuple[str, Pruned, float]]:
    """The ladder by least squares, and then, where it can be had, that of moved strides and distillation."""
    start = time.process_time()
    for index, form in enumerate(ladder(graph, feeds, LadderOptions(shares=SHARES[key], thin=True))):
        yield "lossless" if form.lossless else f"step {index}", form, time.process_time() - start
        start = time.process_time()
    if reason := distill.why_not(graph, graph):
        print(f"no taught forms: {reason}")
        return
    options = LadderOptions(shares=TAUGHT[key], thin=True, hoist=True, distill=distill.DistillOptions(steps))
    for index, form in enumerate(ladder(graph, feeds, options)):
        if not form.lossless:
            moved = ", stride moved" if "stride moved" in form.summary else ""
            yield f"taught {index}{moved}", form, time.process_time() - start
        start = time.process_time()


def rows(case: Case, key: str, steps: int) -> Iterator[Row]:
    """Every form of a case, quantized by the better of two recipes on calibration samples."""
    graph = read_source(case.source).graph
    port, out = graph.inputs[0].name, graph.outputs[0].name
    feeds, unseen = {port: case.calibration}, {port: case.evaluation}
    rules = rules_for(load_profile("x86-cpu"))
    for name, form, seconds in forms(graph, feeds, key, steps):
        start = time.process_time()
        quantizer = Quantizer(form.graph, feeds)
        wanted = reference.run(graph, {port: case.calibration[:64]})
        best: tuple[float, candidates.Candidate] | None = None
        for recipe in (r for r in candidates.recipes_for("int8") if r.name in RECIPES):
            made = candidates.written(form.graph, "tflite", recipe, quantizer.quantize(recipe, rules))
            answers = made.model.run({port: case.calibration[:64]})
            noise = -(compare(wanted, answers, "classification").sqnr_db or np.inf)
            if best is None or noise < best[0]:
                best = noise, made
        assert best is not None
        model = best[1].model
        floats = reference.run(form.graph, unseen)[out]
        contestant = Contestant(model.engine, model.inputs[0], model.outputs[0], best[1].bytes)
        int8s = model.run(unseen)[out]
        yield Row(name, form, floats, int8s, contestant, seconds + time.process_time() - start)


def agreement(wanted: Array, found: Array) -> tuple[float, float]:
    """Share with the same class, and its mean over the classes that are wanted."""
    classes = wanted.argmax(axis=-1).ravel()
    same = classes == found.argmax(axis=-1).ravel()
    return float(same.mean()), float(np.mean([same[classes == c].mean() for c in np.unique(classes)]))


def points(case: Case, wanted: Array, found: Array) -> str:
    """Paired change of accuracy, percentage points, with its standard error."""
    if case.labels is None:
        return "-"
    right = [(a.argmax(axis=-1).ravel() == case.labels).astype(float) for a in (wanted, found)]
    change = 100 * (right[1] - right[0])
    return f"{change.mean():+.1f} +- {change.std(ddof=1) / np.sqrt(len(change)):.1f}"


def report(case: Case, key: str, rounds: int, steps: int) -> list[tuple[str, ...]]:
    """Rows of the table for one model."""
    graph = read_source(case.source).graph
    wanted = reference.run(graph, {graph.inputs[0].name: case.evaluation})[graph.outputs[0].name]
    twin = shipped(case.twin)
    made = list(rows(case, key, steps))
    sample = case.evaluation[:1]
    calls = {"twin": twin.engine.repeat(twin.bound(sample))}
    calls |= {row.name: row.contestant.engine.repeat(row.contestant.bound(sample)) for row in made}
    times = interleaved_ms(calls, rounds)
    theirs = twin.answers(case.evaluation)
    lines = [
        (key, "MLPerf int8", "", "", *(f"{a:.3f}" for a in agreement(wanted, theirs)),
         points(case, wanted, theirs), f"{twin.bytes / 1000:.1f}", "1.00", "1.00", "1.00", "", "")
    ]  # fmt: skip
    for row in made:
        speed = median(a / b for a, b in zip(times["twin"], times[row.name], strict=True))
        fastest = min(times["twin"]) / min(times[row.name])
        lines.append(
            (key, row.name, *(f"{a:.3f}" for a in agreement(wanted, row.floats)),
             *(f"{a:.3f}" for a in agreement(wanted, row.int8s)), points(case, wanted, row.int8s),
             f"{row.contestant.bytes / 1000:.1f}", f"{row.contestant.bytes / twin.bytes:.2f}",
             f"{speed:.2f}", f"{fastest:.2f}", f"{row.pruned.speedup:.2f}", f"{row.seconds:.0f}")
        )  # fmt: skip
    for row in made:
        print(f"{key}, {row.name}: {row.pruned.summary}", flush=True)
    print()
    return lines


def main() -> None:
    """Prune, quantize, time and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2 * ROUNDS)
    parser.add_argument("--steps", type=int, default=700, help="of distillation, for each taught form")
    parser.add_argument("--models", nargs="*", default=list(SHARES), choices=list(SHARES))
    options = parser.parse_args()
    steady_heap()
    lines: list[tuple[str, ...]] = []
    for case, key in zip(cases(), ("ic", "vww", "kws"), strict=False):
        if key not in options.models:
            continue
        lines += report(case, key, options.rounds, options.steps)
    print(table(HEAD, lines))


if __name__ == "__main__":
    main()
