"""Source and artifact side by side on the same samples: every metric of both, with its interval.

The figures are those of `metrics.py`, the intervals those of `intervals.py`; which of them may
refuse an artifact is for `gates.py` to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_contracts.manifest import Score, Task
from edge_convert.binding import Model
from edge_convert.evidence import Answered
from edge_convert.gates import NOTHING_LEFT_DB
from edge_convert.graph import Array
from edge_convert.measures import intervals, metrics
from edge_convert.measures.compare import compare
from edge_convert.measures.intervals import Interval, Weights
from edge_convert.measures.metrics import FLOAT_FLOOR, Measure, Metric, Reading
from edge_convert.measures.truth import Truth

BOTH = "percentile bootstrap over samples, fixed seed"
PROPORTION = "Wilson; the difference by Bonett and Price; McNemar's exact test"


@dataclass(frozen=True, eq=False)
class Pair:
    """Answers of source and artifact to the same samples.

    Args:
        samples: With the source's answers, and the right ones where known.
        answers: The artifact's, by output name.
        source, artifact: The same two in the metrics' form.
        floor: The smallest probability that the artifact's output can tell from 0.
    """

    task: Task
    samples: Answered
    answers: Mapping[str, Array]
    source: Reading
    artifact: Reading
    floor: float = FLOAT_FLOOR

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.samples)

    @property
    def truth(self) -> Truth | None:
        """The right answers, where known."""
        return self.samples.truth

    @property
    def like_softmax(self) -> bool:
        """Whether the source's scores are probabilities."""
        return self.source.scores is not None and metrics.is_softmax(self.source.scores)

    def same(self) -> NDArray[np.bool_] | None:
        """Which samples get the source's class from the artifact; None when it does not classify."""
        if self.source.scores is None or self.artifact.scores is None:
            return None
        return np.asarray(self.source.scores.argmax(axis=1) == self.artifact.scores.argmax(axis=1))

    def right(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
        """Which samples source and artifact get right; None without labels."""
        if self.truth is None or self.truth.classes is None:
            return None
        if self.source.scores is None or self.artifact.scores is None:
            return None
        classes = self.truth.classes
        return self.source.scores.argmax(axis=1) == classes, self.artifact.scores.argmax(axis=1) == classes


def pair(task: Task, samples: Answered, answers: Mapping[str, Array], floor: float = FLOAT_FLOOR) -> Pair:
    """Put an artifact's answers beside the source's.

    Raises:
        DataInvalid: A detector's outputs cannot be told, though there are boxes to hold them against.
    """
    if task == "detection" and samples.truth is None:
        return Pair(task, samples, answers, Reading(), Reading(), floor)
    theirs = next(iter(samples.answers.values()))
    like_softmax = metrics.is_softmax(theirs.reshape(len(theirs), -1).astype(np.float64))
    source = metrics.read(task, samples.feeds, samples.answers, like_softmax)
    artifact = metrics.read(task, samples.feeds, answers, like_softmax, floor)
    return Pair(task, samples, answers, source, artifact, floor)


def floor_of(model: Model) -> float:
    """The smallest probability that a model's first output tells from 0: half a code where it has codes."""
    scale = model.outputs[0].scale
    return FLOAT_FLOOR if scale is None else scale / 2


def both(one: Metric, both_of: Pair) -> tuple[Measure, Measure] | None:
    """A metric of source and of artifact; None when it does not apply."""
    if both_of.truth is None:
        return None
    theirs = one.measure(both_of.source, both_of.truth)
    ours = one.measure(both_of.artifact, both_of.truth)
    return None if theirs is None or ours is None else (theirs, ours)


def figures(compared: Pair) -> Score:
    """Noise, agreement, and the task's first metric; its interval only where that takes no resampling."""
    classes = None if compared.truth is None else compared.truth.classes
    found = compare(compared.samples.answers, compared.answers, compared.task, classes)
    first = metrics.primary(compared.task)
    measures = None if first is None or found.metric else both(first, compared)
    if first is None or measures is None:
        return found
    everyone = np.ones(len(compared))
    source, artifact = (measure(everyone) for measure in measures)
    if source is None or artifact is None:
        return found
    return found.model_copy(update={"metric": first.name, "source": source, "artifact": artifact})


def scored(compared: Pair) -> Score:
    """The figures that gates judge, with the interval of the drop."""
    found = figures(compared)
    first = metrics.primary(compared.task)
    measures = None if first is None or not found.metric or found.drop_interval else both(first, compared)
    if measures is None:
        return found
    drops = intervals.bootstrap(lambda weights: _drop(measures, weights), len(compared))
    return found if drops is None else found.model_copy(update={"drop_interval": drops[0]})


def _drop(measures: tuple[Measure, Measure], weights: Weights) -> tuple[float] | None:
    theirs, ours = (measure(weights) for measure in measures)
    return None if theirs is None or ours is None else (theirs - ours,)


@dataclass(frozen=True)
class Row:
    """One metric of both models.

    Args:
        source: None where the figure compares the artifact with the source itself.
        intervals: Of source, artifact and their difference (artifact - source), 95 %.
        method: How the intervals were found.
        facts: What belongs to this metric alone, such as McNemar's p-value.
    """

    name: str
    title: str
    unit: str
    higher_is_better: bool
    primary: bool
    samples: int
    source: float | None
    artifact: float | None
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    method: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """As report.json has it."""
        known = self.source is not None and self.artifact is not None
        return {
            "name": self.name,
            "title": self.title,
            "unit": self.unit,
            "higher_is_better": self.higher_is_better,
            "primary": self.primary,
            "samples": self.samples,
            "source": self.source,
            "artifact": self.artifact,
            "difference": self.artifact - self.source if known else None,  # type: ignore[operator]
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "level": intervals.LEVEL,
            "method": self.method,
            **self.facts,
        }


def rows(compared: Pair) -> tuple[Row, ...]:
    """Every metric that applies, the gated one first; then agreement with the source and noise."""
    found = []
    for one in metrics.of_task(compared.task):
        row = _accuracy(one, compared) if one.name == "accuracy" else _bootstrapped(one, compared)
        found += [] if row is None else [row]
    same = compared.same()
    if same is not None:
        agreeing = int(same.sum())
        ends = intervals.wilson(agreeing, len(same))
        share = agreeing / len(same)
        found.append(
            Row("agreement", "Agreement with the source", "share", True, False, len(same), None, share,
                {"artifact": ends}, "Wilson")
        )  # fmt: skip
    return (*found, *_noise(compared))


def _accuracy(one: Metric, compared: Pair) -> Row | None:
    right = compared.right()
    if right is None:
        return None
    counts, samples = intervals.paired(*right), len(compared)
    low, high = intervals.drop_interval(counts)
    ends = {
        "source": intervals.wilson(int(right[0].sum()), samples),
        "artifact": intervals.wilson(int(right[1].sum()), samples),
        "difference": (-high, -low),
    }
    facts = {
        "lost": counts.lost,
        "gained": counts.gained,
        "p_value": intervals.mcnemar_p(counts),
        "smallest_visible_drop": intervals.smallest_visible_drop(counts),
    }
    source, artifact = (float(r.mean()) for r in right)
    return Row(one.name, one.title, "share", True, True, samples, source, artifact, ends, PROPORTION, facts)


def _bootstrapped(one: Metric, compared: Pair) -> Row | None:
    measures = both(one, compared)
    if measures is None:
        return None
    samples = len(compared)
    source, artifact = (measure(np.ones(samples)) for measure in measures)
    if source is None or artifact is None:
        return None

    def three(weights: Weights) -> tuple[float, ...] | None:
        theirs, ours = (measure(weights) for measure in measures)
        return None if theirs is None or ours is None else (theirs, ours, ours - theirs)

    found = intervals.bootstrap(three, samples)
    ends = {} if found is None else dict(zip(("source", "artifact", "difference"), found, strict=True))
    return Row(
        one.name,
        one.title,
        "share" if one.share else "",
        one.higher_is_better,
        one == metrics.primary(compared.task),
        samples,
        source,
        artifact,
        ends,
        BOTH if ends else "",
    )


def _noise(compared: Pair) -> tuple[Row, ...]:
    """Signal over noise of the worst output."""
    worst: Row | None = None
    for name, reference in compared.samples.answers.items():
        if reference.dtype.kind != "f":
            continue
        exact = reference.reshape(len(reference), -1).astype(np.float64)
        error = exact - compared.answers[name].reshape(exact.shape).astype(np.float64)
        if not np.isfinite(error).all():
            decibels, ends = NOTHING_LEFT_DB, None
        else:
            powers = np.square(exact).sum(axis=1), np.square(error).sum(axis=1)
            value = _decibels(powers, np.ones(len(exact)))
            if value is None:
                continue  # equal to the source's: there is no noise
            decibels = value[0]
            ends = intervals.bootstrap(lambda w, p=powers: _decibels(p, w), len(exact))  # type: ignore[misc]
        if worst is None or (worst.artifact is not None and decibels < worst.artifact):
            worst = Row(
                "sqnr_db", f"Signal to noise of {name}", "dB", True, False, len(exact), None, decibels,
                {} if ends is None else {"artifact": ends[0]}, BOTH if ends else "",
            )  # fmt: skip
    return () if worst is None else (worst,)


def _decibels(
    powers: tuple[NDArray[np.float64], NDArray[np.float64]], weights: Weights
) -> tuple[float] | None:
    signal, noise = (float(intervals.weighted(weights, power)) for power in powers)
    if noise == 0:
        return None
    return (max(NOTHING_LEFT_DB, 10 * np.log10(signal / noise)) if signal else NOTHING_LEFT_DB,)
