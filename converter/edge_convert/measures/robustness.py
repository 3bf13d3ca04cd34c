"""What corrupted inputs do to source and artifact, each: whether compression cost robustness.

The right answers are the labels, or, without them, what the source says to the clean sample, so that
the source itself can fall short. How inputs are corrupted is `corruptions.py`'s matter, attacks are
`attack.py`'s, and what a drop may cost is for `gates.py` to say.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_convert import costs
from edge_convert.binding import Model
from edge_convert.evidence import Answered, Evidence
from edge_convert.graph import Array, Graph
from edge_convert.measures import attack, corruptions, intervals, pairs
from edge_convert.measures.corruptions import SEVERITIES, Corruption
from edge_convert.measures.intervals import Interval
from edge_convert.measures.pairs import Pair
from edge_convert.measures.truth import Truth

Mode = Literal["off", "basic", "attack"]
# Multiply-accumulates of the source that all corrupted samples together may take: seconds on one core.
AFFORDABLE_MACS = 60e9
MOST_SAMPLES, FEWEST_SAMPLES = 200, 16


@dataclass(frozen=True, eq=False)
class Row:
    """One corruption at one severity, 0 for clean.

    Args:
        source, artifact: Share of right answers (classification), the task's first metric, or None.
        agreement: Share of samples that get the same class from both.
        sqnr_db: The artifact's answers against the source's, both to corrupted samples; None when equal.
        lost: [n] what each sample loses: 1 when only the source is right, -1 when only the artifact.
    """

    corruption: str
    severity: int
    source: float | None
    artifact: float | None
    interval: Interval | None
    agreement: float | None
    sqnr_db: float | None
    lost: NDArray[np.float64] | None = None

    @property
    def drop(self) -> float | None:
        """What the artifact loses against the source, as a share."""
        return None if self.source is None or self.artifact is None else self.source - self.artifact

    def as_json(self) -> dict[str, Any]:
        """As report.json has it."""
        return {
            "corruption": self.corruption,
            "severity": self.severity,
            "source": self.source,
            "artifact": self.artifact,
            "drop_points": None if self.drop is None else 100 * self.drop,
            "interval_points": None if self.interval is None else [100 * end for end in self.interval],
            "agreement": self.agreement,
            "sqnr_db": self.sqnr_db,
        }


@dataclass(frozen=True, eq=False)
class Worst:
    """The corruption under which the artifact loses most, over its severities."""

    corruption: str
    drop: float
    interval: Interval | None


@dataclass(frozen=True, eq=False)
class Robustness:
    """What was found out about one artifact.

    Args:
        metric: What source and artifact of a row are, or "".
        truth: What counts as right.
        skipped: Corruptions that were not tried, and why.
    """

    samples: int
    mode: Mode
    metric: str
    truth: str
    clean: Row
    rows: tuple[Row, ...]
    skipped: Mapping[str, str]
    attack: Mapping[str, Any] | None = None

    @property
    def worst(self) -> Worst | None:
        """The largest mean drop of a corruption; None where drops cannot be told."""
        found = []
        for name in dict.fromkeys(row.corruption for row in self.rows):
            drops = [row for row in self.rows if row.corruption == name]
            known = [row.drop for row in drops if row.drop is not None]
            if known:
                found.append(Worst(name, float(np.mean(known)), _mean_interval(drops)))
        return max(found, key=lambda worst: worst.drop, default=None)

    def as_json(self) -> dict[str, Any]:
        """As report.json has it."""
        worst = self.worst
        return {
            "mode": self.mode,
            "samples": self.samples,
            "metric": self.metric,
            "truth": self.truth,
            "clean": self.clean.as_json(),
            "rows": [row.as_json() for row in self.rows],
            "worst": None
            if worst is None
            else {
                "corruption": worst.corruption,
                "drop_points": 100 * worst.drop,
                "interval_points": None if worst.interval is None else [100 * e for e in worst.interval],
            },
            "skipped": [{"corruption": name, "reason": why} for name, why in self.skipped.items()],
            "attack": None if self.attack is None else dict(self.attack),
        }


def _mean_interval(rows: list[Row]) -> Interval | None:
    """Of the mean drop over severities; the same samples are in all of them."""
    each = [row.lost for row in rows if row.lost is not None]
    if len(each) != len(rows):
        return None
    lost = np.mean(each, axis=0)
    found = intervals.bootstrap(lambda w: (float(intervals.weighted(w, lost) / w.sum()),), len(lost))
    return None if found is None else found[0]


class Trials:
    """Corrupted samples of one build; the source's answers to them are asked for once."""

    def __init__(self, graph: Graph, reference: Model, evidence: Evidence, mode: Mode = "basic") -> None:
        """Set up; nothing is run yet.

        Args:
            reference: The model whose answers count as the source's.

        Raises:
            ModuleNotFoundError: An attack is asked for and the extra [robustness] is not there.
        """
        if mode == "attack":
            attack.require()
        self._reference, self._task, self._mode = reference, evidence.task, mode
        self._done: dict[int, tuple[Model, Robustness | None]] = {}
        real = [p for p in graph.inputs if evidence.calibration.feeds[p.name].dtype.kind == "f"]
        self.spaces = {p.name: corruptions.space_of(p, evidence.calibration.feeds[p.name]) for p in real}
        feeds = evidence.held_out.feeds
        applicable = [
            one
            for kind in ("picture", "vector")
            for one in corruptions.of_kind(kind)
            if corruptions.applies(one, feeds, self.spaces)
        ]
        self.skipped = {
            one.name: f"{one.needs} is not installed: pip install 'edgefleet[robustness]'"
            for one in applicable
            if one.needs and importlib.util.find_spec(one.needs) is None
        }
        self._corruptions = [one for one in applicable if one.name not in self.skipped]
        self._macs = costs.macs(graph)
        few = int(AFFORDABLE_MACS / max(1, self._macs))
        self._severities: tuple[int, ...] = SEVERITIES
        runs = max(1, len(self._corruptions))
        if few // (runs * len(SEVERITIES)) < FEWEST_SAMPLES:
            self._severities = (2,)
        wanted = max(FEWEST_SAMPLES, few // (runs * len(self._severities)))
        held_out = evidence.held_out
        order = np.random.RandomState(2).permutation(len(held_out))[: min(MOST_SAMPLES, wanted)]
        self.clean = self._judged_by(held_out.part(np.sort(order).astype(np.intp)))
        self._answers: dict[tuple[str, int], Mapping[str, Array]] = {}

    def _judged_by(self, clean: Answered) -> Answered:
        """The samples with the right answers: labels, or what the source says to the clean sample."""
        self.truth = "labels"
        if clean.truth is None and self._task == "classification":
            self.truth = "the source's answer to the clean sample"
            first = next(iter(clean.answers.values())).reshape(len(clean), -1)
            return Answered(clean.feeds, clean.answers, Truth(classes=first.argmax(axis=1)), clean.slices)
        if clean.truth is None:
            self.truth = ""
        return clean

    def of(self, model: Model) -> Robustness | None:
        """Run an artifact on all of them, once; None when no corruption means anything to its inputs."""
        if self._mode == "off" or not self._corruptions:
            return None
        if id(model) not in self._done:  # kept with the model, so that no other gets its id
            self._done[id(model)] = model, self._of(model)
        return self._done[id(model)][1]

    def _of(self, model: Model) -> Robustness:
        floor = pairs.floor_of(model)
        clean = self._row("clean", 0, self.clean, model, floor)
        rows = []
        for one in self._corruptions:
            for severity in self._severities:
                samples = self._corrupted(one, severity)
                rows.append(self._row(one.name, severity, samples, model, floor))
        metric = _metric(self._pair(self.clean, self.clean.answers, floor))
        attacked = self._attacked(model) if self._mode == "attack" else None
        return Robustness(
            len(self.clean), self._mode, metric, self.truth, clean, tuple(rows), self.skipped, attacked
        )

    def _attacked(self, model: Model) -> Mapping[str, Any]:
        space = next(iter(self.spaces.values()), None)
        why = attack.why_not(self.clean, space, self._task)
        if why or space is None:
            return {"skipped": why}
        return attack.both(self._reference, model, self.clean, space, attack.how_many(self._macs))

    def _corrupted(self, one: Corruption, severity: int) -> Answered:
        feeds = corruptions.corrupted(one, self.clean.feeds, self.spaces, severity)
        known = one.name, severity
        if known not in self._answers:
            self._answers[known] = self._reference.run(feeds)
        return Answered(feeds, self._answers[known], self.clean.truth)

    def _pair(self, samples: Answered, answers: Mapping[str, Array], floor: float) -> Pair:
        return pairs.pair(self._task, samples, answers, floor)

    def _row(self, name: str, severity: int, samples: Answered, model: Model, floor: float) -> Row:
        compared = self._pair(samples, model.run(samples.feeds), floor)
        score = pairs.figures(compared)
        right = compared.right()
        if right is None:
            return Row(name, severity, score.source, score.artifact, None, score.agreement, score.sqnr_db)
        lost = right[0].astype(np.float64) - right[1].astype(np.float64)
        return Row(
            name, severity, score.source, score.artifact, score.drop_interval, score.agreement,
            score.sqnr_db, lost,
        )  # fmt: skip


def _metric(compared: Pair) -> str:
    return pairs.figures(compared).metric
