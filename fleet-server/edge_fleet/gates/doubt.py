"""The gates on what devices say of their answers: unsure, passed on, contradicted, labelled wrong."""

from __future__ import annotations

import dataclasses

from edge_fleet.evidence import Group
from edge_fleet.gates.rates import ANY
from edge_fleet.gates.registry import gate
from edge_fleet.gates.shares import Measure, judge_share
from edge_fleet.gates.verdict import Budget, Finding, GateLimit, Outcome


@gate("abstain_rate", "largest share of answers that go out as uncertain", 0, 1, against=ANY)
def abstain_rate(group: Group, allowed: GateLimit, budget: Budget) -> Finding:
    """Whether too many answers are marked uncertain."""
    return judge_share(
        group,
        Measure.counted("uncertain", "answered"),
        "answers uncertain",
        allowed.limit,
        allowed,
        budget,
    )


@gate("fallback_rate", "largest share of answers that the second model had to give", 0, 1, against=ANY)
def fallback_rate(group: Group, allowed: GateLimit, budget: Budget) -> Finding:
    """Whether the second model is asked too often for what this one is unsure of or fails on."""
    return judge_share(
        group,
        Measure.counted("second", "answered"),
        "answers by the second model",
        allowed.limit,
        allowed,
        budget,
    )


@gate(
    "shadow_agreement",
    "smallest share of inputs on which shadow and active model agree",
    0,
    1,
    of_shadow=True,
)
def shadow_agreement(group: Group, allowed: GateLimit, budget: Budget) -> Finding:
    """Whether the release and the one before it answer alike, where one ran as the other's shadow."""
    return judge_share(
        group.as_shadow(),
        Measure.counted("differing", "compared"),
        "compared answers differ",
        1 - allowed.limit,
        allowed,
        budget,
    )


@gate(
    "live_accuracy",
    "smallest share of labelled answers that are right; against a release, what may be lost",
    0,
    1,
    against=ANY,
)
def live_accuracy(group: Group, allowed: GateLimit, budget: Budget) -> Finding:
    """Whether labels that come back say that answers are right often enough."""
    limit = 1 - allowed.limit if allowed.against == "limit" else allowed.limit
    return judge_share(
        group,
        Measure.counted("wrong", "labelled"),
        "labels say wrong",
        limit,
        allowed,
        budget,
    )


@gate("confidence_shift", "largest change of the mean confidence", 0.001, 1, against=("before", "control"))
def confidence_shift(group: Group, allowed: GateLimit, budget: Budget) -> Finding:
    """Whether the model has become less sure, or more, than the one before; each way has half of alpha."""
    half = dataclasses.replace(budget, alpha=budget.alpha / 2)
    sides = [
        judge_share(
            group,
            Measure.counted(bad, "rated"),
            f"answers' {bad}",
            allowed.limit,
            allowed,
            half,
        )
        for bad in ("doubt", "confidence")
    ]
    for outcome in (Outcome.FAIL, Outcome.WAIT):
        for side in sides:
            if side.outcome is outcome:
                return side
    return sides[0]
