"""What a device's windows add up to at its marks, window by window."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_contracts.sketch import QuantileSketch
from edge_fleet.reading import Reading
from edge_fleet.tally import COUNTED, HISTOGRAMS, Batch, Keeps, Tally, tally_of, together

windows = st.lists(
    st.builds(
        Reading,
        device=st.just("a"),
        bundle=st.just("new"),
        received_s=st.just(0.0),
        inferences=st.integers(0, 500),
        errors=st.integers(0, 9),
        latency_ms=st.dictionaries(st.integers(50, 53), st.integers(1, 9)).map(
            lambda bins: QuantileSketch(bins=bins)
        ),
        merged=st.integers(1, 5),
        noisy=st.booleans(),
        confidence=st.sampled_from([(), (1, 2, 7)]),
        temperature_c=st.sampled_from([None, 40.0, 60.0]),
    ),
    min_size=1,
    max_size=30,
)


def _told(tally: Tally) -> list[object]:
    histograms = [[part.tolist() for part in tally.histogram(name)] for name in HISTOGRAMS]
    return [tally.exact, tally.noisy, tally.windows, tally.counts.tolist(), histograms]


@settings(max_examples=40, deadline=None)
@given(readings=windows, cut=st.integers(0, 30), keeps=st.sampled_from(Keeps))
def test_windows_that_come_in_portions_come_to_the_same(
    readings: Sequence[Reading], cut: int, keeps: Keeps
) -> None:
    at_once = tally_of("a", readings, keeps)
    in_two = tally_of("a", readings[:cut], keeps) if cut else Tally("a", keeps)
    before = _told(in_two)
    grown = in_two.grown(Batch(readings[cut:]), range(len(readings[cut:])))
    assert _told(grown) == _told(at_once)
    assert _told(in_two) == before, "who subtracts what it was still has it"
    one_by_one = Tally("a", keeps)
    for reading in readings:
        one_by_one = one_by_one.grown(Batch([reading]), [0])
    assert _told(one_by_one) == _told(at_once)


def _window(errors: int, *, merged: int = 1) -> Reading:
    sketch = QuantileSketch(bins={10 + errors: 2})
    return Reading("a", "new", 0.0, 10, errors=errors, latency_ms=sketch, merged=merged)


def test_a_tally_has_as_many_columns_as_marks_were_reached_and_one_for_now() -> None:
    tally = tally_of("a", [_window(n) for n in range(6)])
    failed = tally.counts[list(COUNTED).index("failed")].tolist()
    assert failed == [0, 1, 6, 15]  # of 1, 2 and 4 windows, and of all six
    bins, counts = tally.histogram("latency_ms")
    assert bins.tolist() == [10, 11, 12, 13, 14, 15]
    assert counts.tolist() == [
        [2, 0, 0, 0, 0, 0],
        [2, 2, 0, 0, 0, 0],
        [2, 2, 2, 2, 0, 0],
        [2, 2, 2, 2, 2, 2],
    ]


def test_a_window_that_is_the_sum_of_five_passes_several_marks_at_once() -> None:
    tally = tally_of("a", [_window(1), _window(3, merged=5)])
    assert (tally.windows, tally.exact, tally.marks) == (6, 2, 3)
    assert tally.counts[list(COUNTED).index("failed")].tolist() == [1, 4, 4, 4]


@pytest.mark.parametrize(
    ("keeps", "marks", "rows"), [(Keeps.ALL, 2, 3), (Keeps.COUNTS, 2, 1), (Keeps.NOW, 0, 1)]
)
def test_what_is_not_asked_for_is_not_kept(keeps: Keeps, marks: int, rows: int) -> None:
    tally = tally_of("a", [_window(n) for n in range(3)], keeps)
    assert tally.marks == marks
    assert tally.histogram("latency_ms")[1].tolist()[-1] == [2, 2, 2]
    assert len(tally.histogram("latency_ms")[1]) == len(tally.histogram("rss_mb")[1]) == rows


def test_tallies_of_now_add_up() -> None:
    one, other = ([_window(1), _window(4)], [_window(2), _window(4)])
    both = together(tally_of("a", found, Keeps.NOW) for found in (one, other))
    assert both is not None
    assert _told(both) == _told(tally_of("a", [*one, *other], Keeps.NOW))
    assert together([]) is None
