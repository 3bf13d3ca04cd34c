"""Which of several artifacts is best: pure functions of figures that do not depend on the moment.

Quality is measured on the samples that choose, speed is predicted from the graph, size is counted. Timings
of this host are not in here: they differ from run to run, and the same inputs must give the same bundle.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edge_contracts.manifest import Score
from edge_convert.gates import Limits

Prefer = Literal["balanced", "accuracy", "speed", "size"]

# "balanced" takes a faster artifact only if it uses up no more than this share of what the gates allow:
# the samples that choose are few, and the gates will look at others.
COMFORTABLE = 0.5
# A limit on noise says what is still useful, and not that a tenth more of it is worth a tenth more speed.
HALVED_BY_DB = 10.0
# What half of the time is worth: this share of what the gates allow.
HALF_THE_TIME = 0.5
# Doublings of speed or size that differ by less than this (5 %) are equal: quality decides.
SAME = 0.07
SAME_SPEED = 0.014  # to who prefers speed, 1 %
# What noise is worth among precisions of one network that are no slower than int8 throughout: every 6 dB
# less of it is one bit more, for which 15 % of time may be given, and none for less than half a bit.
DOUBLED_FOR_DB = 30.0
HALF_A_BIT_DB = 3.0


@dataclass(frozen=True)
class Figures:
    """One candidate as the choice sees it.

    Args:
        name: Unique among those compared; settles ties.
        selection: Its answers against the source's, on the samples that choose.
        cost_us: Predicted time of one inference.
        bytes: Of its files.
        unsaturated_db: Signal to noise before what saturates the answers, where known (`unsaturated.py`).
        form: Of the network: what it was pruned to. Those of one form differ by their precision alone.
        mixed: Whether some of its layers are in float.
    """

    name: str
    selection: Score
    cost_us: float
    bytes: int
    unsaturated_db: float | None = None
    form: str = ""
    mixed: bool = False

    @property
    def answers_db(self) -> float:
        """Signal to noise of the answers; infinite when they are equal."""
        return math.inf if self.selection.sqnr_db is None else self.selection.sqnr_db

    @property
    def quality_db(self) -> float:
        """Signal to noise as the choice rests on it, the steadier figure where it is known."""
        return self.answers_db if self.unsaturated_db is None else self.unsaturated_db


def allowance_used(selection: Score, limits: Limits) -> float:
    """The largest share of what a gate allows that these figures use up; above 1 the gate would say no.

    Noise at the gate's limit uses up all of it, every 10 dB less halve that.
    A share of n samples is taken at (k + 1/2) / (n + 1), Krichevsky and Trofimov's estimate: no miss among
    ten says less than no miss among a thousand.
    """
    if selection.agreement is None:
        if selection.sqnr_db is None:
            return 0.0
        return float(2 ** ((limits.min_sqnr_db - selection.sqnr_db) / HALVED_BY_DB))
    missed = (1 - selection.agreement) * selection.samples
    shares = [_share((missed + 0.5) / (selection.samples + 1), 1 - limits.min_agreement)]
    if selection.source is not None and selection.artifact is not None and selection.metric == "accuracy":
        shares.append(_share(max(0.0, 100 * (selection.source - selection.artifact)), limits.max_drop))
    if selection.sqnr_db is None:
        shares[0] = 0.0  # equal answers: nothing is missed, however few they are
    return max(shares)


def _share(found: float, allowed: float) -> float:
    return found / allowed if allowed > 0 else (math.inf if found > 0 else 0.0)


def front(candidates: Sequence[Figures]) -> set[str]:
    """Names of those that no other one beats: as good, as fast and as small, and better in one of them."""
    return {c.name for c in candidates if not any(_beats(other, c) for other in candidates)}


def _beats(one: Figures, other: Figures) -> bool:
    ours = (-one.answers_db, one.cost_us, one.bytes)
    theirs = (-other.answers_db, other.cost_us, other.bytes)
    return ours != theirs and all(a <= b for a, b in zip(ours, theirs, strict=True))


def ordered(candidates: Sequence[Figures], limits: Limits, prefer: Prefer) -> list[Figures]:
    """The order in which to put candidates before the gates.

    "accuracy": the least noise first. "speed" and "size": of those that keep within the gates on the
    samples that choose, the fastest or smallest first. "balanced": of those that use up half of what the
    gates allow or less, the best trade: half of the time is worth half of the allowance; and then, of
    the same form of the network, what has less noise and is no slower than int8 throughout. Whoever does
    not qualify follows behind, the least noise first.
    """

    used = {c.name: allowance_used(c.selection, limits) for c in candidates}
    most = {"accuracy": -1.0, "balanced": COMFORTABLE, "speed": 1.0, "size": 1.0}[prefer]
    fitting = [c for c in candidates if used[c.name] <= most]
    order: list[Figures] = []
    while fitting:
        cost = {c.name: _cost(c, used[c.name], prefer) for c in fitting}
        nearly = min(cost.values()) + (SAME_SPEED if prefer == "speed" else SAME)
        first = min((c for c in fitting if cost[c.name] <= nearly), key=_by_quality)
        if prefer == "balanced":
            first = _refined(first, fitting)
        order.append(first)
        fitting.remove(first)
    behind = [c for c in candidates if used[c.name] > most]
    within = 1.0 if prefer != "accuracy" else math.inf
    return order + sorted(behind, key=lambda c: (used[c.name] > within, *_by_quality(c)))


def _refined(first: Figures, fitting: Sequence[Figures]) -> Figures:
    """The best trade of noise for time, of the same form of the network and no slower than int8 throughout.

    Pruning changes what the network is, and noise says little of it; precision changes the noise alone, which
    is known far better than how many of a few samples it turns.
    """
    alike = [c for c in fitting if c.form == first.form]
    int8 = min((_doublings(c) for c in alike if not c.mixed), default=-math.inf)
    within = [c for c in alike if _doublings(c) <= max(_doublings(first), int8) + SAME]
    fastest = min(within, key=lambda c: (_doublings(c), *_by_quality(c)))
    worth = [c for c in within if c.quality_db >= fastest.quality_db + HALF_A_BIT_DB]
    return min((fastest, *worth), key=_noise_for_time)


def _noise_for_time(c: Figures) -> tuple[float, float, float, int, str]:
    return _doublings(c) - c.quality_db / DOUBLED_FOR_DB, *_by_quality(c)


def _doublings(c: Figures) -> float:
    return math.log2(max(c.cost_us, 1e-9))


def _cost(c: Figures, used: float, prefer: Prefer) -> float:
    """What is to be small: doublings of time or size; for "balanced", of time against the allowance."""
    if prefer == "size":
        return math.log2(max(c.bytes, 1))
    return _doublings(c) + used / HALF_THE_TIME if prefer == "balanced" else _doublings(c)


def _by_quality(c: Figures) -> tuple[float, float, int, str]:
    return -c.quality_db, c.cost_us, c.bytes, c.name
