"""The gate on installations: devices that refuse a release or go back by themselves."""

from __future__ import annotations

import math

from edge_fleet.assignment import State
from edge_fleet.evidence import StageEvidence
from edge_fleet.gates import betting
from edge_fleet.gates.registry import HAVE_IT, stage_gate
from edge_fleet.gates.shares import told_wealth, written
from edge_fleet.gates.verdict import Budget, Finding, GateLimit, Number, Outcome

# What the device found wrong with the release itself. Everything else (no space, no network, a power
# cut on trial) also happens to good releases.
RELEASE_FAULTS = frozenset(
    {
        *("crash", "hang", "golden-mismatch", "too-slow", "too-large", "no-answer", "check-unfinished"),
        *("error-rate", "refuses-inputs", "contract-differs", "model-invalid", "wrong-profile"),
        *("latency", "memory", "failing"),  # of a shadow, above its terms
        *("bundle-invalid", "format-unknown", "signature-invalid", "key-unknown", "install-refused"),
    }
)


@stage_gate("install_success", "smallest share of devices that keep the release", 0, 1, default=0.9)
def install_success(evidence: StageEvidence, allowed: GateLimit, budget: Budget) -> Finding:
    """Whether enough devices took the release and kept it; silent ones count for neither side.

    Devices on their way count as good in the test that fails the release: refusals come sooner than
    confirmations, so that those who answered first are not a fair sample.
    """
    failed, states, reached = evidence.failed, evidence.standing.states, len(evidence.members)
    asked, kept = reached - states[State.UNREACHABLE], sum(states[state] for state in HAVE_IT)
    found = f"{kept} of {reached} devices confirmed, {len(failed)} failed"
    fleet = surely = 0.0
    if failed:
        fleet = betting.above_alike(len(failed), asked, 1 - allowed.limit)
        blamed = sum(member.code in RELEASE_FAULTS for member in failed)
        if blamed:
            surely = betting.above_alike(blamed, asked, min(1.0, 2 * budget.stray))
    wealth = max(fleet, surely)
    numbers: dict[str, Number] = {
        "bad": len(failed),
        "total": reached,
        "devices": reached,
        "against": "limit",
        "allowed": 1 - allowed.limit,
        "alpha": budget.alpha,
        "e": told_wealth(wealth),
        "e_fleet": told_wealth(fleet),
        "e_devices": told_wealth(surely),
        "needed": round(math.exp(budget.needed)),
    }
    if failed:
        # the first that the release is to blame for, if there is one
        first = next((m for m in failed if m.code in RELEASE_FAULTS), failed[0])
        found += f", such as {first.device} {first.state}: {first.code or 'no code'} {first.detail}".rstrip()
        found += f"; e = {written(wealth)}, needs {math.exp(budget.needed):,.0f}"
    if failed and wealth >= budget.needed:
        return Finding(Outcome.FAIL, f"{found}; {allowed.limit:.0%} must succeed", numbers)
    if not kept or evidence.unsettled:
        return Finding(Outcome.WAIT, f"{found}; {len(evidence.unsettled)} on their way", numbers)
    # rounding errors of the product must not turn 1 of 10 at a limit of 0.9 into too many
    if len(failed) > (1 - allowed.limit) * reached + 1e-9:
        return Finding(
            Outcome.WAIT, f"{found}; {allowed.limit:.0%} must succeed: too few to be certain", numbers
        )
    return Finding(Outcome.PASS, f"{found}; {allowed.limit:.0%} must succeed", numbers)
