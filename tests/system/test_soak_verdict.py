"""What benchmarks/soak.py and soak_fleet.py call flat and what they call growth."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from soak_verdict import judged, table

BOUND = 2.0
TIMES = np.arange(0.0, 3600.0, 2.0)
NOISE = np.random.default_rng(1).normal(0, 0.5, TIMES.size)


def test_a_process_that_fills_its_caches_and_then_stays_is_flat() -> None:
    verdict = judged("RSS MiB", TIMES, 80 + 10 * np.minimum(TIMES / 900, 1) + NOISE, BOUND)
    assert not verdict.grows
    assert verdict.end == pytest.approx(90, abs=0.5)


def test_a_slow_leak_grows_and_its_slope_is_said() -> None:
    verdict = judged("RSS MiB", TIMES, 80 + 6 * TIMES / 3600 + NOISE, BOUND)
    assert verdict.grows
    assert verdict.per_hour == pytest.approx(6, abs=0.5)


def test_what_falls_does_not_grow() -> None:
    assert not judged("open files", TIMES, 40 - 6 * TIMES / 3600, BOUND).grows


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="run it longer"):
        judged("threads", TIMES[:9], NOISE[:9], BOUND)


def test_the_table_names_what_grows_and_only_that() -> None:
    samples = [{"leak": t / 3600 * 6, "kept": 5.0, "unasked": t} for t in TIMES]
    text, grows = table(TIMES.tolist(), samples, {"leak": BOUND, "kept": BOUND})
    assert grows
    assert text.endswith("GROWS: leak")
    assert "| kept | 5.0 | 5.0 | 5.0 |" in text
    assert table(TIMES.tolist(), samples, {"kept": BOUND})[0].endswith("FLAT")
