"""Whether a quantity that was sampled over time stays flat or grows.

Pure; `soak.py` and `soak_fleet.py` sample and print. The first half of a run is left out: caches fill there,
and the faults that end the process are in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

HOUR_S = 3600.0
# Of the agent: what the fitted line may rise over the second half. It is a rise and not a rate, so that a
# short run is not judged by the noise of minutes made into hours; a longer one is judged more strictly.
BOUNDS = {
    "RSS MiB": 2.0,
    "anonymous MiB": 2.0,
    "open files": 2.0,
    "threads": 1.0,
    "children": 1.0,
    "children's RSS MiB": 4.0,
    "home MiB": 2.0,
}


@dataclass(frozen=True)
class Verdict:
    """One row of the table: medians of the first, middle and last tenth, and the line through half 2."""

    name: str
    start: float
    middle: float
    end: float
    per_hour: float
    rise: float
    bound: float

    @property
    def grows(self) -> bool:
        """Whether it rose by more than its bound."""
        return self.rise > self.bound


def judged(name: str, times_s: ArrayLike, values: ArrayLike, bound: float) -> Verdict:
    """Fit a straight line (least squares) through the samples of the second half.

    Args:
        bound: What the line may rise over that half.

    Raises:
        ValueError: There are fewer than ten samples.
    """
    t, v = np.asarray(times_s, float), np.asarray(values, float)
    if len(v) < 10:
        raise ValueError(f"{len(v)} samples of {name}; ten are needed: run it longer")
    late = t >= t[0] + (t[-1] - t[0]) / 2
    slope = float(np.polyfit(t[late], v[late], 1)[0])
    tenth = max(1, len(v) // 10)
    mid = (len(v) - tenth) // 2
    return Verdict(
        name,
        float(np.median(v[:tenth])),
        float(np.median(v[mid : mid + tenth])),
        float(np.median(v[-tenth:])),
        slope * HOUR_S,
        slope * float(t[late][-1] - t[late][0]),
        bound,
    )


def table(
    times_s: Sequence[float], samples: Sequence[Mapping[str, float]], bounds: Mapping[str, float]
) -> tuple[str, bool]:
    """The verdict on every quantity that has a bound, as text, and whether one of them grows."""
    verdicts = [judged(name, times_s, [s[name] for s in samples], bound) for name, bound in bounds.items()]
    lines = ["| | start | middle | end | slope/h | rise over half 2 | bound | |", "|---" * 8 + "|"]
    for v in verdicts:
        levels = f"{v.start:.1f} | {v.middle:.1f} | {v.end:.1f}"
        rise = f"{v.per_hour:+.1f} | {v.rise:+.2f} | {v.bound:g}"
        lines.append(f"| {v.name} | {levels} | {rise} | {'GROWS' if v.grows else 'flat'} |")
    growing = [v.name for v in verdicts if v.grows]
    lines += ["", f"GROWS: {', '.join(growing)}" if growing else "FLAT"]
    return "\n".join(lines), bool(growing)
