"""Windows: every inference is counted once, in the bins of the baseline, at the cost of microseconds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import agent_bundles
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.device.resources import now, read_resources
from edge_agent.inference.golden import GoldenResult
from edge_agent.inference.session import Answer, Session
from edge_agent.telemetry.waiting import BUFFER_ROWS
from edge_agent.telemetry.windows import LATENCIES, Moment, Resources, WindowCounter
from edge_contracts.bundle import Bundle, open_bundle
from edge_contracts.features import features
from edge_contracts.sketch import bin_index

START = Moment(1_000_000, 50.0)
END = Moment(1_060_000, 110.0)
USED = Resources(cpu_s=12.5, rss_bytes=50_000_000, temperature_c=61.0)


def bundle() -> Bundle:
    return open_bundle(agent_bundles.build("float32"))


def counter(trial: bool = False) -> WindowCounter:
    made = bundle()
    return WindowCounter(made.manifest, made.digest, "float32", "litert 2.3.0 CPU", START, 10.0, trial)


def answer(x: NDArray[np.float32], latency_ms: float = 2.0) -> Answer:
    scores = agent_bundles.reference(x)
    return Answer({"x": x}, {"scores": scores}, [latency_ms] * len(x), {})


def random_inputs(rows: int) -> NDArray[np.float32]:
    return np.random.default_rng(3).uniform(-3, 3, (rows, 4)).astype(np.float32)


def expected_counts(x: NDArray[np.float32]) -> dict[str, list[int]]:
    """Scalar by scalar with the contract's own bisection, nothing vectorised."""
    monitored = features({"x": x}, {"scores": agent_bundles.reference(x)}, "classification")
    result = {}
    for scalar in bundle().manifest.baseline.scalars:
        counts = [0] * len(scalar.counts)
        for value in monitored[scalar.name]:
            counts[scalar.bin_of(float(value))] += 1
        result[scalar.name] = counts
    return result


@pytest.mark.parametrize("batch", [1, 7, BUFFER_ROWS, 200])
def test_every_inference_is_counted_once_in_every_size_of_batch(batch: int) -> None:
    x = random_inputs(200)
    windows = counter()
    for start in range(0, len(x), batch):
        windows.answered(answer(x[start : start + batch]))
    assert windows.inferences == 200
    window = windows.cut(END, USED)
    assert window.inferences == 200
    assert window.latency_ms.count == 200
    assert {s.name: list(s.counts) for s in window.scalars} == expected_counts(x)


def test_a_caller_may_write_into_the_same_array_again() -> None:
    x = random_inputs(50)
    windows, same = counter(), np.empty((1, 4), np.float32)
    for row in x:
        same[0] = row
        windows.answered(answer(same))
    found = {s.name: list(s.counts) for s in windows.cut(END, USED).scalars}
    assert found == expected_counts(x)


def test_latencies_are_within_two_percent() -> None:
    windows = counter()
    for latency_ms in (1.0, 2.0, 3.0, 4.0, 100.0):
        windows.answered(answer(random_inputs(1), latency_ms))
    sketch = windows.cut(END, USED).latency_ms
    assert sketch.quantile(0.5) == pytest.approx(3.0, rel=0.021)
    assert sketch.quantile(1.0) == pytest.approx(100.0, rel=0.021)


def test_a_window_says_when_it_was_and_what_it_used() -> None:
    window = counter().cut(END, USED)
    assert (window.start_ms, window.end_ms, window.duration_ms) == (1_000_000, 1_060_000, 60_000)
    assert (window.cpu_s, window.rss_bytes, window.temperature_c) == (2.5, 50_000_000, 61.0)
    assert window.artifact == "float32"
    assert window.bundle.startswith("sha256:")


def test_a_wall_clock_that_jumps_back_does_not_make_a_negative_window() -> None:
    window = counter().cut(Moment(5, 110.0), USED)
    assert (window.end_ms, window.duration_ms) == (5, 60_000)


def test_a_wall_clock_that_jumps_is_told_and_one_that_drifts_is_not() -> None:
    def step_ms(wall_ms: int) -> int:
        return counter().cut(Moment(wall_ms, END.monotonic_s), USED).clock_step_ms

    assert step_ms(END.wall_ms) == 0
    assert step_ms(END.wall_ms + 30) == 0
    assert step_ms(END.wall_ms + 3_600_000) == 3_600_000
    assert step_ms(500) == 500 - END.wall_ms  # back to 1970


