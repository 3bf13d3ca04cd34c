"""The workbench: candidates of one target, made, ranked and measured once for all its profiles.

Profiles with the same target and the same demands share candidates; only size and precision order
differ. Everything slow happens here, and only when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import median

from edge_contracts.manifest import Score
from edge_contracts.profile import DeviceProfile
from edge_convert import candidates, costs, time_model
from edge_convert.binding import Model
from edge_convert.candidates import Candidate
from edge_convert.evidence import Evidence
from edge_convert.explain.depth import noise_by_depth
from edge_convert.gates import SliceDrop
from edge_convert.graph import Graph
from edge_convert.measures import pairs, score, slices, unsaturated
from edge_convert.measures.compare import Histogram, compare, error_histogram
from edge_convert.measures.pairs import Pair
from edge_convert.measures.score import LayerCost
from edge_convert.measures.unsaturated import Unsaturated
from edge_convert.quantizing import mixed
from edge_convert.quantizing.quantize import rules_for
from edge_convert.quantizing.quantizer import Quantizer
from edge_convert.recipe import Recipe
from edge_convert.terminal import Step
from edge_convert.timing import interleaved_ms

NOT_PRUNED = "none"
LAYER_SAMPLES = 16
PROPOSAL_SAMPLES = 64
LAYER_MACS = 20e9  # every layer runs the whole graph once more: seconds for small models, hours for large


@dataclass(frozen=True, eq=False)
class Measured:
    """A candidate's figures on samples that chose nothing.

    Args:
        pair: Its answers beside the source's.
        slices: What each class and slice loses.
        candidate_ms, source_ms: One inference in each interleaved round; empty when not timed.
    """

    score: Score
    histogram: Histogram | None
    candidate_ms: list[float]
    source_ms: list[float]
    pair: Pair
    slices: tuple[SliceDrop, ...]

    @property
    def medians(self) -> tuple[float | None, float | None, float | None]:
        """Of the candidate's time, of the source's, and of the rounds' ratios of the two."""
        if not self.candidate_ms:
            return None, None, None
        ratios = [ours / theirs for ours, theirs in zip(self.candidate_ms, self.source_ms, strict=True)]
        return median(self.candidate_ms), median(self.source_ms), median(ratios)


@dataclass(frozen=True, eq=False)
class Form:
    """The graph as it is to be compressed.

    Args:
        name: "none" for the graph as it is, else as `--prune` takes it.
        pruning: What pruning did, as the provenance says it; NOT_PRUNED when it was not asked for.
        pruned: Whether anything was removed.
    """

    graph: Graph
    pruning: str = NOT_PRUNED
    pruned: bool = False
    name: str = NOT_PRUNED

    @property
    def said(self) -> str:
        """How a line of progress tells it from the graph as it was."""
        return "" if self.name == NOT_PRUNED else f", pruning {self.name}"


@dataclass(frozen=True, eq=False)
class Baseline:
    """What candidates are held against.

    Args:
        model: Runs beside each candidate when it is timed.
        weight_bytes: Of the float32 form.
        name: For sentences.
    """

    model: Model
    weight_bytes: int
    name: str


