"""How fast a rollout goes."""

from __future__ import annotations

import pytest

from edge_fleet.rollouts.pace import Rate
from edge_fleet.rollouts.retries import CAUSE_OF, Cause, Retries


@pytest.mark.parametrize(
    ("confirmed", "per_minute"),
    # AWS IoT Jobs: base 50, factor 2, after 1000 successes, at most 1000
    [(0, 50), (999, 50), (1000, 100), (2000, 200), (4000, 800), (5000, 1000), (10**9, 1000)],
)
def test_a_growing_rate_multiplies_with_successes_up_to_its_end(confirmed: int, per_minute: int) -> None:
    assert Rate(per_minute=50, factor=2, after=1000, max_per_minute=1000).now(confirmed) == per_minute


def test_a_rate_without_an_end_stays_finite() -> None:
    assert Rate(per_minute=50, factor=10, after=1).now(10**6) == 60_000


def test_a_constant_rate_is_kept_in_any_minute_and_spread_over_it() -> None:
    rate, now_s = Rate(per_minute=90), 0.0
    begun: list[float] = []
    for _ in range(600):
        allowed = rate.allowance(begun, 0, now_s)
        assert allowed <= 2  # a ninetieth of a minute is two thirds of a second
        begun += [now_s] * allowed
        now_s += 1
    for at in range(0, 600):
        assert sum(at - 60 < one <= at for one in begun) <= 90
    assert len(begun) >= 890  # and it is used


def test_each_cause_has_a_budget_of_its_own() -> None:
    retries = Retries(network=2, golden=1, crash=0, backoff_s=10)
    assert retries.cause("server-unreachable", {}) is Cause.NETWORK
    assert retries.cause("server-unreachable", {"network": 2}) is None
    assert retries.cause("golden-mismatch", {"network": 2}) is Cause.GOLDEN
    assert retries.cause("crash", {}) is None
    assert retries.cause("no-space", {}) is None and "no-space" not in CAUSE_OF


def test_each_retry_waits_twice_as_long_up_to_an_hour() -> None:
    retries = Retries(backoff_s=60)
    assert [retries.due_s(0, {"network": n}) for n in (0, 1, 2, 6, 50)] == [60, 120, 240, 3600, 3600]
