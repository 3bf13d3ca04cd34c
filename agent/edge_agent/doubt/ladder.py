"""What goes out when a model is unsure or fails: a table. Pure.

The ladder has two rungs, a first model (the active one, or the other arm of an experiment) and a
second, larger or older one; below them is "uncertain", which is an answer too, and marked as one.
"""

from __future__ import annotations

from enum import StrEnum

from edge_agent.doubt.confidence import ConfidenceRule


class Found(StrEnum):
    """What one model made of a request."""

    SURE = "sure"
    UNSURE = "unsure"  # at least one of its samples is below the threshold
    UNRATED = "unrated"  # the bundle states no threshold
    FAILED = "failed"


class Verdict(StrEnum):
    """What the client gets."""

    FIRST = "first"
    SECOND = "second"
    UNCERTAIN_FIRST = "uncertain-first"  # the first model's answer, marked
    UNCERTAIN_SECOND = "uncertain-second"
    FAIL = "fail"


# (first, second or None where there is none) -> verdict. A pair that is absent is never asked for.
VERDICTS = {
    (Found.SURE, None): Verdict.FIRST,
    (Found.UNRATED, None): Verdict.FIRST,
    (Found.UNSURE, None): Verdict.UNCERTAIN_FIRST,
    (Found.FAILED, None): Verdict.FAIL,
    (Found.UNSURE, Found.SURE): Verdict.SECOND,
    (Found.UNSURE, Found.UNSURE): Verdict.UNCERTAIN_SECOND,
    (Found.UNSURE, Found.UNRATED): Verdict.UNCERTAIN_FIRST,  # without a threshold it proves nothing
    (Found.UNSURE, Found.FAILED): Verdict.UNCERTAIN_FIRST,
    (Found.FAILED, Found.SURE): Verdict.SECOND,
    (Found.FAILED, Found.UNRATED): Verdict.SECOND,  # as good as if it were the only model
    (Found.FAILED, Found.UNSURE): Verdict.UNCERTAIN_SECOND,
    (Found.FAILED, Found.FAILED): Verdict.FAIL,
}
ASKS_SECOND = frozenset(first for first, second in VERDICTS if second is not None)


def find(rule: ConfidenceRule | None, confidence: tuple[float, ...]) -> Found:
    """What a model that answered made of a request.

    Args:
        confidence: Of each of its samples; empty without a rule.
    """
    if rule is None or rule.below is None:
        return Found.UNRATED
    return Found.SURE if all([rule.is_sure(one) for one in confidence]) else Found.UNSURE
