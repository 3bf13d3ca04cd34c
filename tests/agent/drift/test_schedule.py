"""How often to compare, so that false alarms keep to what was stated."""

from __future__ import annotations

import pytest

from edge_agent.drift.schedule import DAY_S, MONTH_S, SHORTEST_S, schedule
from edge_contracts.sketch import ALPHA


def test_ten_numbers_are_compared_every_nine_minutes_at_the_soonest() -> None:
    # a month has 2,592,000 s; 1e-5 each time, and twice as many times as the shortest: 518.4 s for 0.1
    found = schedule(10e-6, per_month=0.1)
    assert found.spans_s[:3] == pytest.approx((518.4, 1036.8, 2073.6))
    assert found.spans_s[-1] >= DAY_S > found.spans_s[-2]


@pytest.mark.parametrize("numbers", [1, 6, 30, 128])
@pytest.mark.parametrize("per_month", [0.01, 0.1, 1.0, 10.0])
def test_the_rate_is_kept_whatever_is_watched(numbers: int, per_month: float) -> None:
    found = schedule(numbers * ALPHA, per_month)
    comparisons = sum(MONTH_S / span_s for span_s in found.spans_s)
    assert comparisons * numbers * ALPHA <= per_month * (1 + 1e-9)
    assert found.per_month == pytest.approx(comparisons * numbers * ALPHA)
    assert list(found.spans_s) == sorted(found.spans_s)
    assert found.spans_s[0] >= SHORTEST_S


def test_a_low_rate_takes_its_time() -> None:
    found = schedule(128 * ALPHA, per_month=1e-4)
    assert len(found.spans_s) == 1
    assert found.spans_s[0] > 50 * DAY_S


def test_more_false_alarms_find_drift_sooner() -> None:
    assert schedule(10e-6, 1.0).spans_s[0] < schedule(10e-6, 0.1).spans_s[0]
