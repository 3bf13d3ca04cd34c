"""Pruning: whole channels removed, so that the model becomes smaller and faster on any runtime.

First those that are dead (`dead_channels.py`, exact on the calibration samples); then, if asked for, those
that cost the answers least for the time they take (`sensitivity.py`, `allocation.py`), the layers behind
making up for them (`least_squares.py`). Layers may be rewritten to fit the kernels, exactly (`stem_fold.py`,
`thin_depthwise.py`). No label is ever asked for. `ladder` gives form after form, `prune` the one asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from edge_contracts.profile import Precision
from edge_convert import reference, time_model
from edge_convert.graph import Array, Graph, Op
from edge_convert.measures import score
from edge_convert.pruning import balance, dead_channels, sensitivity, stride_hoist
from edge_convert.pruning.allocation import Allocation, allocate
from edge_convert.pruning.channels import Ids, groups, mixes, trace
from edge_convert.pruning.distill import DistillOptions, distill
from edge_convert.pruning.least_squares import reconstruct
from edge_convert.pruning.shrink import kept_positions
from edge_convert.pruning.stem import fit_stem
from edge_convert.pruning.stride_hoist import Hoist
from edge_convert.pruning.thin_depthwise import widen_thin
from edge_convert.pruning.variations import filled_up
from edge_convert.quantizing.statistics import sample_count

# Shares of the lean form's predicted time that the ladder's steps come to, and "auto" tries from the last.
SHARES = (0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4)
# What "auto" asks of the outputs on samples kept back.
_AUTO_MIN_AGREEMENT = 0.99
_AUTO_MIN_SQNR_DB = 20.0
# Least squares needs no more samples than this; fewer are filled up with varied copies.
_MOST_SAMPLES = 384
# Samples of each class that choose the state that distillation keeps, and nothing else.
_KEPT_BACK, _MOST_KEPT_BACK = 0.25, 160
_LEAST_SQUARES = "layers taught again by least squares"
# A folded first layer may bring the parameters up to this many times those of the source.
_MOST_GROWTH = 17 / 16


@dataclass(frozen=True)
class Removed:
    """A layer that became narrower: its name, what the source called it, its channels before and after."""

    layer: str
    source: str
    before: int
    after: int


@dataclass(frozen=True, eq=False)
class Pruned:
    """A smaller or faster graph.

    Args:
        moves: What was done, in order, as the provenance says it.
        amount: Share of the living channels that could go and were removed; 0 when only dead ones were.
        dead: Channels removed because they never change.
        weak: Channels removed although they do.
        lossless: Whether nothing was done that changes the answers beyond rounding.
        parameters_before, parameters_after: Float constants' elements.
        predicted_us_before, predicted_us_after: Of one inference, by `time_model.py`.
    """

    graph: Graph
    moves: tuple[str, ...]
    removed: tuple[Removed, ...]
    amount: float
    dead: int
    weak: int
    lossless: bool
    parameters_before: int
    parameters_after: int
    predicted_us_before: float
    predicted_us_after: float

    @property
    def speedup(self) -> float:
        """Of the whole graph, predicted."""
        return self.predicted_us_before / max(self.predicted_us_after, 1e-9)

    @property
    def summary(self) -> str:
        """One line, for the provenance and the report."""
        done = "; ".join(self.moves) or "nothing to remove"
        return (
            f"{done}; {self.parameters_before} -> {self.parameters_after} parameters, "
            f"{self.speedup:.2f} times as fast by prediction"
        )


@dataclass(frozen=True)
class LadderOptions:
    """What the ladder may do.

    Args:
        shares: Of the lean form's predicted time; a form for each, falling.
        precision: That the forms are to run in: what time is predicted for.
        fold: Whether the first convolution may be folded; for LiteRT on a CPU only.
        thin: Whether thin depthwise layers may be written as convolutions; for LiteRT on x86-64 only (a
            Cortex-A72 executes 23 % more instructions for the person detector so).
        hoist: Whether a stride may be moved to an earlier layer; costs much unless it is distilled.
        distill: How long each lossy form is taught, beginning with what the one before has learnt; None for
            least squares alone.
    """

    shares: tuple[float, ...] = SHARES
    precision: Precision = "int8"
    fold: bool = True
    thin: bool = False
    hoist: bool = False
    distill: DistillOptions | None = None


def ladder(
    graph: Graph, feeds: Mapping[str, Array], options: LadderOptions | None = None
) -> Iterator[Pruned]:
    """Faster and faster forms of a graph, each worked out when it is asked for; deterministic.

    The first is without loss: dead channels removed, the first convolution folded. The others lose more
    and more. It ends where nothing saves time any more; a step that equals the one before is left out. With
    `hoist` the form with the moved stride comes where its time has its place, and the faster ones come of it.

    Args:
        feeds: Calibration samples by input port name; labels are not needed.

    Raises:
        DistillationRefused: It was asked for and cannot be done here.
    """
    pruner = Pruner(graph, feeds, options or LadderOptions())
    yield pruner.form(pruner.lean)
    yield from pruner.steps()


def prune(
    graph: Graph,
    feeds: Mapping[str, Array],
    amount: Literal["auto"] | float | None,
    options: LadderOptions | None = None,
) -> Pruned:
    """Remove channels.

    Args:
        feeds: Calibration samples by input port name.
        amount: None changes nothing. A number is the share of the living, removable channels to remove
            after the dead ones, 0 to below 1 (widths become multiples of 8; no group goes below 8). "auto"
            takes the fastest step of the ladder that leaves the outputs of the last quarter, kept back
            for that, within 20 dB and the top-1 class in agreement on 99 %; the lean form if there is none.
        options: Its shares are for "auto".

    Raises:
        ValueError: The amount is not a share.
    """
    options = options or LadderOptions(fold=False)
    if amount is None:
        return _unpruned(graph, options)
    if amount != "auto" and not 0.0 <= amount < 1.0:
        raise ValueError(f"the share of channels to remove is {amount}; expected 0 to below 1")
    if amount == "auto":
        return _fastest_within_limits(graph, feeds, options)
    pruner = Pruner(graph, feeds, options)
    return pruner.form(pruner.without(pruner.lean, float(amount)))


def _unpruned(graph: Graph, options: LadderOptions) -> Pruned:
    time, size = time_model.predicted_us(graph, options.precision), graph.parameters()
    return Pruned(graph, (), (), 0.0, 0, 0, True, size, size, time, time)


def _fastest_within_limits(graph: Graph, feeds: Mapping[str, Array], options: LadderOptions) -> Pruned:
    count = sample_count(feeds)
    # the last quarter, not every fourth: neighbours in a data set are often near copies
    back = np.arange(count) >= count - count // 4
    whole = Pruner(graph, feeds, options)
    best = whole.form(whole.lean)  # its dead channels are dead on all samples
    if not back.any():
        return best
    learn = {name: np.asarray(array)[~back] for name, array in feeds.items()}
    judge = {name: np.asarray(array)[back] for name, array in feeds.items()}
    wanted = reference.run(graph, judge)
    few = Pruner(graph, learn, options, whole.lean)
    for form in few.steps():
        if not _near(wanted, reference.run(form.graph, judge)):
            break
        best = form
    return best


def _near(wanted: Mapping[str, Array], found: Mapping[str, Array]) -> bool:
    ratio = score.worst_sqnr_db(wanted, found)
    agree = min((score.agreement(a, found[name]) for name, a in wanted.items() if a.ndim > 1), default=1.0)
    return (ratio is None or ratio >= _AUTO_MIN_SQNR_DB) and agree >= _AUTO_MIN_AGREEMENT


@dataclass(frozen=True, eq=False)
class Stage:
    """A graph on the way, before its first convolution is folded.

    Args:
        kept: By tensor of the lean graph: which of its channels are left.
        weak: Living channels that went.
        lossless: Whether it answers as the source does, up to rounding.
    """

    graph: Graph
    kept: Mapping[str, Ids]
    moves: tuple[str, ...]
    dead: int
    weak: int = 0
    lossless: bool = False


class Pruner:
    """One graph with its samples, and the stages that come of it."""

    def __init__(
        self,
        graph: Graph,
        feeds: Mapping[str, Array],
        options: LadderOptions,
        lean: Stage | None = None,
    ) -> None:
        """Remove the dead channels, unless that has been done.

        Args:
            lean: The graph without its dead channels.
        """
        self._graph, self._feeds, self._options = graph, feeds, options
        answers = balance.kinds(reference.run(graph, feeds))
        back = np.zeros(len(answers), bool)
        if options.distill:
            back = balance.kept_back(answers, _KEPT_BACK, _MOST_KEPT_BACK)
        self._check = {name: np.asarray(array)[back] for name, array in feeds.items()}
        self._learn = {name: np.asarray(array)[~back] for name, array in feeds.items()}
        few = balance.spread_out(answers[~back], _MOST_SAMPLES)
        self._few = {name: array[few] for name, array in self._learn.items()}
        self._many = filled_up(graph, self._few, _MOST_SAMPLES)
        self._most_parameters = int(_MOST_GROWTH * graph.parameters())
        self.lean = lean or self._lean()

    def _lean(self) -> Stage:
        graph, dead = dead_channels.remove(self._graph, self._feeds)
        moves = (f"{dead} dead channels removed",) if dead else ()
        return Stage(graph, _all_channels(graph), moves, dead, lossless=True)

    def steps(self) -> Iterator[Pruned]:
        """The ladder behind its first form."""
        lean_us = self.form(self.lean).predicted_us_after
        hoist = stride_hoist.best(self.lean.graph, self._options.precision) if self._options.hoist else None
        above = [s for s in self._options.shares if hoist is None or s * lean_us > hoist.predicted_us]
        yield from self._narrower(self.lean, [share * lean_us for share in above])
        if hoist is not None:
            moved = self.hoisted(self.lean, hoist)
            yield self.form(moved)
            below = [s for s in self._options.shares if s not in above]
            yield from self._narrower(moved, [share * lean_us for share in below])

    def _narrower(self, stage: Stage, targets: Sequence[float]) -> Iterator[Pruned]:
        """A form for each predicted time."""
        path: list[Allocation] | None = None
        last: Allocation | None = None
        for target in targets:
            if self._refitted_us(stage.graph) <= target:
                continue
            path = path or list(self._path(stage))
            step = next((s for s in path if s.predicted_us <= target), None)
            if step is None:
                return
            if step is last:
                continue
            last = step
            made = self._cut(stage, step)
            yield self.form(made)
            if self._options.distill:
                stage, path = made, None

    def _refitted(self, graph: Graph) -> tuple[Graph, tuple[str, ...]]:
        """The graph with layers rewritten to fit the kernels, where that pays, and what was done."""
        rewrites = []
        if self._options.fold:
            rewrites.append((fit_stem, "first convolution fitted to the kernels"))
        if self._options.thin:
            rewrites.append((widen_thin, "thin depthwise layers written as convolutions"))
        moves: list[str] = []
        for rewrite, move in rewrites:
            made = rewrite(graph, self._options.precision, self._most_parameters)
            if made is not graph:
                graph = made
                moves.append(move)
        return graph, tuple(moves)

    def _refitted_us(self, graph: Graph) -> float:
        return time_model.predicted_us(self._refitted(graph)[0], self._options.precision)

    def _path(self, stage: Stage) -> Iterator[Allocation]:
        """Every choice of widths, faster and faster."""
        channels = trace(stage.graph)
        sets = groups(channels)
        found = sensitivity.measure(stage.graph, channels, sets, self._few)
        most = self._most_parameters if self._options.fold else 0
        return allocate(stage.graph, channels, sets, found, self._options.precision, most)

    def without(self, stage: Stage, share: float) -> Stage:
        """The stage with at least this share of its removable channels gone, or as many as save time."""
        if share == 0.0:
            return stage
        wanted = round(share * _removable(stage.graph))
        last: Allocation | None = None
        for step in self._path(stage):
            last = step
            if len(step.removed) >= wanted:
                break
        return stage if last is None else self._cut(stage, last)

    def _cut(self, stage: Stage, step: Allocation) -> Stage:
        """The stage with the widths of one step, taught again."""
        graph = stage.graph
        channels = trace(graph)
        gone = np.zeros(len(channels.locked), bool)
        gone[step.removed] = True
        seen = dead_channels.spreads(graph, self._few, {name for _, name in channels.mixers})
        means = {name: spread.mean for name, spread in seen.items()}
        left = kept_positions(channels, gone)
        small = dead_channels.cut(graph, channels, gone, means)
        taught = reconstruct(graph, small, left, self._many)
        count = len(step.removed)
        moves = (*stage.moves, f"{count} weak channels removed", _LEAST_SQUARES)
        kept = {name: places[left[name]] for name, places in stage.kept.items() if name in left}
        return self._distilled(Stage(taught, kept, moves, stage.dead, stage.weak + count))

    def hoisted(self, stage: Stage, hoist: Hoist) -> Stage:
        """The stage with a stride moved, taught again."""
        whole = {name: np.arange(len(places)) for name, places in stage.kept.items()}
        taught = reconstruct(stage.graph, hoist.graph, whole, self._many, hoist.grids)
        moves = (*stage.moves, hoist.summary, _LEAST_SQUARES)
        return self._distilled(Stage(taught, stage.kept, moves, stage.dead, stage.weak))

    def _distilled(self, stage: Stage) -> Stage:
        if self._options.distill is None:
            return stage
        taught = distill(
            self.lean.graph, stage.graph, self._learn, self._check, self._options.distill, stage.kept
        )
        return replace(stage, graph=taught.graph, moves=(*stage.moves, taught.summary))

    def form(self, stage: Stage) -> Pruned:
        """The stage as it is handed on: its layers rewritten to fit the kernels where that pays."""
        precision = self._options.precision
        graph, moves = self._refitted(stage.graph)
        return Pruned(
            graph,
            (*stage.moves, *moves),
            _narrowed(self._graph, stage.graph),
            stage.weak / max(1, _removable(self.lean.graph)) if stage.weak else 0.0,
            stage.dead,
            stage.weak,
            stage.lossless,
            self._graph.parameters(),
            graph.parameters(),
            time_model.predicted_us(self._graph, precision),
            time_model.predicted_us(graph, precision),
        )


def _all_channels(graph: Graph) -> dict[str, Ids]:
    channels = trace(graph)
    return kept_positions(channels, np.zeros(len(channels.locked), bool))


def _removable(graph: Graph) -> int:
    """Channels that are in a group."""
    return sum(len(group) for group in groups(trace(graph)))


def _narrowed(before: Graph, after: Graph) -> tuple[Removed, ...]:
    now = {node.name: after.tensor(node.output).shape for node in after.nodes}
    rows = []
    for node in before.nodes:
        if not mixes(node) and node.op is not Op.DEPTHWISE_CONV2D:
            continue
        old, new = before.tensor(node.output).shape[-1], now[node.name][-1]
        if new != old:
            rows.append(Removed(node.name, node.source, old, new))
    return tuple(rows)
