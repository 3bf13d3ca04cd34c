"""The searches of one build: one for all profiles whose demands come to the same for its model.

Forms of the graph and what is known about their tensors are shared by all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from edge_contracts.profile import DeviceProfile
from edge_convert import reference
from edge_convert.binding import Model
from edge_convert.budget import Budget
from edge_convert.engine import LiteRtEngine, OpenVinoEngine
from edge_convert.errors import DataInvalid
from edge_convert.evidence import Answered, Evidence
from edge_convert.gates import Limits
from edge_convert.graph import Graph
from edge_convert.measures.score import worst_sqnr_db
from edge_convert.measures.unsaturated import Unsaturated
from edge_convert.pruning import prune
from edge_convert.quantizing.quantize import Rules, rules_for
from edge_convert.quantizing.quantizer import Quantizer
from edge_convert.search import Forms, Found, Search
from edge_convert.terminal import Step
from edge_convert.time_model import Cpu, cpu_of
from edge_convert.workbench import NOT_PRUNED, Baseline, Form, Workbench

# target of a profile -> what runs its files on this host, and then times the source itself
RUNTIME = {"tflite": LiteRtEngine.runtime, "openvino": OpenVinoEngine.runtime}
# A form that was made without loss must show it on samples of its own: float32's rounding is below this.
LOSSLESS_DB = 80.0
LOSSLESS_SAMPLES = 16
LOSSLESS = "lossless"
# "none", "auto", "lossless", "step-1", "step-2" ..., or a share of the channels
Amount = str | float


@dataclass(frozen=True, eq=False)
class Shared:
    """What all searches of a build work from.

    Args:
        graph: The whole of it, in float.
        own: The source in its own runtime.
        pruning: Which forms of the graph to try.
        recipe_names: The only recipes to try; empty for all.
        lossy: How the forms that lose something are made.
    """

    graph: Graph
    evidence: Evidence
    own: Model
    pruning: Amount
    limits: Limits
    recipe_names: tuple[str, ...]
    step: Step
    lossy: prune.LadderOptions = field(default_factory=prune.LadderOptions)


class Searches:
    """Makes and runs the searches."""

    def __init__(self, shared: Shared) -> None:
        """Set up; nothing is made before it is asked for."""
        self._shared = shared
        self._forms: dict[prune.LadderOptions, Forms] = {}
        self._quantizers: dict[Form, Quantizer] = {}
        self._known: list[tuple[tuple[str, Cpu], prune.LadderOptions, Rules, Search]] = []
        self._found: dict[Search, Found] = {}
        self._whole = Form(shared.graph)
        self._unsaturated = Unsaturated(shared.graph, shared.evidence.selection.feeds)

    def of(self, profile: DeviceProfile) -> Search:
        """The search for a profile; nothing runs yet."""
        rules, shared = rules_for(profile), self._shared
        device = profile.target, cpu_of(profile)
        options = replace(shared.lossy, fold=_may_fold(profile), thin=_may_widen(profile))
        for known, made, demands, search in self._known:
            if (known, made) == (device, options) and self._same(demands, rules):
                return search
        if options not in self._forms:
            forms = forms_of(shared.graph, shared.evidence, shared.pruning, options, shared.step)
            self._forms[options] = Forms(forms)
        benches = _Benches(profile, self._shared, self._unsaturated, self._quantizer)
        search = Search(self._forms[options], benches.of, self._shared.recipe_names, self._shared.limits)
        self._known.append((device, options, rules, search))
        return search

    def _same(self, one: Rules, other: Rules) -> bool:
        return one == other or self._quantizer(self._whole).same_for(one, other)

    def found(self, search: Search, profile: DeviceProfile, budget: Budget) -> Found:
        """Run a search, once; those that are still to come get their equal shares of what is left."""
        if search not in self._found:
            left = len(self._known) - len(self._found)
            self._found[search] = search.run(profile.precisions, budget.until(1 / left))
        return self._found[search]

    def _quantizer(self, form: Form) -> Quantizer:
        if form not in self._quantizers:
            self._quantizers[form] = Quantizer(form.graph, self._shared.evidence.ranges.feeds)
        return self._quantizers[form]


def _may_fold(profile: DeviceProfile) -> bool:
    """Whether folding the first convolution pays: on a CPU, whose kernels the gain was measured on."""
    return profile.target == "tflite" and profile.accelerator is None


def _may_widen(profile: DeviceProfile) -> bool:
    """Whether thin depthwise layers as convolutions pay: where that was measured, and not on ARM."""
    return _may_fold(profile) and {a.lower() for a in profile.architectures} <= {"x86_64", "amd64"}


class _Benches:
    """Workbenches of one target, all held against the same baseline."""

    def __init__(
        self,
        profile: DeviceProfile,
        shared: Shared,
        unsaturated: Unsaturated,
        quantizer: Callable[[Form], Quantizer],
    ) -> None:
        self._profile, self._shared, self._quantizer = profile, shared, quantizer
        self._unsaturated = unsaturated
        self._baseline: Baseline | None = None

    def of(self, form: Form) -> Workbench:
        """A workbench for a form; the first one asked for gives the baseline."""
        shared = self._shared
        bench = Workbench(
            form,
            self._profile,
            shared.evidence,
            self._unsaturated,
            self._quantizer(form),
            self._baseline,
            shared.limits.latency != "off",
            shared.step,
        )
        if self._baseline is None:
            # the source itself where this target's runtime on this host runs it, else its float32 form
            if RUNTIME[self._profile.target] == shared.own.engine.runtime:
                bench.baseline = replace(bench.baseline, model=shared.own, name="the source file")
            self._baseline = bench.baseline
        return bench


def forms_of(
    graph: Graph, evidence: Evidence, amount: Amount, options: prune.LadderOptions, step: Step
) -> Iterator[Form]:
    """The forms of the graph to try, in order.

    Args:
        amount: "none" for the graph alone, "auto" for faster and faster forms of it, the name of one of
            these, or a share of the channels for the one form without them.
        options: How the forms are made.

    Raises:
        DataInvalid: There is no form of that name.
    """
    if amount == "none":
        yield Form(graph)
        return
    step("pruning")
    if isinstance(amount, float):
        yield _form(str(amount), prune.prune(graph, evidence.ranges.feeds, amount, options))
        return
    last = NOT_PRUNED
    for form in _faster_and_faster(graph, evidence, options):
        last = form.name
        if amount in ("auto", form.name):
            yield form
            if amount != "auto":
                return
            step("pruning further")
    if amount != "auto":
        raise DataInvalid(f"--prune {amount}: this model has no such step, the last one is {last!r}")


def _faster_and_faster(graph: Graph, evidence: Evidence, options: prune.LadderOptions) -> Iterator[Form]:
    forms = prune.ladder(graph, evidence.ranges.feeds, options)
    lean = next(forms)
    if not lean.moves or not _without_loss(graph, lean.graph, evidence.selection):
        yield Form(graph)
    if lean.moves:
        yield _form(LOSSLESS, lean)
    for index, pruned in enumerate(forms, 1):
        yield _form(f"step-{index}", pruned)


def _form(name: str, pruned: prune.Pruned) -> Form:
    return Form(pruned.graph, f"{name}: {pruned.summary}", bool(pruned.moves), name)


def _without_loss(graph: Graph, lean: Graph, samples: Answered) -> bool:
    """Whether two graphs answer the same to samples that neither was made from."""
    few = {name: values[:LOSSLESS_SAMPLES] for name, values in samples.feeds.items()}
    noise = worst_sqnr_db(reference.run(graph, few), reference.run(lean, few))
    return noise is None or noise >= LOSSLESS_DB
