"""Conversion quality and time: our int8 artifacts beside MLPerf's own and the stock quantizers'.

    python benchmarks/conversion_quality.py [--profile NAME] [--rounds N]

Every model is converted by the product itself, by automatic search on the graph as it is (nothing pruned),
once as by default and once for the least noise, calibrated on calibration samples, and compared on
evaluation samples that chose nothing in the build; a few constants of ours were settled while looking at
them. "+5float" keeps five nodes in float.
The stock quantizers get the same network and calibration samples (`conversion_peers.py`); they are absent
where the extra `benchmarks` is not installed. Not like for like: MLPerf calibrated on training data, which
are not here. All answers are held against the float network that all contestants get. For keywords that is
not what its file answers in LiteRT, which rounds activations to int8 as it goes: 38 dB from its own weights
in float. "Lost" is the accuracy lost against float on the same labelled samples, with the standard error of
that paired difference.

The second table is the work from the float network in memory to the quantized model in memory, calibration
included: ours by one recipe, medians of interleaved rounds. CPU seconds of all threads, which a neighbour's
work moves less than the clock's.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from conversion_cases import Case, cases, converted, shipped
from conversion_peers import PEERS, Peer, installed, quiet
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from edge_contracts.manifest import Provenance
from edge_contracts.profile import load_profile
from edge_convert import recipe as recipes
from edge_convert.candidates import EMIT
from edge_convert.graph import Graph
from edge_convert.measures import score
from edge_convert.preference import Prefer
from edge_convert.quantizing.quantize import rules_for
from edge_convert.quantizing.quantizer import Quantizer
from edge_convert.reference import run as reference_of
from edge_convert.source import read_source
from edge_convert.terminal import table

Array = NDArray[Any]
HEAD = ("model", "int8 by", "kB", "SQNR dB", "same class", "accuracy", "lost")
TIME_HEAD = ("model", "int8 by", "CPU seconds", "of the fastest stock tool")
# the default, and the least noise at whatever it costs: its layers in float make it larger and slower
PREFERENCES: tuple[Prefer, ...] = ("balanced", "accuracy")
RECIPE = "wi8m_ai8_minmax_eq_lsr"


def main() -> None:
    """Convert, compare and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="x86-cpu", help="profile of an int8 artifact that runs here")
    parser.add_argument("--rounds", type=int, default=3, help="of the measurement of time")
    arguments = parser.parse_args()
    peers = [peer for peer in PEERS if installed(peer)]
    rows, times = [], []
    # numpy's BLAS on one thread, as in the product, which says so before it imports numpy
    with threadpool_limits(1), tempfile.TemporaryDirectory() as folder:
        for case in cases():
            source = read_source(case.source)
            (into,), (out,) = source.graph.inputs, source.graph.outputs
            if source.hybrid:
                answered = reference_of(source.graph, {into.name: case.evaluation})
            else:
                answered = source.open().run({into.name: case.evaluation})
            reference = answered[out.name]
            for prefer in PREFERENCES:
                bundle, ours = converted(case, arguments.profile, Path(folder), prefer=prefer)
                maker = f"edgefleet ({_named(bundle.manifest.provenance)})"
                rows.append(_row(case, maker, ours.bytes, reference, ours.answers(case.evaluation)))
            twin = shipped(case.twin)
            rows.append(_row(case, "MLPerf", twin.bytes, reference, twin.answers(case.evaluation)))
            for peer in peers:
                with quiet():
                    made = peer.quantize(peer.source(source.graph), case.calibration)
                    answers = peer.open(made)(case.evaluation)
                rows.append(_row(case, peer.name, peer.size(made), reference, answers))
            times += _times(case, source.graph, peers, arguments.profile, arguments.rounds)
    print(table(HEAD, rows))
    print()
    print(table(TIME_HEAD, times))


def _named(origin: Provenance) -> str:
    kept = f"+{len(origin.kept_float)}float" if origin.kept_float else ""
    return origin.recipe.split("@")[0] + kept


def _row(case: Case, maker: str, size: int, reference: Array, answers: Array) -> tuple[str, ...]:
    ratio = score.sqnr_db(reference, answers)
    classifies = answers.shape != case.evaluation.shape
    accuracy = ("-", "-")
    if case.labels is not None:
        lost, error = lost_points(reference, answers, case.labels)
        accuracy = (f"{score.accuracy(answers, case.labels):.2%}", f"{lost:+.2f} ± {error:.2f} points")
    return (
        case.name,
        maker,
        f"{size / 1000:.1f}",
        "exact" if ratio is None else f"{ratio:.1f}",
        f"{score.agreement(reference, answers):.1%}" if classifies else "-",
        *accuracy,
    )


def lost_points(reference: Array, answers: Array, labels: Array) -> tuple[float, float]:
    """Accuracy lost on the same samples, and the standard error of that, both in percentage points."""
    right = [(array.argmax(axis=-1) == labels).astype(np.float64) for array in (reference, answers)]
    difference = right[0] - right[1]
    return 100 * float(difference.mean()), 100 * float(difference.std(ddof=1) / np.sqrt(len(difference)))


def _times(case: Case, graph: Graph, peers: list[Peer], profile: str, rounds: int) -> list[tuple[str, ...]]:
    """CPU seconds of each tool, in interleaved rounds."""
    calls: dict[str, Callable[[], object]] = {f"edgefleet ({RECIPE})": lambda: _ours(case, graph, profile)}
    for peer in peers:
        calls[peer.name] = _call(peer, peer.source(graph), case.calibration)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            with quiet():
                start = time.process_time()
                call()
                seconds[name].append(time.process_time() - start)
    medians = {name: median(values) for name, values in seconds.items()}
    stock = min((medians[peer.name] for peer in peers), default=None)
    return [
        (case.name, name, f"{value:.2f}", "-" if stock is None else f"{value / stock:.1f}")
        for name, value in medians.items()
    ]


def _ours(case: Case, graph: Graph, profile: str) -> object:
    """One recipe, from the graph to the file's bytes."""
    known = load_profile(profile)
    feeds = {graph.inputs[0].name: case.calibration}
    quantization = Quantizer(graph, feeds).quantize(recipes.load(RECIPE), rules_for(known))
    return EMIT[known.target](graph, quantization, "float32")


def _call(peer: Peer, source: Any, samples: Array) -> Callable[[], object]:
    return lambda: peer.quantize(source, samples)


if __name__ == "__main__":
    main()
