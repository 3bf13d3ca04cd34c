"""The part of a model in a window: optional, and never more right answers than labels."""

from __future__ import annotations

import pytest
from message_examples import BUNDLE, WINDOW

from edge_contracts.faults import ValidationError
from edge_contracts.lineup import CONFIDENCE_BINS, LineupCounts, ShadowCounts
from edge_contracts.messages import Window

COUNTS = LineupCounts(
    role="arm-b",
    experiment="taste",
    sure=7,
    uncertain=1,
    confidence=(0,) * (CONFIDENCE_BINS - 1) + (8,),
    labelled=3,
    correct=2,
    rated=2,
    rated_correct=1,
    rated_confidence=1.8,
    shadow=ShadowCounts(bundle=BUNDLE, compared=4, agreed=3, skipped={"cpu": 2}),
)


def test_a_window_carries_it_there_and_back() -> None:
    window = WINDOW.model_copy(update={"lineup": COUNTS})
    assert Window.model_validate(window.model_dump(mode="python")) == window


def test_a_window_without_it_is_written_as_before_there_was_any() -> None:
    assert "lineup" not in WINDOW.model_dump(mode="python")


@pytest.mark.parametrize(
    "fault",
    [
        {"correct": 4},
        {"rated": 4},
        {"rated_correct": 3},
        {"confidence": (1, 2)},
        {"role": "third"},
        {"experiment": "not an identifier"},
        {"sure": -1},
        {"shadow": {"bundle": BUNDLE, "compared": 1, "agreed": 2}},
    ],
)
def test_what_cannot_be_is_refused(fault: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        LineupCounts.model_validate(COUNTS.model_dump() | fault)
