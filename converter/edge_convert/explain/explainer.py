"""The explainer: what changed in an artifact's answers, and whether it still looks at the same things.

Work is bounded by multiply-accumulates, not by time, so that two builds explain the same; a model
too large for that says so. Nothing of this decides anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from edge_convert import costs
from edge_convert.binding import Model
from edge_convert.evidence import Evidence
from edge_convert.explain import changed, occlusion, permutation
from edge_convert.explain.changed import Changes, FarAnswer
from edge_convert.explain.picture import data_address, picture_axes, pixels, value_range
from edge_convert.explain.ranks import rank_correlation
from edge_convert.graph import Graph, Port

MACS = 8e9  # a few seconds on one core
INFERENCES = 600
SCENES = 3
CLEAR = 0.5  # margin of a softmax that is clear, and can still fall


@dataclass(frozen=True)
class OcclusionPair:
    """What two models look at in one picture.

    Args:
        why: Why this sample: "a clear answer", "changed its answer" or "closest call".
        winner: The class that is watched: the source's; None for a model without classes.
        source, artifact: Rows of the map.
        correlation: Of the two maps' ranks; None when one of them is flat.
    """

    sample: int
    why: str
    winner: int | None
    source: tuple[tuple[float, ...], ...]
    artifact: tuple[tuple[float, ...], ...]
    correlation: float | None


@dataclass(frozen=True)
class ImportancePair:
    """What two models rest their answers on, feature by feature.

    Args:
        names: Of the features, in the input's order.
    """

    samples: int
    names: tuple[str, ...]
    source: tuple[float, ...]
    artifact: tuple[float, ...]
    correlation: float | None


@dataclass(frozen=True)
class Explanation:
    """What changed in the answers of an artifact.

    Args:
        pictures: Of the samples that are spoken of, by index, as data addresses.
        notes: What is missing, and why.
    """

    changes: Changes | None = None
    far: tuple[FarAnswer, ...] = ()
    occlusion: tuple[OcclusionPair, ...] = ()
    permutation: ImportancePair | None = None
    pictures: Mapping[int, str] | None = None
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Explainer:
    """Explains artifacts of one source on the held-out samples, each artifact once."""

    def __init__(
        self,
        graph: Graph,
        source: Model,
        evidence: Evidence,
        labels: Sequence[str] = (),
        color_order: str = "",
    ) -> None:
        """Set up; nothing is run yet.

        Args:
            graph: The source's.
            source: The model whose answers count as right.
        """
        self._graph, self._source, self._evidence = graph, source, evidence
        self._labels, self._color_order = tuple(labels), color_order
        self._known: list[tuple[Model, Explanation]] = []

    def of(self, artifact: Model) -> Explanation:
        """The explanation of an artifact."""
        for model, explanation in self._known:
            if model is artifact:
                return explanation
        explanation = self._explain(artifact)
        self._known.append((artifact, explanation))
        return explanation

    def _explain(self, artifact: Model) -> Explanation:
        samples = self._evidence.held_out
        answers = artifact.run(samples.feeds)
        first = next(iter(samples.answers))
        explanation = Explanation(labels=self._labels)
        if not all(np.isfinite(values).all() for values in answers.values()):
            return _without(explanation, "nothing explained: some answers are NaN or infinite")
        if self._evidence.task == "classification":
            found = changed.changes(samples.answers[first], answers[first], samples.classes)
            explanation = replace(explanation, changes=found)
        else:
            explanation = replace(explanation, far=changed.furthest(samples.answers, answers))
        port = next((p for p in self._graph.inputs if picture_axes(p) is not None), None)
        if port is not None:
            explanation = self._with_maps(explanation, port, artifact)
            return replace(explanation, pictures=self._pictures(port, spoken_of(explanation)))
        return self._with_importance(explanation, artifact)

    def _with_maps(self, explanation: Explanation, port: Port, artifact: Model) -> Explanation:
        axes = picture_axes(port)
        if axes is None:
            raise AssertionError(f"{port.name!r} is not a picture")
        scenes = self._scenes(explanation)
        cells = _cells(self._inferences(), len(scenes))
        if cells < occlusion.FEWEST_CELLS:
            return _without(explanation, "no occlusion maps: the model is too large for them")
        feeds = self._evidence.held_out.feeds
        fill = self._evidence.calibration.feeds[port.name].mean(axis=0)
        fill = np.broadcast_to(fill.mean(axis=(axes.rows, axes.columns), keepdims=True), fill.shape)
        pairs = []
        for sample, why in scenes:
            scene = occlusion.Scene(
                {name: values[sample : sample + 1] for name, values in feeds.items()},
                port.name,
                axes,
                fill,
                occlusion.cells_along(port.shape[1 + axes.rows], cells),
                occlusion.cells_along(port.shape[1 + axes.columns], cells),
            )
            winner = self._winner(sample)
            ours, theirs = (occlusion.heat(m, scene, winner) for m in (self._source, artifact))
            if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
                why_not = f"no occlusion map of sample {sample}: an answer became NaN or infinite"
                explanation = _without(explanation, why_not)
                continue
            pairs.append(
                OcclusionPair(sample, why, winner, _rows(ours), _rows(theirs), rank_correlation(ours, theirs))
            )
        return replace(explanation, occlusion=tuple(pairs))

    def _with_importance(self, explanation: Explanation, artifact: Model) -> Explanation:
        held_out = self._evidence.held_out
        features = permutation.features_of(held_out.feeds)
        count = min(permutation.SAMPLES, len(held_out), int(self._affordable() / (2 * (len(features) + 1))))
        if count < permutation.FEWEST_SAMPLES:
            short = "few samples" if len(held_out) < permutation.FEWEST_SAMPLES else "large a model"
            return _without(explanation, f"no permutation importance: too {short} for it")
        few = {name: values[:count] for name, values in held_out.feeds.items()}
        ours, theirs = (permutation.importance(m, few, features) for m in (self._source, artifact))
        if ours is None or theirs is None:
            why_not = "no permutation importance: one answer to every sample, or one that is not finite"
            return _without(explanation, why_not)
        pair = ImportancePair(
            count,
            tuple(feature.name for feature in features),
            tuple(float(v) for v in ours),
            tuple(float(v) for v in theirs),
            rank_correlation(ours, theirs),
        )
        return replace(explanation, permutation=pair)

    def _scenes(self, explanation: Explanation) -> list[tuple[int, str]]:
        """The samples to make maps of: a clear answer, one that changed, the closest call; or the furthest.

        Not the surest answer: its softmax is 1 whatever is covered, and ranks nothing.
        """
        held_out = self._evidence.held_out
        if explanation.changes is None:
            far = [(f.sample, "moved furthest") for f in explanation.far[:SCENES]]
            return far or [(0, "the first")]
        scores = next(iter(held_out.answers.values())).reshape(len(held_out), -1)
        margins = changed.margin(scores)
        shares = bool((scores >= 0).all() and (scores <= 1).all())
        clear = CLEAR if shares else float(np.median(margins))
        wanted = [(int(np.abs(margins - clear).argmin()), "a clear answer")]
        wanted += [(c.sample, "changed its answer") for c in explanation.changes.shown[:1]]
        wanted.append((int(margins.argmin()), "closest call"))
        kept: dict[int, str] = {}
        for sample, why in wanted:
            kept.setdefault(sample, why)
        return list(kept.items())

    def _winner(self, sample: int) -> int | None:
        if self._evidence.task != "classification":
            return None
        return int(next(iter(self._evidence.held_out.answers.values()))[sample].argmax())

    def _pictures(self, port: Port, indices: Sequence[int]) -> dict[int, str]:
        axes = picture_axes(port)
        if axes is None:
            raise AssertionError(f"{port.name!r} is not a picture")
        values = self._evidence.held_out.feeds[port.name]
        span = value_range(self._evidence.calibration.feeds[port.name])
        return {i: data_address(pixels(values[i], axes, span, self._color_order)) for i in indices}

    def _affordable(self) -> float:
        """Inferences that the work allows, of source and artifact together."""
        return MACS / max(1, costs.macs(self._graph))

    def _inferences(self) -> int:
        return int(min(INFERENCES, self._affordable()))


def spoken_of(explanation: Explanation) -> tuple[int, ...]:
    """The samples that an explanation names, ascending."""
    named = {pair.sample for pair in explanation.occlusion} | {far.sample for far in explanation.far}
    if explanation.changes is not None:
        named |= {change.sample for change in explanation.changes.shown}
    return tuple(sorted(named))


def _cells(inferences: int, scenes: int) -> int:
    """Cells along each side of a map, so that the maps of both models are affordable."""
    return min(occlusion.CELLS, int((max(0, inferences / (2 * max(1, scenes)) - 1)) ** 0.5))


def _rows(heat: occlusion.Heat) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(value) for value in row) for row in heat)


def _without(explanation: Explanation, why: str) -> Explanation:
    return replace(explanation, notes=(*explanation.notes, why))
