"""Evidence: real samples and the source's own answers to them, gathered once for all profiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_contracts.manifest import Task
from edge_convert import costs
from edge_convert.binding import Model
from edge_convert.data import Samples, Split, split
from edge_convert.errors import DataInvalid
from edge_convert.graph import Array, Graph
from edge_convert.measures import task as tasks
from edge_convert.measures.truth import Truth, looks_like_regression, read_truth

MIN_RANGES = 64
RANGE_MACS = 20e9
MANY = 32  # so many samples of one class are no accident


@dataclass(frozen=True, eq=False)
class Answered:
    """Samples and what the source answers to them.

    Args:
        truth: The right answers, where known.
        slices: By name of the column, [n] the name of each sample's group.
    """

    feeds: Mapping[str, Array]
    answers: Mapping[str, Array]
    truth: Truth | None = None
    slices: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)

    @property
    def classes(self) -> NDArray[np.intp] | None:
        """The right class of each, where known."""
        return None if self.truth is None else self.truth.classes

    def __len__(self) -> int:
        """Number of samples."""
        return len(next(iter(self.feeds.values())))

    def part(self, indices: NDArray[np.intp]) -> Answered:
        """Some of the samples."""
        return Answered(
            {name: values[indices] for name, values in self.feeds.items()},
            {name: values[indices] for name, values in self.answers.items()},
            None if self.truth is None else self.truth.part(indices),
            {name: groups[indices] for name, groups in self.slices.items()},
        )


@dataclass(frozen=True, eq=False)
class Evidence:
    """What candidates are made from and judged by.

    Args:
        classes: Number of classes, 0 when the model does not classify.
        calibration: All calibration samples.
        split: Which of them do what.
        held_out: The samples of the final score: the evaluation file's, or those kept back.
    """

    task: Task
    classes: int
    calibration: Answered
    split: Split
    held_out: Answered

    @property
    def ranges(self) -> Answered:
        """The samples that statistics come from."""
        return self.calibration.part(self.split.ranges)

    @property
    def selection(self) -> Answered:
        """The samples that choose among candidates."""
        return self.calibration.part(self.split.selection)


def gather(
    graph: Graph, reference: Model, calibration: Samples, evaluation: Samples | None, asked: Task | None
) -> Evidence:
    """Run the source on every sample.

    Args:
        reference: The model whose answers count as right.

    Raises:
        DataInvalid: The source answers with NaN, or with the same to every sample; the labels do
            not fit the model.
    """
    answers = _answers(reference, calibration)
    labels = calibration.labels if evaluation is None else evaluation.labels
    like_values = labels is not None and looks_like_regression(labels, graph)
    task = tasks.detect(graph, answers, labels is not None, asked, like_values)
    classes = tasks.classes_of(graph) if task == "classification" else 0
    _check_variety(answers, classes, calibration)
    whole = Answered(
        calibration.feeds, answers, read_truth(calibration, task, graph, classes), calibration.slices
    )
    # statistics and bias correction run in numpy: a large model gets as many samples as take minutes
    most = max(MIN_RANGES, int(RANGE_MACS / max(1, costs.macs(graph))))
    parts = split(len(calibration), evaluation is not None, most)
    if evaluation is None:
        held_out = whole.part(parts.score)
    else:
        held_out = Answered(
            evaluation.feeds,
            _answers(reference, evaluation),
            read_truth(evaluation, task, graph, classes),
            evaluation.slices,
        )
    return Evidence(task, classes, whole, parts, held_out)


def _check_variety(answers: Mapping[str, Array], classes: int, samples: Samples) -> None:
    """Refuse samples that are all of one class to the source: a wrong range looks like this.

    With two classes it may be honest: nothing but pictures without a person.
    """
    if classes <= 2 or len(samples) < MANY:
        return
    winners = next(iter(answers.values())).reshape(len(samples), -1).argmax(axis=1)
    if (winners == winners[0]).all():
        raise DataInvalid(
            f"the source gives class {winners[0]} to all {len(samples)} samples of {samples.path}; "
            "check that they are in the range that it was trained with"
        )


def _answers(reference: Model, samples: Samples) -> dict[str, Array]:
    answers = reference.run(samples.feeds)
    for name, values in answers.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            bad = np.flatnonzero(~np.isfinite(values).reshape(len(values), -1).all(axis=1))
            raise DataInvalid(
                f"the source's output {name!r} is NaN or infinite for {len(bad)} samples of {samples.path}, "
                f"the first is sample {bad[0]}; check the inputs' range"
            )
    if len(samples) > 1 and all((values == values[:1]).all() for values in answers.values()):
        raise DataInvalid(
            f"the source gives the same answer to all {len(samples)} samples of {samples.path}; "
            "check that they are in the range that it was trained with"
        )
    return answers
