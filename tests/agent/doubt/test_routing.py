"""The same key always meets the same arm, and the arms get the shares that were asked for."""

from __future__ import annotations

from math import sqrt

import pytest

from edge_agent.doubt.routing import PER_MILLE, bucket, is_chosen

KEYS = [f"client-{number}" for number in range(20_000)]


@pytest.mark.parametrize(
    ("salt", "key", "place"),
    [("taste", "client-7", 225), ("taste", "device/3", 122), ("", "x", 611)],
)
def test_a_key_falls_where_it_fell_years_ago(salt: str, key: str, place: int) -> None:
    # by coreutils: printf '5:tasteclient-7' | b2sum -l 64 is 39d17a0fe18549e9, 0.2258 of 2^64
    assert bucket(salt, key) == place


@pytest.mark.parametrize("per_mille", [1, 50, 200, 500, 999])
def test_shares_are_within_binomial_bounds(per_mille: int) -> None:
    share = per_mille / PER_MILLE
    chosen = sum(is_chosen("taste", key, per_mille) for key in KEYS)
    # four standard deviations: a fair hash fails one such test in 16,000, and these keys are fixed
    assert abs(chosen - share * len(KEYS)) < 4 * sqrt(len(KEYS) * share * (1 - share))


def test_nobody_and_everybody_are_shares_too() -> None:
    assert not any(is_chosen("taste", key, 0) for key in KEYS)
    assert all(is_chosen("taste", key, PER_MILLE) for key in KEYS)


def test_a_growing_share_keeps_whom_it_had() -> None:
    small = {key for key in KEYS if is_chosen("taste", key, 100)}
    large = {key for key in KEYS if is_chosen("taste", key, 300)}
    assert small < large


def test_two_experiments_divide_the_keys_independently() -> None:
    both = sum(is_chosen("one", key, 500) and is_chosen("two", key, 500) for key in KEYS)
    assert abs(both - len(KEYS) / 4) < 4 * sqrt(len(KEYS) * 3 / 16)


def test_salt_and_key_do_not_run_together() -> None:
    assert bucket("ab", "c") != bucket("a", "bc")


def test_any_text_is_a_key() -> None:
    assert 0 <= bucket("taste", "\ud800 half a character") < PER_MILLE
