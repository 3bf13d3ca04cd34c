"""The searches of one build: one for all profiles whose demands come to the same for its model.

Forms of the graph and what is known about their tensors are shared by all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from edge_contracts.profile import DeviceProfile
from edge_convert import prune
from edge_convert.binding import Model
from edge_convert.budget import Budget
from edge_convert.engine import LiteRtEngine, OpenVinoEngine
from edge_convert.evidence import Evidence
from edge_convert.gates import Limits
from edge_convert.graph import Array, Graph
from edge_convert.quantize import Rules, rules_for
from edge_convert.quantizer import Quantizer
from edge_convert.search import Forms, Found, Search
from edge_convert.terminal import Step
from edge_convert.workbench import Baseline, Form, Workbench

# target of a profile -> what runs its files on this host, and then times the source itself
RUNTIME = {"tflite": LiteRtEngine.runtime, "openvino": OpenVinoEngine.runtime}
Amount = Literal["none", "auto"] | float


@dataclass(frozen=True, eq=False)
class Shared:
    """What all searches of a build work from.

    Args:
        own: The source in its own runtime.
        recipe_names: The only recipes to try; empty for all.
    """

    evidence: Evidence
    own: Model
    limits: Limits
    recipe_names: tuple[str, ...]
    step: Step


class Searches:
    """Makes and runs the searches."""

    def __init__(self, forms: Forms, shared: Shared) -> None:
        """Set up; nothing is made before it is asked for."""
        self._forms, self._shared = forms, shared
        self._quantizers: dict[Form, Quantizer] = {}
        self._known: list[tuple[str, Rules, Search]] = []
        self._found: dict[Search, Found] = {}

    def of(self, profile: DeviceProfile) -> Search:
        """The search for a profile; nothing runs yet."""
        rules = rules_for(profile)
        whole = self._forms.at(0)
        assert whole is not None, "there is no form of the graph"
        for target, demands, search in self._known:
            if target == profile.target and self._quantizer(whole).same_for(demands, rules):
                return search
        benches = _Benches(profile, self._shared, self._quantizer)
        search = Search(self._forms, benches.of, self._shared.recipe_names, self._shared.limits)
        self._known.append((profile.target, rules, search))
        return search

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


class _Benches:
    """Workbenches of one target, all held against the same baseline."""

    def __init__(
        self, profile: DeviceProfile, shared: Shared, quantizer: Callable[[Form], Quantizer]
    ) -> None:
        self._profile, self._shared, self._quantizer = profile, shared, quantizer
        self._baseline: Baseline | None = None

    def of(self, form: Form) -> Workbench:
        """A workbench for a form; the first one asked for gives the baseline."""
        shared = self._shared
        bench = Workbench(
            form,
            self._profile,
            shared.evidence,
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


def forms_of(graph: Graph, feeds: Mapping[str, Array], amount: Amount, step: Step) -> Iterator[Form]:
    """The forms of the graph to try, in order.

    Args:
        feeds: Calibration samples by input port name.
        amount: "none" for the graph alone, "auto" for smaller and smaller forms behind it, a share of the
            channels for the one form without them.
    """
    if amount in ("none", "auto"):
        yield Form(graph)
    if amount == "none":
        return
    step("pruning")
    pruned = prune.prune(graph, feeds, amount)
    form = Form(pruned.graph, f"{amount}: {pruned.summary}", bool(pruned.removed))
    if form.pruned or amount != "auto":
        yield form
