"""Whether a bundle on trial is healthy: a verdict on what it did with live inputs, pure.

This guards the device: does it answer, or does it fail? Whether it answers *well* is judged by the
fleet's gates, which see many devices and the model before.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

STUCK_S = 60.0  # an inference that takes longer is a hang
HANG = "hang"
PATIENCE = 3  # windows without enough inputs, until golden inputs must do instead


class Verdict(StrEnum):
    """What is known of the health."""

    WAIT = "wait"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True)
class Rules:
    """What a trial on live inputs must last and hold.

    Args:
        window_s: How long, at least.
        inferences: How many, at least.
    """

    window_s: float = 300.0
    inferences: int = 20


@dataclass(frozen=True)
class Vitals:
    """What a bundle did since it was switched on.

    Args:
        golden_agrees: Whether its golden inputs, run in this process, agreed.
        stuck_s: For how long it has been at one inference.
    """

    elapsed_s: float
    answered: int
    failed: int
    refused: int
    golden_agrees: bool
    stuck_s: float = 0.0


@dataclass(frozen=True)
class Finding:
    """A verdict with its reason."""

    verdict: Verdict
    code: str = ""
    detail: str = ""


def judge(vitals: Vitals, rules: Rules, max_error_rate: float) -> Finding:
    """Judge a trial.

    Args:
        max_error_rate: Share of failed inferences that the manifest allows.
    """
    if vitals.stuck_s >= STUCK_S:
        detail = f"one inference has not ended in {vitals.stuck_s:.0f} s"
        return Finding(Verdict.UNHEALTHY, HANG, detail)
    total = vitals.answered + vitals.failed
    # with more failures than the rate allows of the smallest sufficient number, nothing can save it
    if vitals.failed > max_error_rate * max(total, rules.inferences):
        detail = f"{vitals.failed} of {total} inferences failed, allowed are {max_error_rate:.2%}"
        return Finding(Verdict.UNHEALTHY, "error-rate", detail)
    if not vitals.golden_agrees:
        return Finding(Verdict.UNHEALTHY, "golden-mismatch", "the golden inputs do not agree in this process")
    if total == 0 and vitals.refused >= rules.inferences:
        detail = f"all of {vitals.refused} live inputs were refused by the model's contract"
        return Finding(Verdict.UNHEALTHY, "refuses-inputs", detail)
    if vitals.elapsed_s < rules.window_s:
        return Finding(Verdict.WAIT)
    if total >= rules.inferences or vitals.elapsed_s >= PATIENCE * rules.window_s:
        return Finding(Verdict.HEALTHY)
    return Finding(Verdict.WAIT)
