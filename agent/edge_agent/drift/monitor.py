"""Whether what a model sees, what it answers and how often it is right are still as when it was made.

Pure: telemetry windows go in, verdicts come out; `agent.py` stores the state and tells the verdicts. It
rests on the counts that windows hold anyway, and costs an inference nothing.

Three kinds are told apart. Data drift: a number of the inputs is distributed differently. Prediction
drift: one of the outputs is, confidence and class among them. Concept drift: labels say that answers
are wrong more often. Data drift alone may be harmless; with either of the others it is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import add
from typing import Literal

from edge_agent.drift.accuracy import KnownAccuracy, has_declined, known_accuracy
from edge_agent.drift.schedule import PER_MONTH, Schedule, schedule
from edge_agent.drift.spread import FEWEST_PAIRS, PAIRS, design_effect, pair_effect
from edge_contracts.digest import Digest
from edge_contracts.manifest import Manifest
from edge_contracts.messages import DriftKind, Window
from edge_contracts.model import Finite, Frozen
from edge_contracts.sketch import (
    ALPHA,
    MIN_DISTANCE,
    MIN_SAMPLES,
    Drift,
    ScalarBaseline,
    compare,
    distance_of,
)

CALM = 0.01  # what has drifted is over when chance makes as much in one span of a hundred
KINDS: tuple[DriftKind, ...] = ("data-drift", "prediction-drift", "concept-drift")


class Block(Frozen):
    """What was counted since a span was last judged.

    Args:
        elapsed_s: By the monotonic clock, while the agent ran.
        counts: By name of the number, then by bin.
        judged: What the span before it was found to be: kinds of drift, each in words.
    """

    elapsed_s: Finite = 0.0
    inferences: int = 0
    labelled: int = 0
    correct: int = 0
    counts: Mapping[str, tuple[int, ...]] = {}
    judged: Mapping[DriftKind, str] = {}


class State(Frozen):
    """Everything that the monitor knows; survives a restart.

    Args:
        windows: Counted so far: while they are few, nobody knows how far samples depend on each other.
        effects: By number, of the last pairs of successive windows (`spread.pair_effect`).
        last: Counts of the last window, to pair the next one with.
    """

    format: Literal["edgefleet.drift/1"] = "edgefleet.drift/1"
    bundle: Digest
    blocks: tuple[Block, ...]
    windows: int = 0
    effects: Mapping[str, tuple[Finite, ...]] = {}
    last: Mapping[str, tuple[int, ...]] = {}

    @property
    def drifting(self) -> dict[DriftKind, str]:
        """Kinds of drift that stand now, each in words; the words of the longest span."""
        found: dict[DriftKind, str] = {}
        for block in self.blocks:
            found |= block.judged
        return {kind: found[kind] for kind in KINDS if kind in found}


@dataclass(frozen=True)
class Change:
    """A verdict that is new.

    Args:
        began: Whether it drifts now; else it does so no longer.
    """

    kind: DriftKind
    began: bool
    detail: str


class Monitor:
    """The drift of one model's counts against its bundle's baseline.

    Args:
        bundle: Digest of the manifest.
        artifact: That runs; its accuracy is the one to keep.
        per_month: False alarms that a month may have, of this device.
        state: Of before a restart; another bundle's, or another schedule's, is left aside.
    """

    def __init__(
        self,
        manifest: Manifest,
        bundle: str,
        artifact: str,
        per_month: float = PER_MONTH,
        state: State | None = None,
    ) -> None:
        """Work out the schedule."""
        self._scalars = manifest.baseline.scalars
        self._known = known_accuracy(manifest.evaluation.get(artifact))
        chances = [s.critical.alarm if s.critical is not None else ALPHA for s in self._scalars]
        self.schedule: Schedule = schedule(sum(chances) + ALPHA * (self._known is not None), per_month)
        fresh = State(bundle=bundle, blocks=tuple(Block() for _ in self.schedule.spans_s))
        fits = state is not None and state.bundle == bundle and len(state.blocks) == len(fresh.blocks)
        self.state = state if state is not None and fits else fresh

    def add(self, window: Window) -> tuple[Change, ...]:
        """Count a window, judge the spans that it fills, and say what has changed by it."""
        before = self.state
        counts = {scalar.name: scalar.counts for scalar in window.scalars}
        effects, last = dict(before.effects), dict(before.last)
        for name, bins in counts.items():
            if name in last and len(last[name]) == len(bins):
                effect = pair_effect(last[name], bins)
                if effect is not None:
                    effects[name] = (*effects.get(name, ()), effect)[-PAIRS:]
            if sum(bins):
                last[name] = bins
        blocks: list[Block] = []
        turned = False
        for block, span_s in zip(before.blocks, self.schedule.spans_s, strict=True):
            filled = self._filled(block, span_s, window, counts, effects)
            # a shorter span has seen the world turn: what a longer one holds is half of each, and neither
            blocks.append(Block(judged=filled.judged) if turned else filled)
            turned = turned or filled.judged.keys() != block.judged.keys()
        self.state = before.model_copy(
            update={"blocks": tuple(blocks), "windows": before.windows + 1, "effects": effects, "last": last}
        )
        was, now = before.drifting, self.state.drifting
        return (
            *(Change(kind, True, now[kind]) for kind in KINDS if kind in now and kind not in was),
            *(Change(kind, False, was[kind]) for kind in KINDS if kind in was and kind not in now),
        )

    def _filled(
        self,
        block: Block,
        span_s: float,
        window: Window,
        counts: Mapping[str, tuple[int, ...]],
        effects: Mapping[str, tuple[float, ...]],
    ) -> Block:
        labelled, correct = (window.lineup.labelled, window.lineup.correct) if window.lineup else (0, 0)
        held = {
            scalar.name: _added(block.counts.get(scalar.name, ()), counts.get(scalar.name, ()))
            for scalar in self._scalars
        }
        filled = Block(
            elapsed_s=block.elapsed_s + window.duration_ms / 1000,
            inferences=block.inferences + window.inferences,
            labelled=block.labelled + labelled,
            correct=block.correct + correct,
            counts=held,
            judged=block.judged,
        )
        if filled.elapsed_s < span_s or filled.inferences < MIN_SAMPLES or self.state.windows < FEWEST_PAIRS:
            return filled
        judged = judge_counts(self._scalars, held, effects, block.judged)
        # labels come late and seldom: a span without enough of them says nothing new of accuracy
        known, keep = self._known, block.judged.get("concept-drift")
        if known is not None and filled.labelled >= MIN_SAMPLES:
            keep = judge_accuracy(known, filled.correct, filled.labelled, keep)
            filled = filled.model_copy(update={"labelled": 0, "correct": 0})
        if keep is not None:
            judged["concept-drift"] = keep
        return Block(labelled=filled.labelled, correct=filled.correct, judged=judged)


def judge_counts(
    scalars: tuple[ScalarBaseline, ...],
    counts: Mapping[str, tuple[int, ...]],
    effects: Mapping[str, tuple[float, ...]],
    judged: Mapping[DriftKind, str] = {},
) -> dict[DriftKind, str]:
    """Compare a span's counts with the baseline; what drifts, in words of the number that does so most.

    Args:
        effects: Of pairs of windows; samples that depend on each other count for less.
        judged: What the span before was found to be. What has drifted does so until it looks like chance:
            a span with less evidence takes nothing back.
    """
    worst: dict[DriftKind, Drift] = {}
    for scalar in scalars:
        bins = counts.get(scalar.name, ())
        if len(bins) != len(scalar.counts):
            continue
        factor = design_effect(effects.get(scalar.name, ()))
        live = bins if factor == 1.0 else [round(count / factor) for count in bins]
        if distance_of(scalar.counts, live) < MIN_DISTANCE:  # nearly always, and an eighth of the whole test
            continue
        found = compare(scalar, live)
        kind: DriftKind = "data-drift" if scalar.name.startswith("input:") else "prediction-drift"
        likely = found.certain or (kind in judged and found.p_value < CALM)
        if not likely:
            continue
        if kind not in worst or found.distance > worst[kind].distance:
            worst[kind] = found
    return {
        kind: f"{drift.name} is {drift.distance:.2f} from its baseline over {drift.samples} samples"
        for kind, drift in worst.items()
    }


def judge_accuracy(known: KnownAccuracy, correct: int, labelled: int, judged: str | None) -> str | None:
    """Hold labels against the accuracy that was reported; None while it has not fallen.

    Args:
        judged: What the span before said, as in `judge_counts`.
    """
    if not has_declined(known, correct, labelled, CALM if judged is not None else ALPHA):
        return None
    live, was = 100 * correct / labelled, 100 * known.share
    return f"{live:.1f} % of {labelled} labelled answers are right, {was:.1f} % were when it was made"


def _added(held: tuple[int, ...], more: tuple[int, ...]) -> tuple[int, ...]:
    if len(held) != len(more):
        return more or held
    return tuple(map(add, held, more))