def test_the_next_window_begins_empty_where_the_last_one_ended() -> None:
    windows = counter(trial=True)
    windows.answered(answer(random_inputs(3)))
    windows.failed("inference-failed")
    windows.refused("not-finite")
    windows.asked_golden(GoldenResult(16, 15, 30.0, ""))
    first = windows.cut(END, USED)
    second = windows.cut(Moment(1_120_000, 170.0), Resources(13.0, 1, None))
    assert (first.trial, second.trial) == (True, False)
    assert (first.golden_total, first.golden_agree) == (16, 15)
    assert second.start_ms == first.end_ms
    assert (second.inferences, second.errors, second.refused, second.golden_total) == (0, {}, {}, 0)
    assert second.latency_ms.count == 0
    assert all(sum(s.counts) == 0 for s in second.scalars)
    assert (second.cpu_s, second.temperature_c) == (0.5, None)


def test_errors_and_refusals_are_counted_by_reason() -> None:
    windows = counter()
    windows.failed("inference-failed", 2)
    windows.refused("shape")
    windows.refused("shape")
    windows.refused("not-finite")
    assert windows.errors == 2
    window = windows.cut(END, USED)
    assert window.errors == {"inference-failed": 2}
    assert window.refused == {"shape": 2, "not-finite": 1}


def test_more_reasons_than_a_message_holds_are_counted_together() -> None:
    windows = counter()
    for number in range(100):
        windows.failed(f"reason-{number}")
    errors = windows.cut(END, USED).errors
    assert len(errors) == 32
    assert sum(errors.values()) == 100
    assert errors["other"] == 69


def test_a_model_that_was_on_trial_for_a_part_of_the_window_marks_it() -> None:
    windows = counter(trial=True)
    assert windows.cut(END, USED, trial=True).trial
    assert windows.cut(END, USED).trial
    assert not windows.cut(END, USED).trial


def test_pictures_do_not_fill_the_memory() -> None:
    spec: dict[str, Any] = {"inputs": ({"name": "x", "shape": (1, 512, 512, 3)},)}
    made = bundle()
    manifest = made.manifest.model_copy(
        update={"inputs": tuple(made.manifest.inputs[0].model_copy(update=s) for s in spec["inputs"])}
    )
    windows = WindowCounter(manifest, made.digest, "float32", "litert", START, 0.0)
    x = np.ones((2, 512, 512, 3), np.float32)
    windows.answered(Answer({"x": x}, {"scores": np.ones((2, 3), np.float32)}, [1.0, 1.0], {}))
    assert windows.cut(END, USED).inferences == 2


def test_a_real_session_and_real_clocks_make_a_window(tmp_path: Path) -> None:
    made = bundle()
    made.extract(tmp_path / "b")
    opened = Session.open(tmp_path / "b", made.manifest)
    windows = WindowCounter(made.manifest, made.digest, "float32", opened.runtime, now(), 0.0)
    windows.answered(opened.infer({"x": agent_bundles.GOLDEN_X}))
    window = windows.cut(now(), read_resources())
    assert window.inferences == 16
    assert window.cpu_s > 0
    assert window.rss_bytes > 10_000_000


def test_answers_to_suspicious_inputs_are_counted_as_flagged() -> None:
    windows = counter()
    calm = answer(random_inputs(2))
    far = Answer(calm.inputs, calm.outputs, calm.took_ms, {"out-of-range": 2})
    windows.answered(far)
    windows.answered(far)
    assert windows.cut(END, USED).flagged == {"out-of-range": 4}
    assert windows.cut(END, USED).flagged == {}


def test_every_latency_is_in_the_bin_that_it_has_alone_before_and_after_they_are_summed_up() -> None:
    latencies = np.random.default_rng(5).lognormal(0, 2, 2 * LATENCIES + 3)
    windows = counter()
    for latency_ms in latencies.tolist():
        windows.answered(answer(random_inputs(1), latency_ms))
    found = windows.cut(END, USED).latency_ms.bins
    assert dict(found) == dict(Counter(bin_index(latency_ms) for latency_ms in latencies.tolist()))
    assert windows.cut(END, USED).latency_ms.count == 0
