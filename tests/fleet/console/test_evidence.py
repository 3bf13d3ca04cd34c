"""What the console shows of the numbers behind a verdict."""

from __future__ import annotations

from typing import Any

from edge_fleet.console.evidence import laid_out


def lines(**row: Any) -> dict[str, str]:
    (shown,) = laid_out("error_rate", [row])
    return {line.name: line.value for line in shown.lines}


def test_a_share_is_told_with_what_it_was_held_against_and_what_it_rests_on() -> None:
    told = lines(
        bad=3, total=1200, allowed=0.01, upper=0.0061, against="control", devices=40, effective=812.4, looks=6
    )
    assert list(told.items()) == [
        ("Bad", "3 of 1,200 (0.25 %)"),
        ("Allowed share", "1 %"),
        ("At most", "0.61 %"),
        ("Held against", "devices that run the release before at the same time"),
        ("Exposure", "40 devices, worth 812 independent inferences"),
        ("Look", "6"),
    ]


def test_a_distance_is_told_with_its_sketch_and_not_as_a_share() -> None:
    told = lines(distance=0.3456, name="output:scores", allowed=0.2, total=500, devices_alone=2)
    assert told == {
        "Distance": "0.346 (output:scores)",
        "Would count": "0.200",
        "Counted": "500",
        "Drift alone": "2 devices",
    }


def test_a_quantile_and_a_bet_are_told_in_their_own_words() -> None:
    told = lines(found_value=12.345678, allowed_value=20, devices_wrong=1, alpha=0.01, against="peers")
    assert told == {
        "Found": "12.35",
        "Allowed": "20",
        "Held against": "peers",
        "Disagree": "1 devices",
        "alpha": "0.01",
    }
    assert set(lines(e=3.0, needed=100, e_fleet=2.0, e_devices=4.0)) == {"Bet e", "of it"}


def test_what_was_not_measured_is_not_shown() -> None:
    assert lines(bad=None, total=0, noisy_windows=0, against="", alpha="?") == {"Counted": "0"}
    assert lines(noisy_windows=7) == {"Left out": "7 windows"}
