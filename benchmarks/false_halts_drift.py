"""How often the drift gate halts a release that changes nothing, asked at every window of a bake.

    OMP_NUM_THREADS=1 python benchmarks/false_halts_drift.py [--runs 200] [--reached 1 5] [--between 0 0.5]

Rollouts that have reached so many devices, each with five live numbers and a window of 60 inferences every
two minutes for two hours, and twenty windows before; 200 devices beside run the release before. Each device
sees a world of its own (`between`: deviation of its mean, in deviations of a number) that also moves from
window to window (`within`: frames of one scene). Both releases have a baseline of 300 samples of the fleet's
world, with the thresholds that a build gives it. `false_halt` is 1 % for this gate alone. Then: on some
devices the world changes by itself in the middle of the bake (by 1.5 deviations); and a release whose inputs
are off by one deviation on all devices. "first" is a good first release: nothing ran there before.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_contracts.features import make_baseline
from edge_contracts.sketch import ALPHA, Baseline, Critical
from edge_convert.drift import critical
from edge_fleet.assignment import State
from edge_fleet.clumping import counted, scatters
from edge_fleet.drifts import DeviceDrift, drifts_of
from edge_fleet.evidence import BundleFacts, Group, Laid, Member, StageEvidence
from edge_fleet.gates import GATES, Budget, Outcome
from edge_fleet.gates.verdict import GateLimit
from edge_fleet.reading import Asked, Reading
from edge_fleet.simulation.study import upper_share
from edge_fleet.sums import Whole

NUMBERS = tuple(f"input:x:{n}" for n in range(5))
SAMPLES, WINDOW, LOOKS, BESIDE, DAY = 300, 60, 60, 200, 20
FALSE_HALT, ITSELF, OWN_SHIFT, BAD_SHIFT = 0.01, 0.02, 1.5, 1.0
Floats = NDArray[Any]
Counts = NDArray[np.int64]


_known: dict[tuple[int, ...], Critical] = {}  # edges are a sample's own quantiles: counts repeat, and decide


@dataclass(frozen=True)
class World:
    """What devices see.

    Args:
        first: Nothing ran there before.
    """

    between: float
    within: float
    first: bool = False


def baseline(spread: float, random: np.random.Generator) -> Baseline:
    """Of a sample of the fleet's world."""
    made = []
    for name in NUMBERS:
        (one,) = make_baseline({name: random.normal(0, spread, SAMPLES)}).scalars
        if one.counts not in _known:
            _known[one.counts] = critical(one, ALPHA)
        made.append(one.model_copy(update={"name": name, "critical": _known[one.counts]}))
    return Baseline(samples=SAMPLES, scalars=tuple(made))


def binned(base: Baseline, values: Floats) -> Counts:
    """Counts by bin of values of shape (devices, numbers, samples): (devices, numbers, bins)."""
    found = np.zeros((len(values), len(NUMBERS), len(base.scalars[0].counts)), np.int64)
    for n, scalar in enumerate(base.scalars):
        bins = np.searchsorted(scalar.edges, values[:, n], side="right")
        for device, row in enumerate(bins):
            found[device, n] = np.bincount(row, minlength=found.shape[2])
    return found


def reading(device: str, bundle: str, counts: Counts) -> Reading:
    """Counts of shape (numbers, bins), as one window."""
    scalars = {name: tuple(map(int, row)) for name, row in zip(NUMBERS, counts, strict=True)}
    return Reading(device, bundle, 0.0, int(counts[0].sum()), scalars=scalars)


