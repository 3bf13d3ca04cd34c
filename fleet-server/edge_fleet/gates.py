"""The gates: questions about a stage's evidence, each answered with PASS, FAIL or WAIT and why.

To add one, write a function here and decorate it; plans then know it by its name. Every bundle of
the release is judged by itself, because one class of device can be broken while the others hide it
in a total. No evidence is WAIT. A FAIL must be certain: the gates are asked again and again while a
stage bakes, so one unlucky look must not undo a rollout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import Field, model_validator

from edge_contracts.model import Frozen
from edge_contracts.sketch import MIN_DISTANCE, Drift
from edge_fleet.assignment import State
from edge_fleet.evidence import Group, StageEvidence

# Chance that one look calls a release bad that is exactly at its limit. The looks of a bake share most
# of their data: the chance over all of them grows about with the logarithm of the inferences.
FALSE_ALARM = 1e-4
Z = 3.72  # the same, as standard deviations of a normal
MIN_INFERENCES = 200  # a p95 then rests on the ten slowest; drift needs 50
# A scheduler's noise on a general-purpose system; differences below are not the model's doing.
LATENCY_NOISE_MS = 1.0
# Devices of a group that may drift alone: one site in ten changes its light during a bake.
LONE_DRIFTERS = 0.1


class Outcome(StrEnum):
    """What a gate answers."""

    PASS = "pass"
    FAIL = "fail"
    WAIT = "wait"


@dataclass(frozen=True)
class Verdict:
    """A gate's answer.

    Args:
        reason: One line with what was found and what was expected.
    """

    gate: str
    outcome: Outcome
    reason: str


class GateLimit(Frozen):
    """What one gate allows.

    Args:
        limit: In the gate's own unit.
        min_inferences: Evidence of every bundle below which the gate waits.
    """

    limit: float
    min_inferences: int = Field(default=MIN_INFERENCES, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, raw: Any) -> Any:
        """Read a bare number as the limit."""
        return {"limit": raw} if isinstance(raw, int | float) and not isinstance(raw, bool) else raw


@dataclass(frozen=True)
class Gate:
    """A registered gate.

    Args:
        unit: What the limit is, for people.
        lowest, highest: Limits that make sense.
        default: Limit of a plan that names no gates; None: only asked when named.
    """

    name: str
    unit: str
    lowest: float
    highest: float
    default: float | None
    judge: Callable[[StageEvidence, GateLimit], Verdict]


GATES: dict[str, Gate] = {}

Judge = Callable[[StageEvidence, GateLimit], tuple[Outcome, str]]


def gate(
    name: str, unit: str, lowest: float, highest: float, default: float | None
) -> Callable[[Judge], Judge]:
    """Register a gate under its name; its judgement is asked only when a device was reached."""

    def register(judge: Judge) -> Judge:
        def verdict(evidence: StageEvidence, allowed: GateLimit) -> Verdict:
            if not evidence.members:
                return Verdict(name, Outcome.WAIT, "no device has been reached yet")
            return Verdict(name, *judge(evidence, allowed))

        GATES[name] = Gate(name, unit, lowest, highest, default, verdict)
        return judge

    return register


@gate("install_success", "smallest share of devices that keep the release", 0, 1, default=0.9)
def install_success(evidence: StageEvidence, allowed: GateLimit) -> tuple[Outcome, str]:
    """Whether enough devices took the release and kept it; silent ones count for neither side."""
    reached, failed = len(evidence.members), len(evidence.failed)
    kept = sum(member.state is State.CONFIRMED for member in evidence.members)
    # rounding errors of the product must not turn 1 of 10 at a limit of 0.9 into a failure
    if failed > (1 - allowed.limit) * reached + 1e-9:
        first = evidence.failed[0]
        why = f"{first.device} {first.state}: {first.code or 'no code'} {first.detail}".strip()
        return Outcome.FAIL, f"{failed} of {reached} devices failed, {allowed.limit:.0%} must succeed; {why}"
    found = f"{kept} of {reached} devices confirmed, {failed} failed"
    if not kept or evidence.unsettled:
        return Outcome.WAIT, f"{found}, {len(evidence.unsettled)} on their way"
    return Outcome.PASS, f"{found}, {allowed.limit:.0%} must succeed"


@gate("error_rate", "largest share of inferences that fail or are refused", 0, 1, default=0.02)
def error_rate(evidence: StageEvidence, allowed: GateLimit) -> tuple[Outcome, str]:
    """Whether inferences fail more often than allowed, by the exact binomial test."""

    def judge(group: Group) -> tuple[Outcome, str]:
        new = group.new
        bad = new.errors + new.refused
        if new.attempts == 0:
            return Outcome.WAIT, "no inference reported"
        found = f"{bad} of {new.attempts} inferences without an answer ({bad / new.attempts:.2%})"
        if binomial_tail(bad, new.attempts, allowed.limit) < FALSE_ALARM:
            return Outcome.FAIL, f"{found}, allowed {allowed.limit:.2%}"
        if new.attempts < allowed.min_inferences:
            return Outcome.WAIT, f"{found}, {allowed.min_inferences} needed"
        if bad / new.attempts > allowed.limit:
            return Outcome.WAIT, f"{found}, allowed {allowed.limit:.2%}: too few to be certain"
        return Outcome.PASS, f"{found}, allowed {allowed.limit:.2%}"

    return _worst(evidence, judge)


@gate("latency_p95", "largest ratio of p95 latency to the release before", 1, 100, default=1.5)
def latency_p95(evidence: StageEvidence, allowed: GateLimit) -> tuple[Outcome, str]:
    """Whether the release is slower than the one before on these devices and their peers.

    A first release has none before it: it is held to what its manifest promises for the profile.
    """

    def judge(group: Group) -> tuple[Outcome, str]:
        before = group.old.latency_ms.quantile(0.95)
        if before is None or group.old.inferences < allowed.min_inferences:
            return _latency(group, group.latency_p95_ms, "promised in the manifest", allowed)
        limit_ms = max(before * allowed.limit, before + LATENCY_NOISE_MS)
        return _latency(group, limit_ms, f"{before:.2f} ms before, ratio {allowed.limit:g}", allowed)

    return _worst(evidence, judge)


@gate("latency_p95_ms", "largest p95 latency, milliseconds", 0.001, 3_600_000, default=None)
def latency_p95_ms(evidence: StageEvidence, allowed: GateLimit) -> tuple[Outcome, str]:
    """Whether the release is slower than a given time."""
    return _worst(evidence, lambda group: _latency(group, allowed.limit, "limit of the plan", allowed))


@gate("golden_agreement", "smallest share of golden inputs that agree on live devices", 0, 1, default=0.9)
def golden_agreement(evidence: StageEvidence, allowed: GateLimit) -> tuple[Outcome, str]:
    """Whether golden inputs, run again in service, still get the expected answers."""

    def judge(group: Group) -> tuple[Outcome, str]:
        total, agree = group.new.golden_total, group.new.golden_agree
        if total == 0:
            return Outcome.WAIT, "no golden input has been run in service"
        outcome = Outcome.PASS if agree / total >= allowed.limit else Outcome.FAIL
        return outcome, f"{agree} of {total} golden inputs agree, {allowed.limit:.0%} must"

    return _worst(evidence, judge)


@gate("drift", "smallest distance from the baseline that counts as drift, 0 to 1", 0.05, 1, MIN_DISTANCE)
def drift(evidence: StageEvidence, allowed: GateLimit) -> tuple[Outcome, str]:
    """Whether inputs or answers differ from what the model was made for, and only under this model.

    A number that drifts on the control group as well, or did so on the device before, is the world's
    doing and no reason to go back. It is none to go on either: the gate waits, since a model that
    sees a changed world has not been shown to work in it. A retrained model whose baseline is the
    changed world does not drift, and passes.
    """

    def judge(group: Group) -> tuple[Outcome, str]:
        shared = _certain(group.control, allowed.limit / 2)
        pooled = _certain(group.drifts, allowed.limit)
        guilty = sorted(pooled.keys() - shared.keys())
        if guilty:
            beside = "the release before does not" if group.control else "there is no release to compare with"
            return Outcome.FAIL, f"{_told(pooled, guilty)}; {beside}"
        loners = [
            (one.device, names)
            for one in group.per_device
            if (
                names := sorted(
                    _certain(one.drifts, allowed.limit).keys()
                    - _certain(one.before, allowed.limit / 2).keys()
                    - shared.keys()
                )
            )
        ]
        if len(loners) > LONE_DRIFTERS * len(group.per_device):
            device, names = loners[0]
            mine = next(one for one in group.per_device if one.device == device)
            return Outcome.FAIL, (
                f"{len(loners)} of {len(group.per_device)} devices drift by themselves, such as {device}: "
                f"{_told(_certain(mine.drifts, allowed.limit), names)}"
            )
        if not group.drifts:
            return Outcome.WAIT, "no live counts that fit the bundle's baseline"
        samples = min(one.samples for one in group.drifts)
        if samples < allowed.min_inferences:
            return Outcome.WAIT, f"{samples} inferences counted, {allowed.min_inferences} needed"
        if pooled:
            return Outcome.WAIT, (
                f"{_told(pooled, sorted(pooled))}; so does the control group: not this release's doing"
            )
        furthest = max(group.drifts, key=lambda one: one.distance)
        alone = f"; {len(loners)} devices drift by themselves" if loners else ""
        return Outcome.PASS, (
            f"furthest is {furthest.name} at {furthest.distance:.2f}, {allowed.limit:.2f} would count{alone}"
        )

    return _worst(evidence, judge)


def binomial_tail(bad: int, total: int, share: float) -> float:
    """P(X >= bad) of `total` trials that each go wrong with the chance `share`.

    Exact, because a normal approximation calls 1 of 1 significant. At or below the expectation,
    where nothing is to be shown, it answers 1.
    """
    if bad <= total * share:
        return 1.0
    if share == 0.0:
        return 0.0
    log_term = (
        math.lgamma(total + 1)
        - math.lgamma(bad + 1)
        - math.lgamma(total - bad + 1)
        + bad * math.log(share)
        + (total - bad) * math.log1p(-share)
    )
    term = tail = math.exp(log_term)
    for k in range(bad, total):  # beyond the expectation each term is smaller than the one before
        term *= (total - k) / (k + 1) * share / (1 - share)
        tail += term
        if term < tail * 1e-12:
            break
    return min(1.0, tail)


def _latency(group: Group, limit_ms: float, why: str, allowed: GateLimit) -> tuple[Outcome, str]:
    """Judge a p95; it fails when even the lower bound of the p95 (by order statistics) is above."""
    sketch = group.new.latency_ms
    count = sketch.count
    p95 = sketch.quantile(0.95)
    if p95 is None or count < allowed.min_inferences:
        return Outcome.WAIT, f"{count} latencies reported, {allowed.min_inferences} needed"
    # ranks below the true p95 are binomial: this rank's value is surely under it
    surely = sketch.quantile(max(0.0, 0.95 - Z * math.sqrt(0.95 * 0.05 / count)))
    assert surely is not None
    found = f"p95 {p95:.2f} ms, allowed {limit_ms:.2f} ms ({why})"
    if surely > limit_ms:
        return Outcome.FAIL, found
    if p95 > limit_ms:
        return Outcome.WAIT, f"{found}: not certain yet"
    return Outcome.PASS, found


def _certain(drifts: Iterable[Drift], distance: float) -> dict[str, Drift]:
    """Those that are both certain and at least so large, by name."""
    return {one.name: one for one in drifts if one.certain and one.distance >= distance}


def _told(drifts: dict[str, Drift], names: list[str]) -> str:
    """The largest of some drifts, for a person."""
    largest = max((drifts[name] for name in names), key=lambda one: one.distance)
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    found = f"{largest.distance:.2f} from its baseline over {largest.samples} inferences"
    return f"{largest.name} is {found}{more}"


def _worst(evidence: StageEvidence, judge: Callable[[Group], tuple[Outcome, str]]) -> tuple[Outcome, str]:
    """Judge every bundle by itself: one FAIL fails, one WAIT waits, and all must pass.

    A bundle that no device has kept is not asked: `install_success` and the quorum speak of it.
    """
    asked = [
        (group, *judge(group))
        for group in evidence.groups
        if any(member.state is State.CONFIRMED for member in group.members) or group.new.attempts
    ]
    if not asked:
        return Outcome.WAIT, "no device has confirmed the release yet"
    for outcome in (Outcome.FAIL, Outcome.WAIT, Outcome.PASS):
        told = [f"{group.profile}: {reason}" for group, found, reason in asked if found is outcome]
        if told:
            return outcome, "; ".join(told)
    raise AssertionError("a gate gave an answer that is none of the three")
