"""Charts: where a value stands, what breaks a line, and the numbers beside the picture."""

from __future__ import annotations

import re

import pytest

from edge_fleet.console import plots
from edge_fleet.console.plots import Mark, Series, nice, say


def test_a_line_goes_from_zero_to_a_round_number_and_from_the_beginning_to_now() -> None:
    chart = plots.lines("p", "Latency", "ms", [Series("p95", ((0.0, 0.0), (50.0, 8.0)))], 0.0, 100.0)
    floor, top = plots.HEIGHT - plots.BOTTOM, plots.TOP
    eighth = floor - 0.8 * (floor - top)  # 8 of 10
    middle = plots.LEFT + (plots.WIDTH - plots.LEFT - plots.RIGHT) / 2
    assert f'd="M{plots.LEFT}.0 {floor}.0L{middle:.1f} {eighth:.1f}"' in chart.svg
    assert re.findall(r'text-anchor="end">([^<]+)<', str(chart.svg))[:3] == ["0", "5", "10"]
    assert ">ms<" in chart.svg
    assert chart.columns == ("Time, UTC", "p95, ms")
    assert chart.rows == (("00:00:50", "8"), ("00:00:00", "0"))


def test_a_line_breaks_where_nothing_was_reported_and_a_lonely_point_is_a_dot() -> None:
    points = ((0.0, 1.0), (10.0, 1.0), (60.0, 1.0), (90.0, 1.0), (100.0, 1.0))
    chart = plots.lines("p", "work", "", [Series("n", points)], 0.0, 100.0, step_s=10.0)
    path = re.search(r' d="([^"]+)"', str(chart.svg))
    assert path is not None and path[1].count("M") == 3
    assert chart.svg.count("<circle") == 2  # the one at 60, and the last


def test_several_lines_have_colours_and_a_legend_and_one_has_none() -> None:
    both = [Series("p50", ((1.0, 1.0),)), Series("p95", ((1.0, 2.0), (2.0, 3.0)))]
    chart = plots.lines("p", "latency", "ms", both, 0.0, 3.0)
    assert chart.legend == (("p50", "a"), ("p95", "b"))
    assert chart.rows == (("00:00:02", "-", "3"), ("00:00:01", "1", "2"))
    assert plots.lines("p", "latency", "ms", both[:1], 0.0, 3.0).legend == ()


def test_marks_are_lines_and_names_that_would_overlap_are_left_out() -> None:
    marks = [Mark(-1.0, "before"), Mark(1.0, "digits 1"), Mark(1.1, "digits 2"), Mark(90.0, "<3>")]
    svg = plots.lines("p", "w", "", [Series("n", ((1.0, 1.0),))], 0.0, 100.0, marks).svg
    assert svg.count('class="mark"') == 3
    assert "digits 1" in svg and "digits 2" not in svg and "&lt;3&gt;" in svg and "before" not in svg


def test_a_long_name_of_a_mark_ends_within_its_chart() -> None:
    marks = [Mark(80.0, "b2a70d40d379")]
    svg = plots.lines("p", "w", "", [Series("n", ((1.0, 1.0),))], 0.0, 100.0, marks).svg
    found = re.search(r'x="([0-9.]+)" y="[0-9.]+" text-anchor="start">b2a70d40d379<', str(svg))
    assert found is not None and float(found[1]) + 12 * plots.LETTER_WIDTH <= plots.WIDTH


def test_no_point_is_said_and_zeros_are_drawn() -> None:
    empty = plots.lines("p", "w", "", [Series("n", ())], 0.0, 1.0)
    assert "Nothing was reported" in empty.svg and empty.rows == ()
    assert "<path" in plots.lines("p", "w", "", [Series("n", ((0.0, 0.0),))], 0.0, 1.0).svg


def test_a_histogram_has_both_samples_as_shares_of_themselves() -> None:
    chart = plots.histogram("h", "mean", (0.0, 1.0), (1, 2, 1), (30, 0, 10))
    assert chart.rows == (
        ("below 0", "25.0", "75.0"),
        ("0 to 1", "50.0", "0.0"),
        ("1 and above", "25.0", "25.0"),
    )
    assert chart.svg.count("<rect") == 6
    floor, top = plots.HEIGHT - plots.BOTTOM, plots.TOP
    assert f'height="{0.75 * (floor - top):.1f}"' in chart.svg  # 75 of 100 %
    assert plots.histogram("h", "empty", (), (0,), (0,)).rows == (("all", "0.0", "0.0"),)


@pytest.mark.parametrize(
    ("value", "top"), [(0, 1), (0.03, 0.05), (1, 1), (1.2, 2), (2.2, 2.5), (7, 10), (51, 100)]
)
def test_the_top_of_an_axis_is_a_number_that_people_read_easily(value: float, top: float) -> None:
    assert nice(value) == pytest.approx(top)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.123456, "0.123"), (9.99, "9.99"), (1234, "1234"), (12_345, "12.3k"), (1.5e6, "1.5M")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert say(value) == text
