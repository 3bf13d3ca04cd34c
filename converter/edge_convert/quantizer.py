"""Quantizations of one graph by any recipe for any target, with what they share worked out once.

Running the float network over the calibration samples is most of the work, and neither the recipe nor
the target changes what comes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from edge_convert import recipe as recipes
from edge_convert import statistics
from edge_convert.bias_correction import BiasCorrection
from edge_convert.graph import Array, Graph
from edge_convert.layer_rounding import LayerRounding
from edge_convert.quantization import Quantization, equal
from edge_convert.quantize import Rules, choose
from edge_convert.recipe import Recipe
from edge_convert.statistics import Statistics


class Quantizer:
    """One graph and its calibration samples."""

    def __init__(self, graph: Graph, feeds: Mapping[str, Array]) -> None:
        """Set up; nothing runs before it is asked for.

        Args:
            feeds: Calibration samples by input port name, in the source's layout.
        """
        self._graph, self._feeds = graph, feeds
        self._correction = BiasCorrection(graph, feeds)
        self._rounding = LayerRounding(graph, feeds)

    @cached_property
    def statistics(self) -> Statistics:
        """What every tensor holds."""
        return statistics.collect(self._graph, self._feeds)

    def quantize(self, recipe: Recipe, rules: Rules) -> Quantization:
        """Quantize by a recipe for int8; deterministic."""
        chosen = choose(self._graph, self.statistics, recipe, rules)
        if recipe.weights.rounding == "least_squares":
            return self._rounding.rounded(chosen)
        return self._correction.corrected(chosen) if recipe.bias_correction else chosen

    def same_for(self, one: Rules, other: Rules) -> bool:
        """Whether every recipe for int8 gives the same under both rules: the demands differ, but not here."""
        if one == other:
            return True
        int8 = [r for name in recipes.names() if (r := recipes.load(name)).precision == "int8"]
        return all(
            equal(
                choose(self._graph, self.statistics, recipe, one),
                choose(self._graph, self.statistics, recipe, other),
            )
            for recipe in int8
        )
