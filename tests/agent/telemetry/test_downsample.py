"""Two windows become one that says the same, and those that do not belong together stay apart."""

from __future__ import annotations

from typing import Any

import pytest
from message_examples import WINDOW

from edge_agent.telemetry import downsample
from edge_agent.telemetry.downsample import LONGEST_MS, merged
from edge_contracts.lineup import LineupCounts, ShadowCounts
from edge_contracts.messages import ScalarCounts, Window
from edge_contracts.sketch import QuantileSketch

OTHER_BUNDLE = "sha256:" + "cd" * 32
SHADOW = ShadowCounts(bundle=OTHER_BUNDLE, compared=4, agreed=3, skipped={"cpu": 1}, rss_bytes=7, cpu_s=0.5)
LINEUP = LineupCounts(sure=2, uncertain=1, confidence=(1,) * 20, labelled=3, correct=2, shadow=SHADOW)


def changed(window: Window = WINDOW, **fields: Any) -> Window:
    return Window.model_validate({**window.model_dump(), **fields})


def both(first: Window, second: Window) -> Window:
    result = merged(first, second)
    assert result is not None
    return result


def test_counts_and_sketches_add_up_exactly() -> None:
    second = changed(
        start_ms=WINDOW.end_ms + 1000,
        end_ms=WINDOW.end_ms + 61_000,
        inferences=10,
        errors={"runtime": 2, "oom": 5},
        latency_ms={"bins": {7: 4, 9: 1}},
        scalars=[{"name": "input:x:mean", "counts": [10, 20]}],
        rss_bytes=40_000_000,
        temperature_c=None,
        cpu_s=0.25,
    )
    assert both(WINDOW, second) == changed(
        end_ms=WINDOW.end_ms + 61_000,
        duration_ms=120_000,
        inferences=13,
        errors={"runtime": 3, "oom": 5},
        refused={"shape": 4},
        flagged={"out-of-range": 2},
        latency_ms=QuantileSketch(bins={-3: 2, 7: 5, 9: 1}),
        scalars=(ScalarCounts(name="input:x:mean", counts=(11, 22)),),
        golden_total=8,
        golden_agree=8,
        cpu_s=0.75,
        merged=2,
    )


def test_adding_up_is_the_same_in_any_grouping() -> None:
    windows = [changed(inferences=n, latency_ms={"bins": {n: n}}, cpu_s=n) for n in range(1, 5)]
    one_by_one = both(both(both(windows[0], windows[1]), windows[2]), windows[3])
    in_pairs = both(both(windows[0], windows[1]), both(windows[2], windows[3]))
    assert one_by_one == in_pairs
    assert (in_pairs.merged, in_pairs.inferences) == (4, 10)


def test_the_lineup_and_its_shadow_add_up() -> None:
    first, second = changed(lineup=LINEUP), changed(lineup=LINEUP)
    lineup = both(first, second).lineup
    assert lineup is not None
    assert (lineup.sure, lineup.uncertain, lineup.confidence) == (4, 2, (2,) * 20)
    shadow = lineup.shadow
    assert shadow is not None
    assert (shadow.compared, shadow.agreed, shadow.skipped) == (8, 6, {"cpu": 2})
    assert (shadow.rss_bytes, shadow.cpu_s) == (7, 1.0)


def test_what_drifts_in_either_window_drifts_in_both() -> None:
    first, second = changed(drifting=("data-drift",)), changed(drifting=("prediction-drift", "data-drift"))
    assert both(first, second).drifting == ("data-drift", "prediction-drift")


def test_the_cost_in_privacy_adds_up() -> None:
    assert both(changed(epsilon=0.25), changed(epsilon=0.5)).epsilon == 0.75


def test_more_reasons_than_a_window_holds_are_counted_as_others() -> None:
    first = changed(errors={f"a{n}": 1 for n in range(20)})
    second = changed(errors={f"b{n}": 1 for n in range(20)})
    errors = both(first, second).errors
    assert len(errors) == 32
    assert sum(errors.values()) == 40
    assert errors["other"] == 9


@pytest.mark.parametrize(
    "fields",
    [
        {"bundle": OTHER_BUNDLE},
        {"artifact": "float"},
        {"runtime": "litert 3"},
        {"trial": False},
        {"software": {"kernel": "6.1"}},
        {"software": {"kernel": "6.1"}},
        {"duration_ms": LONGEST_MS},
        {"epsilon": 0.5},
        {"scalars": []},
        {"scalars": [{"name": "input:x:mean", "counts": [1, 2, 3]}]},
        {"scalars": [{"name": "input:y:mean", "counts": [1, 2]}]},
        {"lineup": {**LINEUP.model_dump(), "role": "second"}},
        {"lineup": {**LINEUP.model_dump(), "confidence": ()}},
        {"lineup": {**LINEUP.model_dump(), "shadow": {**SHADOW.model_dump(), "state": "stopped"}}},
        {"lineup": None},
    ],
    ids=str,
)
def test_what_does_not_belong_together_stays_apart(fields: dict[str, Any]) -> None:
    first = changed(lineup=LINEUP)
    assert merged(first, first) is not None
    assert merged(first, changed(first, **fields)) is None


def test_there_is_a_rule_for_every_field() -> None:
    # a field that comes later must be thought of here, or it would be lost in silence
    rules = (
        *downsample.SAME,
        *downsample.SUMS,
        *downsample.REASONS,
        *downsample.LARGEST,
        *downsample.OWN_RULE,
    )
    assert sorted(rules) == sorted(Window.model_fields)
    lineup = (*downsample.LINEUP_SAME, *downsample.LINEUP_SUMS, *downsample.LINEUP_OWN)
    assert sorted(lineup) == sorted(LineupCounts.model_fields)
    shadow = (*downsample.SHADOW_SAME, *downsample.SHADOW_SUMS, *downsample.SHADOW_OWN)
    assert sorted(shadow) == sorted(ShadowCounts.model_fields)