def outcome(
    reached: int, world: World, random: np.random.Generator, itself: float = 0.0, bad: float = 0.0
) -> Outcome:
    """What the gate says: FAIL when it did at any look, else the last word."""
    spread_of_all = float(np.sqrt(1 + world.between**2 + world.within**2))
    new, old = baseline(spread_of_all, random), baseline(spread_of_all, random)
    means = random.normal(0, world.between, (reached, len(NUMBERS), 1))
    changes_at = np.where(random.random(reached) < itself, random.integers(0, LOOKS, reached), LOOKS)

    def window(base: Baseline, shift: Floats) -> Counts:
        scene = means + random.normal(0, world.within, (reached, len(NUMBERS), 1)) + shift[:, None, None]
        return binned(base, scene + random.normal(0, 1, (reached, len(NUMBERS), WINDOW)))

    quiet = np.zeros(reached)
    days = [window(old, quiet) for _ in range(0 if world.first else DAY)]
    members = tuple(Member(f"d{n}", 0, "new", "old", State.CONFIRMED, 0.0) for n in range(reached))
    before = {m.device: [reading(m.device, "old", day[n]) for day in days] for n, m in enumerate(members)}
    windows: dict[str, list[Reading]] = {member.device: [] for member in members}
    beside = np.zeros((len(NUMBERS), len(old.scalars[0].counts)), np.int64)
    facts = {d: BundleFacts(d, "arm-cpu", base, 50.0) for d, base in (("new", new), ("old", old))}
    was = {device: drifts_of(old, found, ()) for device, found in before.items()}
    earlier = [r for found in before.values() for r in found]
    spread = {
        ("earlier", *key): part for key, part in scatters((r.bundle, r.scalars) for r in earlier).items()
    }
    told: dict[tuple[str, str, str, int], Floats] = {}
    inferences = 0
    said = Outcome.WAIT
    for look in range(LOOKS):
        now = window(new, OWN_SHIFT * (changes_at <= look) + bad)
        fresh = [reading(member.device, "new", now[n]) for n, member in enumerate(members)]
        for one in fresh:
            windows[one.device].append(one)
        for key, part in scatters((r.bundle, r.scalars) for r in fresh).items():
            spread["new", *key] = spread["new", *key] + part if ("new", *key) in spread else part
        if not world.first:
            beside += binned(old, random.normal(0, spread_of_all, (1, len(NUMBERS), BESIDE * WINDOW)))[0]
            told = {
                ("others", "old", name, len(row)): np.array((1.0, *row))
                for name, row in zip(NUMBERS, beside, strict=True)
            }
        inferences += sum(r.inferences for r in fresh)
        laid = Laid(
            new=Asked(inferences=inferences),
            others=Asked(windows=0 if world.first else look + 1),
            live={key: counted(part) for key, part in spread.items()} | told,
            scatter=spread,
            per_device=tuple(
                DeviceDrift(device, drifts_of(new, found, before[device]), was[device])
                for device, found in windows.items()
            ),
        )
        group = Group("new", "arm-cpu", members, 50.0, Whole(laid), facts)
        found = StageEvidence(0, members, (group,), frozenset())
        budget = Budget.split(FALSE_HALT, 1, 1, 1e-4)
        said = GATES["drift"].judge(found, GateLimit(limit=0.15), budget).outcome
        if said is Outcome.FAIL:
            return said
    return said


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--reached", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--between", type=float, nargs="+", default=[0.0, 0.5])
    given = parser.parse_args()
    runs = given.runs
    print(f"false_halt {FALSE_HALT:.0%}, {LOOKS} looks; the last three columns of a fifth of the runs, or 20")
    print(
        f"{'reached':>8}{'between':>8}{'within':>7}{'runs':>6}{'halted':>8}{'at most':>9}{'held':>7}"
        f"{f'{ITSELF:.0%} change: halted':>21}{'bad: halted':>12}{'first: halted':>15}"
    )
    for reached in given.reached:
        few = max(20, runs // 5)
        for between, within in product(given.between, (0.0, 0.5)):
            world, first = World(between, within), World(between, within, True)
            good, own, bad, fresh = (
                [
                    outcome(reached, of, np.random.default_rng((7, reached, n)), itself, shift)
                    for n in range(times)
                ]
                for of, itself, shift, times in (
                    (world, 0.0, 0.0, runs),
                    (world, ITSELF, 0.0, few),
                    (world, 0.0, BAD_SHIFT, few),
                    (first, 0.0, 0.0, few),
                )
            )
            halted, alone, found, new = (said.count(Outcome.FAIL) for said in (good, own, bad, fresh))
            held = good.count(Outcome.WAIT)
            print(
                f"{reached:>8}{between:>8g}{within:>7g}{runs:>6}"
                f"{halted / runs:>8.1%}{upper_share(halted, runs):>9.1%}"
                f"{held / runs:>7.1%}{alone / few:>21.1%}{found / few:>12.1%}{new / few:>15.1%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
