"""The search: which candidates of one target are made, in which order, and when to stop.

Anytime: the first candidate is made whatever the budget, each later one only while there is time, and what
has been found when it ends is used. The order goes from what costs least to what may pay most: every
recipe on the graph as it is, float forms to compare with, then the two best recipes on smaller and smaller
forms of the graph for as long as these alone still keep within the gates, and the best recipe with its
costliest layers in float. Which candidate is best is
`preference.py`'s matter, whether it is good enough `gates.py`'s.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from edge_contracts.manifest import Score
from edge_contracts.profile import Precision
from edge_convert import candidates
from edge_convert.budget import Slice
from edge_convert.candidates import Candidate
from edge_convert.errors import RecipeInvalid
from edge_convert.gates import Limits
from edge_convert.preference import Figures, allowance_used, ordered
from edge_convert.recipe import Recipe
from edge_convert.workbench import NOT_PRUNED, Form, Workbench

# So many of the recipes that did best on the whole graph are tried on its smaller forms.
GOOD_RECIPES = 2


def recipe_of(name: str) -> str:
    """The recipe of a candidate's name: "wi8_ai8_mse_bc+3float" has three nodes in float."""
    return name.split("+")[0]


class Forms:
    """Forms of the graph, made when first asked for: the graph as it is, then smaller and smaller ones."""

    def __init__(self, forms: Iterator[Form]) -> None:
        """Set up; at least one form must come."""
        self._coming, self._made = forms, list[Form]()

    def at(self, index: int) -> Form | None:
        """A form by its place, or None when there are not so many."""
        self._made += itertools.islice(self._coming, max(0, index + 1 - len(self._made)))
        return self._made[index] if index < len(self._made) else None


@dataclass(frozen=True, eq=False)
class Tried:
    """A candidate that was made, with its figures on the samples that choose."""

    bench: Workbench
    candidate: Candidate
    figures: Figures

    @property
    def selection(self) -> Score:
        """Its answers against the source's."""
        return self.figures.selection


@dataclass(frozen=True, eq=False)
class Found:
    """What a search came to.

    Args:
        ended: Why it ended before everything was tried, or "".
    """

    tried: tuple[Tried, ...]
    ended: str = ""


class Search:
    """Candidates for one target's demands."""

    def __init__(
        self,
        forms: Forms,
        bench_of: Callable[[Form], Workbench],
        recipe_names: Sequence[str],
        limits: Limits,
    ) -> None:
        """Set up; nothing is made before it is asked for.

        Args:
            recipe_names: The only ones to try; empty for all.
        """
        self._forms, self._bench_of, self._limits = forms, bench_of, limits
        self._wanted = recipe_names
        self._benches: dict[int, Workbench] = {}
        self._tried: dict[str, Tried] = {}

    def run(self, precisions: Sequence[Precision], budget: Slice) -> Found:
        """Try candidates until there are no more or no more time.

        Args:
            precisions: The profile's, in its order of preference.
        """
        for make in self._plan(precisions):
            make()
            if budget.spent_up:
                return Found(tuple(self._tried.values()), budget.why)
        return Found(tuple(self._tried.values()))

    def need(self, precision: Precision) -> None:
        """Make the candidates of a precision that the search did not come to, of the whole graph."""
        if not self.of_precision(precision):
            for recipe in self._recipes(precision):
                self._try(0, recipe)

    def named(self, name: str) -> Tried:
        """A candidate that was made."""
        return self._tried[name]

    def of_precision(self, precision: Precision) -> list[Tried]:
        """The candidates of a precision that were made."""
        return [t for t in self._tried.values() if t.candidate.recipe.precision == precision]

    def _plan(self, precisions: Sequence[Precision]) -> Iterator[Callable[[], None]]:
        first, *others = precisions
        for recipe in self._recipes(first):
            yield self._make(0, recipe)
        for precision in others:
            for recipe in self._recipes(precision):
                yield self._make(0, recipe)
        for index in itertools.count(1):
            # read here and not before: what follows rests on what has been tried
            good = self._best_recipes(first)
            if not good or not self._worth_trying(index):
                break
            for recipe in good:
                yield self._make(index, recipe)
        for recipe in () if self._wanted else self._best_recipes(first)[:1]:
            for candidate in self._bench(0).mixed(recipe):
                yield partial(self._add, 0, candidate)

    def _make(self, index: int, recipe: Recipe) -> Callable[[], None]:
        return lambda: self._try(index, recipe)

    def _recipes(self, precision: Precision) -> list[Recipe]:
        known = candidates.recipes_for(precision)
        return [r for r in known if not self._wanted or r.name in {recipe_of(w) for w in self._wanted}]

    def _best_recipes(self, precision: Precision) -> list[Recipe]:
        whole = [
            t
            for t in self._tried.values()
            if t.bench is self._benches.get(0) and t.candidate.recipe.precision == precision
        ]
        best = ordered([t.figures for t in whole], self._limits, "accuracy")[:GOOD_RECIPES]
        return [self._tried[figures.name].candidate.recipe for figures in best]

    def _worth_trying(self, index: int) -> bool:
        """Whether a form keeps within the gates before anything else is done to it."""
        if self._forms.at(index) is None:
            return False
        bench = self._bench(index)
        return allowance_used(bench.ranked(bench.float_form), self._limits) <= 1

    def _bench(self, index: int) -> Workbench:
        if index not in self._benches:
            form = self._forms.at(index)
            assert form is not None, f"there is no form {index}"
            self._benches[index] = self._bench_of(form)
        return self._benches[index]

    def _try(self, index: int, recipe: Recipe) -> None:
        bench = self._bench(index)
        kept = [name for name in self._wanted if name.startswith(f"{recipe.name}+")]
        if not kept:
            self._add(index, bench.made(recipe))
            return
        proposed = {candidate.name: candidate for candidate in bench.mixed(recipe)}
        for name in kept:
            if name not in proposed:
                known = ", ".join(proposed) or "none"
                raise RecipeInvalid(f"no layers in float are proposed as {name}; known: {known}")
            self._add(index, proposed[name])

    def _add(self, index: int, candidate: Candidate) -> None:
        bench = self._bench(index)
        form = bench.form.name
        name = candidate.name if form == NOT_PRUNED else f"{candidate.name}/{form}"
        if name not in self._tried:
            figures = Figures(
                name,
                bench.ranked(candidate),
                bench.predicted_us(candidate),
                candidate.bytes,
                bench.unsaturated_db(candidate),
                form,
                bool(candidate.kept_float),
            )
            self._tried[name] = Tried(bench, candidate, figures)
