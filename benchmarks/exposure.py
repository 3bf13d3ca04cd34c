"""Devices that run a bad release before it is stopped: our gates, and the rules of hawkBit and AWS IoT Jobs.

    OMP_NUM_THREADS=1 python benchmarks/exposure.py [--devices 1000] [--runs 300]

The same drawn fleets, stages and bake time for all; only what stops a rollout differs:

* ours: `error_rate` against the release before, `install_success`, false halts 1 % at most.
* hawkBit: a group's error threshold. The group fails when more than so many per cent of its devices
  report an error; otherwise the next group follows.
* AWS IoT Jobs: abort criteria. The job is cancelled when at least so many things have executed it and at
  least so many per cent of them failed.

Neither knows anything but what an installation ended with. Here a device is as helpful as it can
be: it also reports an error when its own share of failed inferences, after five windows, is above a
limit. Limit and thresholds are chosen from a grid in hindsight: those with the fewest exposed devices
(mean over all defects), among those that stop a good release no more often than ours does. Ours
stops it when it halts it or holds it for a person.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import time
from collections.abc import Mapping, Sequence

import numpy as np

from edge_fleet.assignment import FAILED
from edge_fleet.evidence import StageEvidence
from edge_fleet.rollouts.decision import Decision, decide
from edge_fleet.rollouts.phases import Event, Phase, Position
from edge_fleet.rollouts.plan import RolloutPlan, parse_plan
from edge_fleet.simulation.defects import Defect, Kind
from edge_fleet.simulation.description import DeviceClass
from edge_fleet.simulation.replay import Decide, End, Run, replay

CHECK_WINDOWS = 5
DEFECTS = (
    *(Defect(Kind.ERRORS, size) for size in (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)),
    *(Defect(Kind.ERRORS, size, on=on) for on in (0.3, 0.1) for size in (0.2, 1.0)),
    *(Defect(Kind.INSTALL, size) for size in (0.2, 0.5)),
)
DEVICE_LIMITS = (0.02, 0.05, 0.1)
THRESHOLDS = (0.05, 0.1, 0.2, 0.3)
LEAST_EXECUTED = (5, 10, 20)


def plan() -> RolloutPlan:
    """The stages that all of them follow."""
    return parse_plan(
        {
            "format": "edgefleet.rollout/1",
            "release": "model@2",
            "stages": ["1%", "5%", "25%", "100%"],
            "bake_s": 600,
            "gates": {"error_rate": {"limit": 0.01, "against": "before"}, "install_success": 0.9},
        }
    )


@dataclasses.dataclass(frozen=True)
class Rule:
    """What both products have in common: stages that follow each other unless too many devices failed.

    Args:
        device_limit: Share of failed inferences above which a device reports an error; None: it never does.
        threshold: Share of failed devices that stops the rollout.
        least: Devices that must have executed it (AWS); None: judge every group by itself (hawkBit).
    """

    device_limit: float | None
    threshold: float
    least: int | None = None

    def __call__(self, plan: RolloutPlan, position: Position, found: StageEvidence, now_s: float) -> Decision:
        """What follows."""
        failed = {m.device for m in found.failed}
        executed = {m.device for m in found.members if m.state in FAILED}
        for group in found.groups:
            share = group.laid.panel.share("failed", "attempts")
            if not share.devices:
                continue
            rows, shares = share.at(-1)
            checked = share.windows[rows, -1] >= CHECK_WINDOWS
            executed |= {share.devices[row] for row in rows[checked]}
            if self.device_limit is not None:
                failed |= {share.devices[row] for row in rows[checked & (shares > self.device_limit)]}
        stage = {m.device for m in found.of_stage}
        if self.least is None:
            stops = bool(stage) and len(failed & stage) / len(stage) > self.threshold
        else:
            stops = len(executed) >= self.least and len(failed) / len(executed) >= self.threshold
        if stops:
            return Decision(Event.FAILED, f"{len(failed)} devices failed", ())
        if position.phase is Phase.RUNNING:
            return Decision(None if found.unsettled else Event.SETTLED, "", ())
        if now_s < position.since_s + plan.bake_of(position.stage):
            return Decision(None, "", ())
        last = position.stage + 1 == len(plan.stages)
        return Decision(Event.FINISHED if last else Event.ADVANCED, "", ())


def run_all(fleet: DeviceClass, defect: Defect, runs: int, judge: Decide) -> list[Run]:
    """The same fleets for everybody."""
    return [replay(plan(), [fleet], defect, np.random.default_rng((11, n)), judge) for n in range(runs)]


def stopped(runs: Sequence[Run]) -> float:
    """Share of runs that did not go through."""
    return sum(run.end is not End.COMPLETED for run in runs) / len(runs)


def mean_exposed(runs: Sequence[Run]) -> float:
    """Devices that ran the release."""
    return float(np.mean([run.exposed for run in runs]))


def tuned(fleet: DeviceClass, rules: Sequence[Rule], runs: int, allowed: float) -> Rule:
    """The best of some rules among those that stop a good release seldom enough."""
    kept = [rule for rule in rules if stopped(run_all(fleet, Defect(), runs, rule)) <= allowed]
    kept = kept or [max(rules, key=lambda rule: rule.threshold)]
    few = max(15, runs // 10)
    return min(
        kept, key=lambda rule: sum(mean_exposed(run_all(fleet, defect, few, rule)) for defect in DEFECTS)
    )


def told(defect: Defect) -> str:
    """A defect in a few words."""
    what = "installs that crash" if defect.kind is Kind.INSTALL else "errors"
    where = "" if defect.on == 1 else f" on {defect.on:.0%} of devices"
    return f"+{defect.size:.0%} {what}{where}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=200)
    asked = parser.parse_args()
    begun = time.monotonic()
    fleet = DeviceClass(
        profile="arm-cpu",
        devices=asked.devices,
        errors=0.002,
        between=0.05,
        within=0.05,
        install_failures=0.01,
        silent=0.0,
    )
    good = run_all(fleet, Defect(), asked.runs, decide)
    halted = sum(run.end is End.HALTED for run in good) / asked.runs
    allowed = stopped(good)
    groups = [Rule(limit, part) for limit, part in itertools.product(DEVICE_LIMITS, THRESHOLDS)]
    jobs = [
        Rule(limit, part, least)
        for limit, part, least in itertools.product(DEVICE_LIMITS, THRESHOLDS, LEAST_EXECUTED)
    ]
    blind = Rule(None, 0.1)
    columns: Mapping[str, Decide] = {
        "ours": decide,
        "hawkBit tuned": (hawkbit := tuned(fleet, groups, asked.runs, allowed)),
        "AWS tuned": (aws := tuned(fleet, jobs, asked.runs, allowed)),
        "install status": blind,
    }
    print(f"{asked.devices} devices in stages 1 %, 5 %, 25 %, 100 %; {asked.runs} runs; mean devices exposed")
    print(f"ours: a good release halted in {halted:.1%} of runs, halted or held in {allowed:.1%}")
    print(f"hawkBit tuned: device limit {hawkbit.device_limit}, more than {hawkbit.threshold:.0%} of a group")
    print(f"AWS tuned: device limit {aws.device_limit}, {aws.threshold:.0%} of at least {aws.least} executed")
    print("install status: what both do as they come, 10 % of a group\n")
    print(f"{'defect':34}" + "".join(f"{name:>16}" for name in columns) + f"{'ours: halted':>14}{'held':>7}")
    for defect in (Defect(), *DEFECTS):
        cells, ours = [], [] if defect.size else good
        for name, judge in columns.items():
            runs = good if name == "ours" and not defect.size else run_all(fleet, defect, asked.runs, judge)
            ours = runs if name == "ours" else ours
            went = f" ({stopped(runs):.1%})" if not defect.size else ""
            cells.append(f"{mean_exposed(runs):.0f}{went}")
        ends = [sum(run.end is end for run in ours) / asked.runs for end in (End.HALTED, End.WAITS)]
        name = told(defect) if defect.size else "none (share of runs stopped)"
        print(f"{name:34}" + "".join(f"{cell:>16}" for cell in cells) + f"{ends[0]:>14.0%}{ends[1]:>7.0%}")
    print(f"\n{time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
