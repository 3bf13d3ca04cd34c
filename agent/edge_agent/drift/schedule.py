"""How often a model's counts are held against its baseline, so that false alarms keep to a stated rate.

By the critical values in the bundle a comparison alarms by chance with a known probability; how many
comparisons a month has is therefore what the rate allows. Stretches of time that double from one to the
next share it: a short one sees a large change soon, a long one sees a small change at all, and all of
them together are compared only twice as often as the shortest. By the union bound the rate holds
however the comparisons depend on each other, and whatever the size of a telemetry window.
"""

from __future__ import annotations

from dataclasses import dataclass

MONTH_S = 30 * 86_400.0
DAY_S = 86_400.0
GROWTH = 2
SHORTEST_S = 60.0  # sooner than a minute nobody acts
PER_MONTH = 0.1  # one false alarm in ten device-months: ten a month in a fleet of a hundred


@dataclass(frozen=True)
class Schedule:
    """Stretches of time after which counts are compared, ascending, and the false alarms that they cost.

    Args:
        spans_s: A stretch with too few samples goes on until it has enough.
        per_month: Expected false alarms of one device in a month of 30 days, at most.
    """

    spans_s: tuple[float, ...]
    per_month: float


def schedule(chance: float, per_month: float = PER_MONTH) -> Schedule:
    """The quickest schedule that keeps to a rate.

    Args:
        chance: Of a false alarm each time that everything is compared once.
        per_month: False alarms of one device in a month.

    Returns:
        Spans of at least a minute, up to a day or more.
    """
    # 1 + 1/2 + 1/4 + ... comparisons for each of the shortest
    span_s = max(SHORTEST_S, chance * MONTH_S * GROWTH / (GROWTH - 1) / per_month)
    spans = [span_s]
    while spans[-1] < DAY_S:
        spans.append(spans[-1] * GROWTH)
    return Schedule(tuple(spans), sum(chance * MONTH_S / span_s for span_s in spans))
