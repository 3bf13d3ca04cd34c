"""Pruning: whole channels removed, so that the model becomes smaller and faster on any runtime.

First those that are dead (`dead_channels.py`, exact on the calibration samples); then, if asked for, those
that cost the answers least for the time they take (`sensitivity.py`, `allocation.py`), the layers behind
making up for them (`least_squares.py`). The first convolution may be folded (`stem_fold.py`, exact). No
label is ever asked for. `ladder` gives form after form, `prune` the one that was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from edge_contracts.profile import Precision
from edge_convert import dead_channels, reference, score, sensitivity, time_model
from edge_convert.allocation import Allocation, allocate
from edge_convert.channels import Channels, Ids, groups, mixes, trace
from edge_convert.graph import Array, Graph, Op
from edge_convert.least_squares import reconstruct
from edge_convert.sensitivity import Narrowing
from edge_convert.shrink import kept_positions
from edge_convert.statistics import sample_count
from edge_convert.stem_fold import fold_stem

# Shares of the lean form's predicted time that the ladder's steps come to, and "auto" tries from the last.
SHARES = (0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4)
# What "auto" asks of the outputs on samples kept back.
_AUTO_MIN_AGREEMENT = 0.99
_AUTO_MIN_SQNR_DB = 20.0
# Least squares needs no more samples than this.
_MOST_SAMPLES = 128
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
        parameters_before, parameters_after: Float constants' elements.
        predicted_us_before, predicted_us_after: Of one inference, by `time_model.py`.
    """

    graph: Graph
    moves: tuple[str, ...]
    removed: tuple[Removed, ...]
    amount: float
    dead: int
    weak: int
    parameters_before: int
    parameters_after: int
    predicted_us_before: float
    predicted_us_after: float

    @property
    def speedup(self) -> float:
        """Of the whole graph, predicted."""
        return self.predicted_us_before / max(self.predicted_us_after, 1e-9)

    @property
    def lossless(self) -> bool:
        """Whether nothing was done that changes answers beyond rounding."""
        return self.weak == 0

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
    """

    shares: tuple[float, ...] = SHARES
    precision: Precision = "int8"
    fold: bool = True


def ladder(
    graph: Graph, feeds: Mapping[str, Array], options: LadderOptions | None = None
) -> Iterator[Pruned]:
    """Faster and faster forms of a graph, each worked out when it is asked for; deterministic.

    The first is without loss: dead channels removed, the first convolution folded. The others lose more
    and more. It ends where nothing saves time any more; a step that equals the one before is left out.

    Args:
        feeds: Calibration samples by input port name; labels are not needed.
    """
    pruner = _Pruner(graph, feeds, options or LadderOptions())
    yield pruner.lean_form
    steps = iter(pruner.path)
    for share in (options or LadderOptions()).shares:
        target = share * pruner.lean_us
        step = next((s for s in steps if s.predicted_us <= target), None)
        if step is None:
            return
        yield pruner.form(step)


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
    pruner = _Pruner(graph, feeds, options)
    if amount == 0.0:
        return pruner.lean_form
    wanted = round(amount * pruner.removable)
    last: Allocation | None = None
    for step in pruner.path:
        last = step
        if len(step.removed) >= wanted:
            break
    return pruner.lean_form if last is None else pruner.form(last)


def _unpruned(graph: Graph, options: LadderOptions) -> Pruned:
    time, size = time_model.predicted_us(graph, options.precision), graph.parameters()
    return Pruned(graph, (), (), 0.0, 0, 0, size, size, time, time)


def _fastest_within_limits(graph: Graph, feeds: Mapping[str, Array], options: LadderOptions) -> Pruned:
    count = sample_count(feeds)
    # the last quarter, not every fourth: neighbours in a data set are often near copies
    back = np.arange(count) >= count - count // 4
    whole = _Pruner(graph, feeds, options)
    if not back.any():
        return whole.lean_form
    learn = {name: np.asarray(array)[~back] for name, array in feeds.items()}
    judge = {name: np.asarray(array)[back] for name, array in feeds.items()}
    wanted = reference.run(graph, judge)
    best = whole.lean_form  # its dead channels are dead on all samples
    for form in ladder(whole.lean, learn, options):
        if not form.lossless:
            if not _near(wanted, reference.run(form.graph, judge)):
                break
            best = replace(
                form,
                moves=(*whole.lean_moves, *form.moves),
                removed=_narrowed(graph, form.graph),
                dead=whole.dead + form.dead,
                parameters_before=graph.parameters(),
                predicted_us_before=whole.lean_form.predicted_us_before,
            )
    return best


def _near(wanted: Mapping[str, Array], found: Mapping[str, Array]) -> bool:
    ratio = score.worst_sqnr_db(wanted, found)
    agree = min((score.agreement(a, found[name]) for name, a in wanted.items() if a.ndim > 1), default=1.0)
    return (ratio is None or ratio >= _AUTO_MIN_SQNR_DB) and agree >= _AUTO_MIN_AGREEMENT


class _Pruner:
    """One graph with what all its forms share, worked out when it is asked for."""

    def __init__(self, graph: Graph, feeds: Mapping[str, Array], options: LadderOptions) -> None:
        self._graph, self._options = graph, options
        self._few = {name: np.asarray(array)[:_MOST_SAMPLES] for name, array in feeds.items()}
        self.lean, self.dead = dead_channels.remove(graph, feeds)
        self.lean_moves = (f"{self.dead} dead channels removed",) if self.dead else ()
        self._most_parameters = int(_MOST_GROWTH * graph.parameters()) if options.fold else 0

    @cached_property
    def lean_form(self) -> Pruned:
        """Dead channels gone, the first convolution folded."""
        return self._finished(self.lean, self.lean_moves, 0)

    @property
    def lean_us(self) -> float:
        """Predicted time of the lean form."""
        return self.lean_form.predicted_us_after

    @cached_property
    def _channels(self) -> Channels:
        return trace(self.lean)

    @cached_property
    def _groups(self) -> tuple[Ids, ...]:
        return groups(self._channels)

    @property
    def removable(self) -> int:
        """Living channels that are in a group."""
        return sum(len(group) for group in self._groups)

    @cached_property
    def _narrowings(self) -> list[Narrowing]:
        return sensitivity.measure(self.lean, self._channels, self._groups, self._few)

    @cached_property
    def path(self) -> tuple[Allocation, ...]:
        """Every choice of widths from the lean form to the narrowest."""
        return tuple(
            allocate(
                self.lean,
                self._channels,
                self._groups,
                self._narrowings,
                self._options.precision,
                self._most_parameters,
            )
        )

    def form(self, step: Allocation) -> Pruned:
        """The graph with the widths of one step, taught again."""
        gone = np.zeros(len(self._channels.locked), bool)
        gone[step.removed] = True
        seen = dead_channels.spreads(self.lean, self._few, {name for _, name in self._channels.mixers})
        means = {name: spread.mean for name, spread in seen.items()}
        small = dead_channels.cut(self.lean, self._channels, gone, means)
        taught = reconstruct(self.lean, small, kept_positions(self._channels, gone), self._few)
        moves = (
            *self.lean_moves,
            f"{len(step.removed)} weak channels removed",
            "layers taught again by least squares",
        )
        return self._finished(taught, moves, len(step.removed))

    def _finished(self, graph: Graph, moves: tuple[str, ...], weak: int) -> Pruned:
        precision = self._options.precision
        folded = graph
        if self._options.fold:
            folded = fold_stem(graph, precision, self._most_parameters)
        if folded is not graph:
            moves = (*moves, "first convolution folded")
        return Pruned(
            folded,
            moves,
            _narrowed(self._graph, graph),
            weak / max(1, self.removable) if weak else 0.0,
            self.dead,
            weak,
            self._graph.parameters(),
            folded.parameters(),
            time_model.predicted_us(self._graph, precision),
            time_model.predicted_us(folded, precision),
        )


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
