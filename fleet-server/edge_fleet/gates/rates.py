"""The gates on shares of answers: errors, golden inputs."""

from __future__ import annotations

import math

from edge_fleet.evidence import Group, Laid
from edge_fleet.gates import betting
from edge_fleet.gates.registry import gate
from edge_fleet.gates.shares import Measure, judge_share, told_wealth, written
from edge_fleet.gates.verdict import Against, Budget, Finding, GateLimit, Number, Outcome
from edge_fleet.sums import Numbers

ANY: tuple[Against, ...] = ("limit", "before", "control")


@gate("error_rate", "largest share of inferences that fail or are refused", 0, 1, default=0.02, against=ANY)
def error_rate(group: Group, allowed: GateLimit, budget: Budget) -> Finding:
    """Whether inferences fail more often than allowed."""
    return judge_share(
        group,
        Measure.counted("failed", "attempts"),
        "inferences without an answer",
        allowed.limit,
        allowed,
        budget,
    )


@gate("golden_agreement", "smallest share of golden inputs that agree on live devices", 0, 1, default=0.9)
def golden_agreement(group: Group, allowed: GateLimit, budget: Budget) -> Finding:
    """Whether golden inputs, run again in service, still get the expected answers.

    They always get the same ones on a device that works: no chance is in the answer of one device, only
    in how many devices are faulty by themselves.
    """

    def counted(laid: Laid) -> Numbers:
        share = laid.panel.share("golden_off", "golden")
        (off, total), (rows, shares) = share.now, share.at(-1)
        wrong = int((shares > 1 - allowed.limit + 1e-9).sum())
        return {"off": off, "total": total, "devices": len(rows), "wrong": wrong}

    found = group.sums.sum(("golden", allowed.limit), counted)
    off, total, devices, wrong = found["off"], found["total"], found["devices"], found["wrong"]
    if not devices:
        return Finding(Outcome.WAIT, "no golden input has been run in service")
    wealth = betting.above_alike(wrong, devices, min(1.0, 2 * budget.stray))
    needed = math.exp(budget.needed)
    numbers: dict[str, Number] = {
        "bad": off,
        "total": total,
        "devices": devices,
        "devices_wrong": wrong,
        "against": "limit",
        "allowed": 1 - allowed.limit,
        "alpha": budget.alpha,
        "e": told_wealth(wealth),
        "needed": round(needed),
    }
    told = f"{total - off:g} of {total:g} golden inputs agree, {allowed.limit:.0%} must"
    if wrong:
        told += f"; {wrong} of {devices} devices disagree"
        told += f"; e = {written(wealth)}, needs {needed:,.0f}"
    if wrong and wealth >= budget.needed:
        return Finding(Outcome.FAIL, told, numbers)
    return Finding(Outcome.WAIT if off > (1 - allowed.limit) * total + 1e-9 else Outcome.PASS, told, numbers)
