"""Reports laid out by device and mark."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import pytest

from edge_contracts.sketch import QuantileSketch, bin_index
from edge_fleet.panel import EMPTY, Panel, assemble
from edge_fleet.reading import Reading
from edge_fleet.tally import tally_of


def window(at: float, inferences: int = 10, errors: int = 0, device: str = "a") -> Reading:
    sketch = QuantileSketch(bins={bin_index(5.0): inferences})
    return Reading(device, "sha256:new", at, inferences, errors, latency_ms=sketch)


def lay_out(readings: Iterable[Reading]) -> Panel:
    by_device: dict[str, list[Reading]] = {}
    for reading in readings:
        by_device.setdefault(reading.device, []).append(reading)
    return assemble(tally_of(device, by_device[device]) for device in sorted(by_device))


def test_a_device_is_looked_at_after_1_2_4_windows_and_now() -> None:
    panel = lay_out([window(float(n), errors=n) for n in range(5)])
    share = panel.share("failed", "attempts")
    assert share.bad.tolist() == [[0, 0 + 1, 0 + 1 + 2 + 3, 10]]
    assert share.total.tolist() == [[10, 21, 46, 60]]
    assert share.marks == 3


def test_a_device_that_has_not_come_so_far_has_no_share_there() -> None:
    panel = lay_out([*(window(float(n)) for n in range(4)), window(1.0, device="b", errors=10)])
    share = panel.share("failed", "attempts")
    assert share.devices == ("a", "b")
    rows, shares = share.at(1)
    assert rows.tolist() == [0] and shares.tolist() == [0.0]
    rows, shares = share.at(-1)
    assert rows.tolist() == [0, 1] and shares.tolist() == [0.0, 0.5]
    assert share.now == (10.0, 60.0)


def test_a_sum_of_windows_reaches_the_marks_of_all_of_them() -> None:
    merged = dataclasses.replace(window(1.0), merged=4)
    assert lay_out([window(0.0), merged]).share("failed", "attempts").total.tolist() == [[10, 20, 20, 20]]


def test_blocks_are_the_stretches_between_marks() -> None:
    panel = lay_out([*(window(float(n), errors=n) for n in range(3)), window(0.0, device="b")])
    bad, total = panel.share("failed", "attempts").blocks()
    assert bad.sum() == 3 and total.sum() == 43
    assert sorted(total.ravel().tolist()) == [0, 0, 10, 10, 11, 12]


def test_values_count_as_beyond_a_threshold_only_as_whole_bins() -> None:
    sketch = QuantileSketch(bins={bin_index(5.0): 3, bin_index(9.0): 2})
    panel = lay_out([dataclasses.replace(window(0.0), latency_ms=sketch)])
    for threshold, beyond in ((4.0, 5), (5.0, 2), (8.0, 2), (9.0, 0)):
        share = panel.beyond("latency_ms", lambda _device, t=threshold: t)  # type: ignore[misc]
        assert share.now == (beyond, 5)


def test_windows_with_noise_are_counted_and_left_out() -> None:
    panel = lay_out([window(0.0), dataclasses.replace(window(1.0, errors=99), noisy=True)])
    assert panel.noisy == 1
    assert panel.share("failed", "attempts").now == (0, 10)


@pytest.mark.parametrize("panel", [EMPTY, lay_out([])])
def test_nobody_has_no_share(panel: object) -> None:
    share = EMPTY.share("failed", "attempts")
    assert share.devices == () and share.now == (0.0, 0.0)
    assert EMPTY.beyond("latency_ms", lambda _device: 1.0).devices == ()
