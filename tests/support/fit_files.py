"""Files written for a profile from the small nets. No tests."""

from __future__ import annotations

from collections.abc import Mapping

from small_nets import pictures

from edge_contracts.profile import load_profile
from edge_convert import candidates
from edge_convert.graph import Array, Graph
from edge_convert.quantize import choose, rules_for
from edge_convert.statistics import collect


def int8_candidate(
    graph: Graph, profile: str, feeds: Mapping[str, Array] | None = None
) -> candidates.Candidate:
    """The graph in int8 as a profile wants it."""
    feeds = feeds or {graph.inputs[0].name: pictures(8)}
    recipe = candidates.recipes_for("int8")[0]
    loaded = load_profile(profile)
    quantization = choose(graph, collect(graph, feeds), recipe, rules_for(loaded))
    return candidates.written(graph, loaded.target, recipe, quantization)
