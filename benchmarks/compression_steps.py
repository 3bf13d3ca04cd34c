"""What each step of int8 compression gains: SQNR of the outputs, the steps switched on one after the other.

    python benchmarks/compression_steps.py [--rounds N]

First table: one row for each recipe, on the MLPerf Tiny models; ranges from three quarters of the calibration
samples, as in a build, figures from evaluation samples, in LiteRT. Second table: the best of these recipes
with layers kept in float by `mixed.py`, and what that costs in time; medians of interleaved rounds, and the
ratios to int8 throughout as medians over neighbouring pairs. What the data are, `conversion_cases.py` says.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from statistics import median

from conversion_cases import Case, cases
from threadpoolctl import threadpool_limits

from edge_contracts.profile import load_profile
from edge_convert import candidates, recipe, reference
from edge_convert.candidates import Candidate
from edge_convert.data import split
from edge_convert.graph import Array, Graph
from edge_convert.measures import score, unsaturated
from edge_convert.quantizing import mixed
from edge_convert.quantizing.quantize import rules_for
from edge_convert.quantizing.quantizer import Quantizer
from edge_convert.source import read_source
from edge_convert.terminal import table
from edge_convert.timing import ROUNDS, interleaved_ms

STEPS = {
    "wi8_ai8_minmax": "ranges over everything seen",
    "wi8m_ai8_mse_bc": "ranges and weight scales by squared error, biases corrected",
    "wi8m_ai8_mse_lsr": "the same, weights rounded by least squares",
    "wi8m_ai8_mse_eq_lsr": "ranges by squared error, channels equalized",
    "wi8m_ai8_minmax_eq_lsr": "ranges over everything seen, channels equalized",
}
RULES = rules_for(load_profile("x86-cpu"))


@dataclass(frozen=True, eq=False)
class Bench:
    """One model, ready to be quantized and judged."""

    case: Case
    graph: Graph
    quantizer: Quantizer
    wanted: Array

    def made(self, name: str, kept: frozenset[str] = frozenset()) -> Candidate:
        """The model by one recipe."""
        chosen = recipe.load(name)
        quantization = self.quantizer.quantize(chosen, RULES, kept)
        return candidates.written(self.graph, "tflite", chosen, quantization, kept)

    def sqnr_db(self, candidate: Candidate) -> float:
        """Of the outputs on the evaluation samples."""
        feeds = {self.graph.inputs[0].name: self.case.evaluation}
        answers = candidate.model.run(feeds)[self.graph.outputs[0].name]
        ratio = score.sqnr_db(self.wanted, answers)
        return float("inf") if ratio is None else ratio


def main() -> None:
    """Quantize, measure and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = parser.parse_args().rounds
    threadpool_limits(1)  # numpy's BLAS, as in the product
    benches = [_bench(case) for case in cases()]
    made = {name: [bench.made(name) for bench in benches] for name in STEPS}
    ratios = {
        name: [bench.sqnr_db(one) for bench, one in zip(benches, row, strict=True)]
        for name, row in made.items()
    }
    head = ("steps", "recipe", *(bench.case.name.split("(")[1].rstrip(")") for bench in benches))
    print(table(head, [(STEPS[name], name, *(f"{r:.1f}" for r in row)) for name, row in ratios.items()]))
    print()
    rows: list[tuple[str, ...]] = []
    for index, bench in enumerate(benches):
        best = max(STEPS, key=lambda name: ratios[name][index])
        rows += _mixed(bench, made[best][index], rounds)
    print(table(("model", "kept in float", "SQNR dB", "median ms", "of int8"), rows))


def _bench(case: Case) -> Bench:
    graph = read_source(case.source).graph
    name, out = graph.inputs[0].name, graph.outputs[0].name
    ranges = case.calibration[split(len(case.calibration), has_evaluation=True).ranges]
    return Bench(
        case, graph, Quantizer(graph, {name: ranges}), reference.run(graph, {name: case.evaluation})[out]
    )


def _mixed(bench: Bench, plain: Candidate, rounds: int) -> list[tuple[str, ...]]:
    chosen = split(len(bench.case.calibration), has_evaluation=True).selection
    feeds = {bench.graph.inputs[0].name: bench.case.calibration[chosen]}
    assert plain.quantization is not None
    costs = unsaturated.layer_costs(bench.graph, plain.quantization, feeds)
    forms = {"nothing": plain}
    for kept in mixed.sets(bench.graph, RULES, costs):
        forms[", ".join(n.name for n in bench.graph.nodes if n.name in kept)] = bench.made(
            plain.recipe.name, kept
        )
    sample = {name: values[:1] for name, values in feeds.items()}
    calls = {name: one.model.engine.repeat(one.model.encoded(sample)) for name, one in forms.items()}
    times = interleaved_ms(calls, rounds)
    return [
        (
            bench.case.name,
            name,
            f"{bench.sqnr_db(one):.1f}",
            f"{median(times[name]):.4f}",
            f"{median(a / b for a, b in zip(times[name], times['nothing'], strict=True)):.2f}",
        )
        for name, one in forms.items()
    ]


if __name__ == "__main__":
    main()
