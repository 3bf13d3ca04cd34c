"""Differential privacy: the noise is what it says, the budget stops it, and nothing slips past."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from message_examples import WINDOW

from edge_agent.device.home import Home
from edge_agent.errors import NoiseFailed, SettingRefused
from edge_agent.telemetry import curtain, noise
from edge_agent.telemetry.curtain import DAY_S, Curtain
from edge_agent.telemetry.privacy import (
    ANY,
    EXACT,
    FLAGS,
    LOWEST,
    NOISY,
    STEP,
    WITHHELD,
    Ledger,
    Rules,
    release,
    sensitivity,
    spend,
)
from edge_contracts.lineup import LineupCounts
from edge_contracts.messages import Event, Record, Window
from edge_contracts.sketch import QuantileSketch, bin_index

RULES = Rules(0.25, 1.0)
DRAWS = 20_000


def no_noise(values: Sequence[int], sensitivity: int, epsilon: float) -> list[int]:
    return list(values)


def opened(tmp_path: Path, day: list[float]) -> Curtain:
    home = Home(tmp_path)
    home.make()
    return Curtain(home, RULES, lambda: day[-1] * DAY_S)


def windows(records: list[Record]) -> list[Window]:
    return [record for record in records if isinstance(record, Window)]


def deviations(draws: Sequence[int], scale: float) -> dict[str, float]:
    """How far draws are from the discrete Laplace distribution, in standard errors.

    P(x) = (1 - a) / (1 + a) a^|x| with a = exp(-1 / scale): Ghosh, Roughgarden, Sundararajan, STOC 2009.
    """
    a, n = math.exp(-1 / scale), len(draws)
    at_zero, variance = (1 - a) / (1 + a), 2 * a / (1 - a) ** 2
    tail = 2 * a ** math.ceil(2 * scale) / (1 + a)  # P(|x| >= 2 scale)
    found_tail = sum(abs(draw) >= 2 * scale for draw in draws) / n
    return {
        "mean": sum(draws) / n / math.sqrt(variance / n),
        "zero": (sum(draw == 0 for draw in draws) / n - at_zero) / math.sqrt(at_zero * (1 - at_zero) / n),
        "tail": (found_tail - tail) / math.sqrt(tail * (1 - tail) / n),
    }


def test_the_noise_has_the_stated_distribution() -> None:
    draws = noise.add_noise([0] * DRAWS, sensitivity=3, epsilon=0.5)
    # six standard errors: once in five hundred million runs
    assert all(abs(far) < 6 for far in deviations(draws, scale=6.0).values())
    # and the same test would notice half the noise, or twice as much
    for wrong in (3.0, 12.0):
        assert any(abs(far) > 6 for far in deviations(draws, wrong).values())


def test_the_noise_is_added_to_the_values() -> None:
    noisy = noise.add_noise([1_000_000, 5], sensitivity=1, epsilon=5.0)
    assert abs(noisy[0] - 1_000_000) < 30
    assert abs(noisy[1] - 5) < 30


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.nan])
def test_without_an_epsilon_there_is_no_noise_and_so_no_answer(epsilon: float) -> None:
    with pytest.raises(NoiseFailed):
        noise.add_noise([1], 1, epsilon)


def test_one_person_changes_the_counts_by_no_more_than_the_noise_is_for() -> None:
    """Two windows that differ by one inference, in every count that it can touch."""
    before = WINDOW
    after = Window.model_validate(
        {
            **WINDOW.model_dump(),
            "inferences": WINDOW.inferences + 1,
            "flagged": {reason: WINDOW.flagged.get(reason, 0) + 1 for reason in FLAGS},
            "latency_ms": {"bins": {-3: 2, 7: 2}},
            "scalars": [{"name": "input:x:mean", "counts": [2, 2]}],
        }
    )
    seen: list[list[int]] = []

    def remember(values: Sequence[int], _sensitivity: int, _epsilon: float) -> list[int]:
        seen.append(list(values))
        return list(values)

    for one in (before, after):
        release(one, RULES, remember)
    first, second = seen
    assert sum(abs(a - b) for a, b in zip(first, second, strict=True)) == sensitivity(before, 1) == 7
    assert sensitivity(before, 5) == 35


def test_what_is_shown_has_the_same_form_whatever_the_inputs_were() -> None:
    lively = WINDOW.model_copy(update={"lineup": LineupCounts(sure=3), "unserved": {"queue-full": 1}})
    quiet = Window.model_validate(
        {**WINDOW.model_dump(), "inferences": 0, "errors": {}, "refused": {}, "flagged": {}, "cpu_s": 0}
    )
    shown = [release(one, RULES, no_noise) for one in (lively, quiet)]
    for one in shown:
        assert [list(reasons) for reasons in (one.errors, one.refused, one.flagged)] == [[ANY]] * 3
        assert (one.cpu_s, one.lineup, one.unserved, one.epsilon) == (0, None, {}, 0.25)
    assert shown[0].errors == {ANY: 1}
    assert shown[0].scalars == WINDOW.scalars


def test_there_is_a_rule_for_every_field() -> None:
    # a field that comes later must be thought of here, or it would leave as it is
    assert sorted((*EXACT, *NOISY, *WITHHELD, "epsilon")) == sorted(Window.model_fields)


def test_latencies_are_shown_within_a_factor_of_two() -> None:
    latencies = [0.001, 0.5, 0.5, 3.0, 400.0, 1e9]
    bins: dict[int, int] = {}
    for latency_ms in latencies:
        bins[bin_index(latency_ms)] = bins.get(bin_index(latency_ms), 0) + 1
    window = WINDOW.model_copy(update={"latency_ms": QuantileSketch(bins=bins)})
    shown = release(window, RULES, no_noise).latency_ms
    assert shown.count == 6
    median = shown.quantile(0.5)
    assert median is not None
    assert 0.25 < median < 1.0
    assert all((index - LOWEST - STEP // 2) % STEP == 0 for index in shown.bins)


def test_a_count_below_zero_is_shown_as_zero() -> None:
    shown = release(WINDOW, RULES, lambda values, _s, _e: [-5] * len(values))
    assert (shown.inferences, shown.errors, shown.latency_ms.count) == (0, {ANY: 0}, 0)


def test_the_days_windows_add_up_and_the_budget_stops_them(tmp_path: Path) -> None:
    day = [100.0]
    through = opened(tmp_path, day)
    told = [through.let_out(WINDOW) for _ in range(6)]
    released = [window for records in told for window in windows(records)]
    assert len(released) == 4
    assert sum(window.epsilon or 0 for window in released) == 1.0
    (spent,) = told[4]
    assert isinstance(spent, Event)
    assert (spent.name, spent.code) == ("privacy-budget-spent", "budget-spent")
    assert told[5] == [], "it is told once a day"
    assert windows(opened(tmp_path, day).let_out(WINDOW)) == [], "a restart gives no new budget"
    day.append(99.0)
    assert windows(through.let_out(WINDOW)) == [], "nor does a clock that is set back"
    day.append(101.5)
    assert len(windows(through.let_out(WINDOW))) == 1


@pytest.mark.parametrize(
    ("ledger", "day", "expected"),
    [
        (Ledger(), 5, Ledger(day=5, spent=0.25)),
        (Ledger(day=5, spent=0.75), 5, Ledger(day=5, spent=1.0)),
        (Ledger(day=5, spent=1.0), 5, None),
        (Ledger(day=5, spent=1.0), 4, None),
        (Ledger(day=5, spent=1.0), 6, Ledger(day=6, spent=0.25)),
    ],
)
def test_spending(ledger: Ledger, day: int, expected: Ledger | None) -> None:
    assert spend(ledger, RULES, day) == expected


def test_a_ledger_that_cannot_be_read_counts_as_spent(tmp_path: Path) -> None:
    (tmp_path / "privacy.json").write_text("{")
    assert windows(opened(tmp_path, [100.0]).let_out(WINDOW)) == []


def test_without_noise_no_window_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> list[int]:
        raise NoiseFailed("no noise was made")

    monkeypatch.setattr(curtain, "add_noise", fails)
    (told,) = opened(tmp_path, [100.0]).let_out(WINDOW)
    assert isinstance(told, Event)
    assert told.name == "privacy-window-withheld"


def test_events_leave_without_their_text(tmp_path: Path) -> None:
    event = Event(name="rolled-back", time_ms=1, code="error-rate", detail="3 of 20 failed")
    assert opened(tmp_path, [100.0]).let_out(event) == [event.model_copy(update={"detail": ""})]


@pytest.mark.parametrize(("epsilon", "day", "people"), [(2.0, 1.0, 1), (0.0, 1.0, 1), (0.5, 1.0, 0)])
def test_rules_that_let_nothing_out_are_refused(epsilon: float, day: float, people: int) -> None:
    with pytest.raises(SettingRefused, match="privacy"):
        Rules(epsilon, day, people)
