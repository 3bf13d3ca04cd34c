"""Preferences: fronts and orders worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from edge_contracts.manifest import Score
from edge_convert.gates import Limits
from edge_convert.preference import Figures, Prefer, allowance_used, front, ordered

LIMITS = Limits(max_drop=1.0, min_agreement=0.90, min_sqnr_db=15.0)


def one(name: str, db: float | None, us: float, size: int, agreement: float | None = 1.0) -> Figures:
    return Figures(name, Score(samples=1000, agreement=agreement, sqnr_db=db), us, size)


def test_the_front_holds_what_nothing_beats() -> None:
    good, fast, small = one("good", 40, 10, 100), one("fast", 20, 5, 120), one("small", 20, 11, 50)
    beaten, twin = one("beaten", 39, 10, 100), one("twin", 40, 10, 100)
    assert front([good, fast, small, beaten]) == {"good", "fast", "small"}
    assert front([good, twin]) == {"good", "twin"}  # equal ones do not beat each other
    assert front([one("exact", None, 10, 100), good]) == {"exact"}


def test_ten_decibels_halve_what_noise_uses_up() -> None:
    assert allowance_used(Score(samples=9, sqnr_db=15.0), LIMITS) == pytest.approx(1.0)
    assert allowance_used(Score(samples=9, sqnr_db=25.0), LIMITS) == pytest.approx(0.5)
    assert allowance_used(Score(samples=9, sqnr_db=5.0), LIMITS) == pytest.approx(2.0)
    assert allowance_used(Score(samples=9), LIMITS) == 0.0


def test_few_samples_use_up_more_than_many() -> None:
    # (0 + 1/2) / (n + 1) of an allowance of a tenth
    assert allowance_used(Score(samples=9, agreement=1.0, sqnr_db=20), LIMITS) == pytest.approx(0.5)
    assert allowance_used(Score(samples=999, agreement=1.0, sqnr_db=20), LIMITS) == pytest.approx(0.005)
    # 60 of 999 missed: 60.5 / 1000 / 0.1
    missed = Score(samples=999, agreement=1 - 60 / 999, sqnr_db=20)
    assert allowance_used(missed, LIMITS) == pytest.approx(0.605)


def test_a_drop_of_accuracy_counts_where_it_is_known() -> None:
    drop = Score(samples=999, agreement=1.0, sqnr_db=20, metric="accuracy", source=0.9, artifact=0.892)
    assert allowance_used(drop, LIMITS) == pytest.approx(0.8)
    assert allowance_used(drop, Limits(max_drop=0.0)) == math.inf


def test_balanced_trades_half_of_the_time_for_half_of_the_allowance() -> None:
    # used up: 0.5 / 1001 / 0.1 = 0.005, and 20.5 / 1001 / 0.1 = 0.205: 0.2 more is worth 0.4 doublings, 1.32x
    slow = one("slow", 40, 100, 9)
    fast, hardly = (
        replace(one(n, 25, us, 9, agreement=0.98), form="step 1") for n, us in (("a", 70), ("b", 80))
    )
    assert ordered([slow, fast], LIMITS, "balanced")[0] is fast
    assert ordered([slow, hardly], LIMITS, "balanced")[0] is slow


def test_balanced_takes_nothing_that_uses_up_more_than_half() -> None:
    slow = one("slow", 40, 100, 9)
    bold = one("bold", 15, 1, 9, agreement=0.94)  # 60.5 of 100
    wrong = one("wrong", 50, 1, 1, agreement=0.5)
    names = [f.name for f in ordered([wrong, bold, slow], LIMITS, "balanced")]
    assert names == ["slow", "bold", "wrong"]


def test_speeds_that_are_nearly_equal_leave_the_choice_to_quality() -> None:
    assert ordered([one("a", 30, 100, 9), one("b", 35, 101, 9)], LIMITS, "balanced")[0].name == "b"


def test_noise_is_bought_with_time_that_int8_throughout_would_have_taken() -> None:
    # the first kept a layer in float that is faster there: 100 where int8 throughout takes 115
    score = {db: Score(samples=1000, agreement=1.0, sqnr_db=db) for db in (30.0, 35.0, 38.0, 41.0, 99.0)}
    whole = Figures("whole", score[30.0], 115, 9, form="step 1")
    fast = Figures("fast", score[35.0], 100, 9, form="step 1", mixed=True)
    for us, db, form, taken in (
        (112, 41.0, "step 1", True),  # 0.16 doublings for 0.2
        (112, 38.0, "step 1", False),  # 0.16 for 0.1
        (125, 99.0, "step 1", False),  # slower than int8 throughout
        (112, 41.0, "lossless", False),  # another network: its noise is no reason
    ):
        found = Figures("found", score[db], us, 9, form=form, mixed=True)
        wishes: tuple[tuple[Prefer, bool], ...] = (("balanced", taken), ("speed", False))
        for prefer, first in wishes:
            assert (ordered([whole, fast, found], LIMITS, prefer)[0] is found) is first


def test_less_than_half_a_bit_of_noise_is_worth_no_time() -> None:
    # one in a thousand turned by int8 throughout, and none with a layer in float that takes 1 % longer
    whole = Figures("whole", Score(samples=1000, agreement=0.999, sqnr_db=31.4), 100, 9)
    for db, first in ((33.0, "whole"), (34.3, "whole"), (34.5, "mixed")):
        mixed = Figures("mixed", Score(samples=1000, agreement=1.0, sqnr_db=db), 101, 9, mixed=True)
        assert ordered([whole, mixed], LIMITS, "balanced")[0].name == first


def test_who_prefers_speed_gives_two_percent_of_it_for_nothing() -> None:
    fast, better = one("fast", 30, 100, 9), one("better", 35, 102, 9)
    assert ordered([fast, better], LIMITS, "speed")[0] is fast
    assert ordered([fast, better], LIMITS, "balanced")[0] is better


def test_each_preference_puts_its_own_first() -> None:
    good, fast, small = one("good", 40, 10, 100), one("fast", 20, 5, 120), one("small", 20, 11, 50)
    wishes: tuple[Prefer, ...] = ("accuracy", "speed", "size")
    found = {p: ordered([good, fast, small], LIMITS, p)[0].name for p in wishes}
    assert found == {"accuracy": "good", "speed": "fast", "size": "small"}


def test_equal_candidates_come_in_the_order_of_their_names() -> None:
    assert [f.name for f in ordered([one("b", 9, 9, 9), one("a", 9, 9, 9)], LIMITS, "size")] == ["a", "b"]


def test_the_steadier_figure_orders_and_the_answers_make_the_front() -> None:
    lucky = Figures("lucky", Score(samples=30, agreement=1.0, sqnr_db=52.0), 10, 100, unsaturated_db=34.8)
    good = Figures("good", Score(samples=30, agreement=1.0, sqnr_db=46.0), 10, 100, unsaturated_db=35.7)
    for prefer in ("accuracy", "balanced"):
        assert ordered([lucky, good], LIMITS, prefer)[0].name == "good"
    assert front([lucky, good]) == {"lucky"}
