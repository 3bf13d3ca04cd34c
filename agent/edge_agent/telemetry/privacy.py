"""Differential privacy for the windows that leave the device: what is shown, and what it costs. Pure.

The unit of privacy is a person who appears in at most `contribution` inferences of a window; the
guarantee is pure epsilon-differential privacy (Dwork et al., TCC 2006), with discrete Laplace noise of scale
sensitivity / epsilon on every count (Ghosh et al., STOC 2009). Windows of a day compose sequentially
(Dwork and Roth 2014, theorem 3.16): their epsilons add up, and when the day's budget is spent no window
leaves any more. What is fixed beforehand is what may be seen: which counts there are never depends on
the inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from edge_agent.errors import SettingRefused
from edge_contracts.messages import ScalarCounts, Window
from edge_contracts.model import Finite, Frozen
from edge_contracts.sketch import QuantileSketch, bin_index

ANY = "any"  # the one reason: which reasons there are would depend on the inputs
FLAGS = ("out-of-range", "constant", "schema", "stuck")  # one input can be flagged for each of these
# Latency in bins of about a factor of two, from 10 microseconds to 100 seconds; the others go to the ends.
STEP = 17
LOWEST = bin_index(0.01)
COARSE = 24

# What becomes of each field of a Window; a test holds this to the fields that there are.
EXACT = (
    "kind", "bundle", "artifact", "runtime", "start_ms", "end_ms", "duration_ms", "golden_total",
    "golden_agree", "rss_bytes", "child_rss_bytes", "temperature_c", "trial", "merged", "clock_step_ms",
    "software",
)  # fmt: skip
NOISY = ("inferences", "errors", "refused", "flagged", "latency_ms", "scalars")
WITHHELD = {"cpu_s": 0.0, "unserved": {}, "lineup": None, "drifting": ()}

Noise = Callable[[Sequence[int], int, float], list[int]]


@dataclass(frozen=True)
class Rules:
    """What may be spent.

    Args:
        epsilon: For one window of one model.
        day_epsilon: For all windows of a day.
        contribution: Inferences of one person in one window, at most.
    """

    epsilon: float
    day_epsilon: float
    contribution: int = 1

    def __post_init__(self) -> None:
        """Check them.

        Raises:
            SettingRefused: They would let nothing out.
        """
        if not 0 < self.epsilon <= self.day_epsilon or self.contribution < 1:
            raise SettingRefused(
                f"privacy: {self.epsilon:g} for a window of {self.day_epsilon:g} for a day lets no window "
                "out; give a window at most what the day has"
            )


class Ledger(Frozen):
    """What was spent on the last day that was seen.

    Args:
        day: Days since 1970-01-01, UTC.
    """

    day: int = 0
    spent: Finite = 0.0


def spend(ledger: Ledger, rules: Rules, day: int) -> Ledger | None:
    """The ledger after one more window; None when the day's budget does not allow it.

    A clock that is set back opens no new budget: the day never goes back.
    """
    before = ledger.spent if day <= ledger.day else 0.0
    spent = before + rules.epsilon
    if spent > rules.day_epsilon * (1 + 1e-9):  # ten times 0.1 is a little more than 1
        return None
    return Ledger(day=max(day, ledger.day), spent=spent)


def sensitivity(window: Window, contribution: int) -> int:
    """How much all counts of a window together can change by one person (L1).

    An inference that is answered is in `inferences`, in one bin of the latency and in one of each scalar, and
    flagged at most once for each of FLAGS; one that is refused or fails is in one count.
    """
    return contribution * (2 + len(FLAGS) + len(window.scalars))


def release(window: Window, rules: Rules, noise: Noise) -> Window:
    """The window as it may leave: noisy counts, and without what could give them away.

    `cpu_s` follows the number of inferences; the lineup's counts and the verdict on drift have no noise.
    Counts below zero are shown as zero, which costs nothing (post-processing).
    """
    answers = [
        window.inferences,
        _sum(window.errors),
        _sum(window.refused),
        sum(window.flagged.get(reason, 0) for reason in FLAGS),
    ]
    parts = [answers, _coarse(window.latency_ms), *(list(scalar.counts) for scalar in window.scalars)]
    values = [value for part in parts for value in part]
    noisy = noise(values, sensitivity(window, rules.contribution), rules.epsilon)
    ends = accumulate((len(part) for part in parts), initial=0)
    shown = [[max(0, value) for value in noisy[start:stop]] for start, stop in pairwise(ends)]
    inferences, errors, refused, flagged = shown[0]
    fields = {name: getattr(window, name) for name in EXACT} | WITHHELD
    fields |= {
        "inferences": inferences,
        "errors": {ANY: errors},
        "refused": {ANY: refused},
        "flagged": {ANY: flagged},
        "latency_ms": _fine(shown[1]),
        "scalars": [
            ScalarCounts(name=scalar.name, counts=tuple(counts))
            for scalar, counts in zip(window.scalars, shown[2:], strict=True)
        ],
        "epsilon": rules.epsilon,
    }
    return Window.model_validate(fields)


def _coarse(sketch: QuantileSketch) -> list[int]:
    counts = [0] * COARSE
    for index, count in sketch.bins.items():
        counts[min(max((index - LOWEST) // STEP, 0), COARSE - 1)] += count
    return counts


def _fine(counts: Sequence[int]) -> QuantileSketch:
    """Each coarse bin's count at its middle."""
    return QuantileSketch(
        bins={LOWEST + place * STEP + STEP // 2: count for place, count in enumerate(counts) if count}
    )


def _sum(reasons: Mapping[str, int]) -> int:
    return sum(reasons.values())