class Workbench:
    """Candidates for one form of the graph and one target's demands."""

    def __init__(
        self,
        form: Form,
        profile: DeviceProfile,
        evidence: Evidence,
        unsaturated: Unsaturated,
        quantizer: Quantizer,
        baseline: Baseline | None,
        timed: bool,
        step: Step,
    ) -> None:
        """Set up; nothing is made yet.

        Args:
            unsaturated: Of the whole graph, on the samples that choose.
            quantizer: Of this form's graph.
            baseline: What the candidates are held against in speed and size; None for this form's own
                float32 form, which stands for a source that this target's runtime cannot run.
            timed: Whether to measure latency.
        """
        self.form, self._profile, self._evidence = form, profile, evidence
        self._unsaturated = unsaturated
        self._quantizer, self._timed, self._step = quantizer, timed, step
        self._made: dict[str, Candidate] = {}
        self._ranked: dict[str, Score] = {}
        self._measured: dict[str, Measured] = {}
        self._layers: dict[str, tuple[LayerCost, ...]] = {}
        self._depth: dict[str, tuple[LayerCost, ...]] = {}
        step(f"{profile.target}: writing float32")
        self.float_form = candidates.float_form(form.graph, profile.target)
        self.baseline = baseline or Baseline(
            self.float_form.model, self.float_form.weight_bytes, "the source's float32 form"
        )

    @property
    def runtime(self) -> str:
        """What runs this target's files on this host."""
        return self.float_form.model.engine.runtime

    def made(self, recipe: Recipe) -> Candidate:
        """The candidate of a recipe."""
        if recipe.name not in self._made:
            self._made[recipe.name] = self._make(recipe)
        return self._made[recipe.name]

    def _make(self, recipe: Recipe) -> Candidate:
        if recipe.precision == "float32":
            return self.float_form
        target = self._profile.target
        self._step(f"{target}: recipe {recipe.name}{self.form.said}")
        quantization = None
        if recipe.precision == "int8":
            quantization = self._quantizer.quantize(recipe, rules_for(self._profile))
        return candidates.written(self.form.graph, target, recipe, quantization)

    def mixed(self, recipe: Recipe) -> Iterator[Candidate]:
        """A recipe's candidate with more and more layers in float; none where nothing is proposed."""
        rules, graph = rules_for(self._profile), self.form.graph
        for kept, quantization in mixed.ladder(
            graph, self._quantizer, recipe, rules, self._costs(recipe), time_model.cpu_of(self._profile)
        ):
            self._step(f"{self._profile.target}: {recipe.name}, {len(kept)} layers in float")
            yield candidates.written(graph, self._profile.target, recipe, quantization, kept)

    def _costs(self, recipe: Recipe) -> tuple[LayerCost, ...]:
        """What each layer of a recipe's candidate costs, as layers in float are proposed by."""
        candidate, samples = self.made(recipe), self._affordable(PROPOSAL_SAMPLES)
        if candidate.quantization is None or samples == 0:
            return ()
        self._step(f"{self._profile.target}: which layers of {candidate.name} to keep in float")
        feeds = {k: v[:samples] for k, v in self._evidence.selection.feeds.items()}
        return unsaturated.layer_costs(self.form.graph, candidate.quantization, feeds)

    def _affordable(self, most: int) -> int:
        """Samples that every layer may be run on once."""
        return min(most, int(LAYER_MACS / max(1, costs.macs(self.form.graph) * len(self.form.graph.nodes))))

    def ranked(self, candidate: Candidate) -> Score:
        """A candidate's figures on the samples that choose."""
        name = candidate.name
        if name not in self._ranked:
            samples = self._evidence.selection
            answers = candidate.model.run(samples.feeds)
            self._ranked[name] = compare(samples.answers, answers, self._evidence.task, samples.classes)
        return self._ranked[name]

    def unsaturated_db(self, candidate: Candidate) -> float | None:
        """Noise of a quantized candidate before what saturates its answers, where that can be asked."""
        if candidate.quantization is None:
            return None
        return self._unsaturated.sqnr_db(self.form.graph, candidate.quantization)

    def predicted_us(self, candidate: Candidate) -> float:
        """Predicted time of one inference, microseconds: to compare candidates, not to promise anything."""
        graph, precision = self.form.graph, candidate.recipe.precision
        cpu = time_model.cpu_of(self._profile)
        own = time_model.by_node(graph, precision, cpu)
        if not candidate.kept_float:
            return sum(own.values())
        kept = time_model.by_node(graph, "float32", cpu)
        total = sum(kept[name] if name in candidate.kept_float else us for name, us in own.items())
        return total + time_model.conversions_us(mixed.borders(graph, candidate.kept_float), cpu)

    def measured(self, candidate: Candidate) -> Measured:
        """Figures of a candidate on the held-out samples, and its speed beside the source's."""
        name = candidate.name
        if name not in self._measured:
            self._step(f"{self._profile.target}: measuring {name}")
            samples = self._evidence.held_out
            answers = candidate.model.run(samples.feeds)
            times: dict[str, list[float]] = {"candidate": [], "source": []}
            if self._timed:
                times = self._time(candidate.model)
            compared = pairs.pair(self._evidence.task, samples, answers, pairs.floor_of(candidate.model))
            self._measured[name] = Measured(
                pairs.scored(compared),
                error_histogram(samples.answers, answers),
                times["candidate"],
                times["source"],
                compared,
                slices.of(compared),
            )
        return self._measured[name]

    def timed_again(self, candidate: Candidate) -> Measured:
        """The same figures with a fresh measurement of the time."""
        self._step(f"{self._profile.target}: timing {candidate.name} again")
        times = self._time(candidate.model)
        again = replace(self.measured(candidate), candidate_ms=times["candidate"], source_ms=times["source"])
        self._measured[candidate.name] = again
        return again

    def _time(self, model: Model) -> dict[str, list[float]]:
        sample = {name: values[:1] for name, values in self._evidence.held_out.feeds.items()}
        return interleaved_ms(
            {
                "source": self.baseline.model.engine.repeat(self.baseline.model.encoded(sample)),
                "candidate": model.engine.repeat(model.encoded(sample)),
            }
        )

    def layers(self, candidate: Candidate) -> tuple[LayerCost, ...]:
        """What each layer of a quantized candidate costs, the most expensive first.

        Empty for a model so large that it would take too long.
        """
        name = candidate.name
        samples = self._affordable(LAYER_SAMPLES)
        if candidate.quantization is None or samples == 0:
            return ()
        if name not in self._layers:
            self._step(f"{self._profile.target}: what each layer of {name} costs")
            feeds = {k: v[:samples] for k, v in self._evidence.selection.feeds.items()}
            self._layers[name] = score.layer_costs(self.form.graph, candidate.quantization, feeds)
        return self._layers[name]

    def depth(self, candidate: Candidate) -> tuple[LayerCost, ...]:
        """The noise that has come together by each layer of a quantized candidate, in running order."""
        name = candidate.name
        if candidate.quantization is None or not self.layers(candidate):
            return ()
        if name not in self._depth:
            feeds = {k: v[:LAYER_SAMPLES] for k, v in self._evidence.selection.feeds.items()}
            self._depth[name] = noise_by_depth(self.form.graph, candidate.quantization, feeds)
        return self._depth[name]
