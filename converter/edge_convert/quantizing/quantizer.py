"""Quantizations of one graph by any recipe for any target, with what they share worked out once.

Running the float network over the calibration samples is most of the work, and neither the recipe nor
the target changes what comes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property

from edge_convert import recipe as recipes
from edge_convert.graph import Array, Graph
from edge_convert.quantizing import statistics
from edge_convert.quantizing.bias_correction import BiasCorrection
from edge_convert.quantizing.equalize import Scaling, equalized
from edge_convert.quantizing.layer_rounding import LayerRounding
from edge_convert.quantizing.quantization import Quantization, equal, with_constants
from edge_convert.quantizing.quantize import Rules, choose, without
from edge_convert.quantizing.statistics import Extremes, Statistics
from edge_convert.recipe import Recipe


class _Form:
    """One float form of the graph and what was found out about it."""

    def __init__(
        self, graph: Graph, feeds: Mapping[str, Array], extremes: Callable[[], Extremes] | None = None
    ) -> None:
        self._graph, self._feeds = graph, feeds
        self._extremes = extremes or (lambda: statistics.extremes(graph, feeds))
        self._correction = BiasCorrection(graph, feeds)
        self._rounding = LayerRounding(graph, feeds)

    @cached_property
    def statistics(self) -> Statistics:
        return statistics.collect(self._graph, self._feeds)

    @cached_property
    def extremes(self) -> Extremes:
        return self._extremes()

    def choose(self, recipe: Recipe, rules: Rules) -> Quantization:
        every_value = recipe.activations is not None and recipe.activations.range == "minmax"
        return choose(self._graph, self.extremes if every_value else self.statistics, recipe, rules)

    def quantize(self, recipe: Recipe, rules: Rules) -> Quantization:
        chosen = self.choose(recipe, rules)
        if recipe.weights.rounding == "least_squares":
            return self._rounding.rounded(chosen)
        return self._correction.corrected(chosen) if recipe.bias_correction else chosen


class Quantizer:
    """One graph and its calibration samples."""

    def __init__(self, graph: Graph, feeds: Mapping[str, Array]) -> None:
        """Set up; nothing runs before it is asked for.

        Args:
            feeds: Calibration samples by input port name, in the source's layout.
        """
        self._graph, self._feeds = graph, feeds
        self._plain = _Form(graph, feeds)

    @property
    def statistics(self) -> Statistics:
        """What every tensor of the graph holds."""
        return self._plain.statistics

    @cached_property
    def _scaling(self) -> Scaling:
        return equalized(self._graph, self._plain.extremes)

    @cached_property
    def _equalized(self) -> _Form:
        """The form with its channels scaled; the plain one where none can be."""
        if not self._scaling.constants:
            return self._plain
        scaled = with_constants(self._graph, Quantization({}, constants=self._scaling.constants))
        return _Form(scaled, self._feeds, lambda: self._plain.extremes.divided(self._scaling.divisors))

    def _form(self, recipe: Recipe) -> _Form:
        return self._equalized if recipe.equalize else self._plain

    def quantize(
        self, recipe: Recipe, rules: Rules, keep_float: frozenset[str] = frozenset()
    ) -> Quantization:
        """Quantize by a recipe for int8; deterministic.

        Args:
            keep_float: Names of nodes that stay in float (`mixed.py` proposes some).
        """
        found = self._form(recipe).quantize(recipe, without(rules, keep_float))
        return replace(found, constants=self._scaling.constants) if recipe.equalize else found

    def same_for(self, one: Rules, other: Rules) -> bool:
        """Whether every recipe for int8 gives the same under both rules: the demands differ, but not here."""
        if one == other:
            return True
        int8 = [r for name in recipes.names() if (r := recipes.load(name)).precision == "int8"]
        return all(equal(self._form(r).choose(r, one), self._form(r).choose(r, other)) for r in int8)
