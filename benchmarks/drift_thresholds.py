"""Drift by window size: what PSI > 0.2, the chi-square test and simulated thresholds raise and find.

Every round draws a baseline and a live window of standard normal numbers and bins them as bundles and
devices do. False alarms are counted at a level of one in a thousand, where they can be; detection at
the level that is shipped, one in a million. "psi" is the folk rule, without a level.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge_contracts.features import make_baseline
from edge_contracts.sketch import ALPHA, ScalarBaseline, compare
from edge_convert.drift import critical
from edge_convert.terminal import table

BASELINES = (150, 1000)
WINDOWS = (50, 100, 200, 500, 1000, 5000)
ROUNDS = int(os.environ.get("EDGEFLEET_ROUNDS", "4000"))
LEVEL = 1e-3
Change = Callable[[NDArray[np.float64]], NDArray[np.float64]]
CHANGES: dict[str, Change] = {
    "+0.25 sd": lambda x: x + 0.25,
    "+0.5 sd": lambda x: x + 0.5,
    "+1 sd": lambda x: x + 1,
    "sd x1.5": lambda x: 1.5 * x,
}


def main() -> None:
    """Print the two tables."""
    quiet, loud = [], []
    for samples in BASELINES:
        for window in WINDOWS:
            counted = _alarms(samples, window, lambda x: x, LEVEL, ROUNDS)
            quiet.append((str(samples), str(window), *(f"{100 * share:.2f} %" for share in counted)))
            found = [_alarms(samples, window, change, ALPHA, ROUNDS // 10) for change in CHANGES.values()]
            loud.append((str(samples), str(window), *(" / ".join(f"{s:.2f}" for s in row) for row in found)))
    print(f"false alarms without any change, {ROUNDS} rounds; stated: 0.10 %")
    print(table(("baseline", "window", "psi", "chi-square", "simulated"), quiet))
    print(f"\nshare of changes found, psi / chi-square / simulated, {ROUNDS // 10} rounds")
    print(table(("baseline", "window", *CHANGES), loud))


def _alarms(samples: int, window: int, change: Change, level: float, rounds: int) -> tuple[float, ...]:
    """Share of windows that each rule calls drift."""
    random = np.random.RandomState(samples + window)
    alarms = np.zeros(3)
    for _ in range(rounds):
        (made,) = make_baseline({"x": random.standard_normal(samples)}).scalars
        values = change(random.standard_normal(window))
        live = np.bincount(np.searchsorted(made.edges, values, side="right"), minlength=len(made.counts))
        counts = [int(count) for count in live]
        drift = compare(made.model_copy(update={"critical": critical(made, level)}), counts)
        alarms += (_psi(made, live) > 0.2, drift.p_value < level, bool(drift.exceeds))
    return tuple(float(share) for share in alarms / rounds)


def _psi(scalar: ScalarBaseline, live: NDArray[np.intp]) -> float:
    """Population stability index; empty bins count as one sample in ten thousand, as is usual."""
    base = np.maximum(np.array(scalar.counts) / sum(scalar.counts), 1e-4)
    share = np.maximum(live / live.sum(), 1e-4)
    return float(((share - base) * np.log(share / base)).sum())


if __name__ == "__main__":
    main()
