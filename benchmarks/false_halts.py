"""How often a release that is just as good as its limit is halted, when errors are correlated.

    OMP_NUM_THREADS=1 python benchmarks/false_halts.py [--runs 300]

Whole rollouts of 60 devices, one stage, six hours, looked at whenever a device may have reached a mark.
`between` and `within` are the intra-class correlations of errors by device and by window. `naive` takes
every inference for a witness: the exact binomial test at the same alpha, at the same looks.
"""

from __future__ import annotations

import argparse
import dataclasses

import numpy as np

from edge_fleet.evidence import StageEvidence
from edge_fleet.gates import binomial_tail
from edge_fleet.rollouts.decision import Decision, decide
from edge_fleet.rollouts.phases import Event, Position
from edge_fleet.rollouts.plan import RolloutPlan, parse_plan
from edge_fleet.simulation.defects import Defect, Kind
from edge_fleet.simulation.description import DeviceClass
from edge_fleet.simulation.replay import Decide, End, replay
from edge_fleet.simulation.study import upper_share

LIMIT, ALPHA = 0.02, 0.05


def plan() -> RolloutPlan:
    """One gate, one stage."""
    return parse_plan(
        {
            "format": "edgefleet.rollout/1",
            "release": "model@2",
            "stages": ["100%"],
            "bake_s": 6 * 3600,
            "false_halt": ALPHA,
            "gates": {"error_rate": LIMIT},
        }
    )


@dataclasses.dataclass(frozen=True)
class Naive:
    """The exact binomial test of all inferences, at every look."""

    def __call__(self, plan: RolloutPlan, position: Position, found: StageEvidence, now_s: float) -> Decision:
        """What follows."""
        for group in found.groups:
            bad, total = group.laid.panel.share("failed", "attempts").now
            if binomial_tail(int(bad), int(total), LIMIT) < ALPHA:
                return Decision(Event.FAILED, "", ())
        return decide(plan.model_copy(update={"gates": {}}), position, found, now_s)


def halted(fleet: DeviceClass, defect: Defect, runs: int, judge: Decide) -> int:
    """Runs in which a gate failed."""
    ends = [replay(plan(), [fleet], defect, np.random.default_rng((5, n)), judge).end for n in range(runs)]
    return sum(end is End.HALTED for end in ends)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=300)
    runs = parser.parse_args().runs
    print(f"halted, of {runs} rollouts; the good release is at the limit of {LIMIT:.0%}; alpha {ALPHA:.0%}")
    print(f"{'between':>8}{'within':>8}{'ours':>8}{'at most':>9}{'naive':>8}{'ours, +10 % errors':>20}")
    for between in (0.0, 0.02, 0.2, 0.5):
        for within in (0.0, 0.2, 0.6):
            fleet = DeviceClass(
                profile="arm-cpu",
                devices=60,
                errors=LIMIT,
                between=between,
                within=within,
                install_failures=0.0,
                silent=0.0,
            )
            ours = halted(fleet, Defect(), runs, decide)
            naive = halted(fleet, Defect(), runs, Naive())
            found = halted(fleet, Defect(Kind.ERRORS, 0.1), runs, decide)
            print(
                f"{between:>8g}{within:>8g}{ours / runs:>8.1%}{upper_share(ours, runs):>9.1%}"
                f"{naive / runs:>8.1%}{found / runs:>20.1%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
