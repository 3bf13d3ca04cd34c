"""Many runs of a plan: how long, how much, who is exposed before a defect is caught, and false halts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np

from edge_fleet.gates import GATES, binomial_tail
from edge_fleet.rollouts.decision import decide
from edge_fleet.rollouts.plan import Join, RolloutPlan, at_s
from edge_fleet.rollouts.plan import Kind as PlanKind
from edge_fleet.rollouts.windows import LABEL, zone
from edge_fleet.simulation.defects import Defect, Kind
from edge_fleet.simulation.description import DeviceClass, FleetDescription
from edge_fleet.simulation.draw import SIMULATED
from edge_fleet.simulation.replay import Decide, End, Run, replay

SIZES: Mapping[Kind, tuple[float, ...]] = {
    Kind.LATENCY: (0.2, 0.5, 1.0, 2.0, 4.0),
    Kind.INSTALL: (0.05, 0.1, 0.2, 0.5, 1.0),
}
USUAL_SIZES = (0.01, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0)
_CHUNK = 10
_FEW = 200
# Is told how many runs are done, and of how many.
Tell = Callable[[int, int], None]


def silent(done: int, of: int) -> None:
    """A `Tell` that tells nobody."""


class CannotReplay(ValueError):
    """Nothing would come of a dry run, such as of a plan that names none of the described classes."""


@dataclass(frozen=True)
class StudyRow:
    """What the runs of one defect came to.

    Args:
        halted, waits, completed: Shares of the runs; `waits` needs a person, and goes no further meanwhile.
        expired: Share of the runs that the plan's deadline ended.
        exposed, exposed_most: Devices that ran the release: median, and in 95 of 100 runs at most.
        ended_s: Median time until a good release was through, or one with a defect was halted; where none
            was, until it was through. None where none came to that.
        sent_bytes: Median.
    """

    defect: Defect
    runs: int
    halted: float
    waits: float
    completed: float
    expired: float
    exposed: float
    exposed_mean: float
    exposed_most: float
    ended_s: float | None
    sent_bytes: float
    why: str


@dataclass(frozen=True)
class Study:
    """A plan, replayed.

    Args:
        rows: The good release first.
        false_halt_most: Upper 95 % bound (Clopper and Pearson) of the chance that a good release is halted.
        left_out: Gates of the plan that cannot be simulated; they are taken to pass.
        without: Why devices that the plan names get nothing, and how many do not: they are none of `devices`.
            None where that is not known, as of a fleet that somebody described.
        starts_s: When each run starts, Unix seconds, where that matters: for windows, or a deadline.
        empty: Stages that name no device of the fleet, by number and label.
        unlike: What else the plan asks for and no run does.
    """

    devices: int
    rows: tuple[StudyRow, ...]
    false_halt_most: float
    left_out: tuple[str, ...]
    without: Mapping[str, int] | None = None
    starts_s: float | None = None
    empty: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()


def study(
    plan: RolloutPlan,
    fleet: FleetDescription,
    kind: Kind = Kind.ERRORS,
    sizes: Sequence[float] = (),
    on: float = 1.0,
    runs: int = 200,
    seed: int = 0,
    judge: Decide = decide,
    workers: int | None = None,
    tell: Tell = silent,
    now_s: float | None = None,
) -> Study:
    """Replay a plan with a good release and with defects of some sizes.

    Args:
        tell: Is told how far it is, from the beginning to the end.
        now_s: When it would be started, Unix seconds; its own start_at, if that is later. None: now.

    Raises:
        CannotReplay: The plan names none of the fleet's classes, or is a rehearsal.
    """
    classes = selected(plan, fleet)
    begins = max(time.time() if now_s is None else now_s, at_s(plan.start_at) or 0.0)
    by_the_clock = bool(plan.windows) or plan.deadline is not None
    kept, left_out = simulated(plan)
    defects = [Defect(kind, size, on) for size in (0.0, *(sizes or SIZES.get(kind, USUAL_SIZES)))]
    jobs = [
        (kept, classes, defect, seed, range(first, min(first + _CHUNK, runs)), judge, begins)
        for defect in defects
        for first in range(0, runs, _CHUNK)
    ]
    found: dict[Defect, list[Run]] = {defect: [] for defect in defects}
    done, of = 0, len(defects) * runs
    tell(done, of)
    for job, part in zip(jobs, _spread(jobs, workers), strict=True):
        found[job[2]] += part
        done += len(part)
        tell(done, of)
    rows = tuple(_row(defect, found[defect]) for defect in defects)
    halts = sum(run.end is End.HALTED for run in found[defects[0]])
    devices = sum(one.devices for one in classes)
    return Study(
        devices,
        rows,
        upper_share(halts, runs),
        left_out,
        fleet.without,
        begins if by_the_clock else None,
        tuple(_empty(plan, classes)),
        tuple(_unlike(plan)),
    )


def selected(plan: RolloutPlan, fleet: FleetDescription) -> tuple[DeviceClass, ...]:
    """The classes that a plan's selector names; all of a fleet that was described for the plan.

    Of an experiment they are those of arm B: so large a share of each.

    Raises:
        CannotReplay: None of them; a label that is no time zone; a rehearsal.
    """
    if plan.kind is PlanKind.REHEARSAL:
        raise CannotReplay(
            "a rehearsal always goes back, so there is nothing to find out about it; replay the plan of the "
            "rollout that it rehearses"
        )
    if fleet.without is not None:
        return fleet.classes
    chosen = tuple(one for one in fleet.classes if one.is_named(plan.select))
    if not chosen:
        known = ", ".join(one.profile for one in fleet.classes)
        raise CannotReplay(f"{plan.select!r} names no class of the fleet; it has {known}")
    for one in chosen if plan.windows else ():
        try:
            zone(one.labels.get(LABEL, plan.time_zone))
        except ValueError as error:
            raise CannotReplay(f"class {one.profile}, label {LABEL}: {error}") from None
    if plan.experiment is None:
        return chosen
    share = plan.experiment.share
    return tuple(one.model_copy(update={"devices": max(1, round(share * one.devices))}) for one in chosen)


def _empty(plan: RolloutPlan, classes: Sequence[DeviceClass]) -> Iterable[str]:
    """The stages that name no device."""
    for number, stage in enumerate(plan.stages, 1):
        if stage.label is not None and not any(one.is_named(stage.label) for one in classes):
            yield f"stage {number} ({stage.label})"


def _unlike(plan: RolloutPlan) -> Iterable[str]:
    """What a plan asks for and no run does."""
    tried = plan.retries
    if tried.verification or tried.golden or tried.crash:
        yield "retries of what failed"
    if plan.join is Join.UNTIL_DEADLINE:
        yield "devices that join"
    if plan.priority:
        yield "rollouts that come before or after it by priority"


def simulated(plan: RolloutPlan) -> tuple[RolloutPlan, tuple[str, ...]]:
    """A plan with those of its gates that can be simulated, each with the alpha that it really has."""
    kept = {name: limit for name, limit in plan.gates.items() if name in SIMULATED}
    left_out = tuple(sorted(plan.gates.keys() - kept.keys()))
    assert all(name in GATES for name in SIMULATED), "a gate that does not exist is simulated"
    share = len(kept) / len(plan.gates) if plan.gates else 1.0
    changes = {"gates": kept, "false_halt": plan.false_halt * share}
    return plan.model_copy(update=changes), left_out


def upper_share(hits: int, runs: int, doubt: float = 0.05) -> float:
    """The largest share that so many hits do not rule out (Clopper and Pearson 1934, one side)."""
    low, high = hits / runs, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        # at most `hits` of `runs` at this share: at least runs - hits misses
        if binomial_tail(runs - hits, runs, 1 - middle) > doubt:
            low = middle
        else:
            high = middle
    return high


_Job = tuple[RolloutPlan, tuple[DeviceClass, ...], Defect, int, range, Decide, float]


def _spread(jobs: Sequence[_Job], workers: int | None) -> Iterable[list[Run]]:
    """Runs of all jobs, in order, on as many processors as there are."""
    count = min(len(jobs), workers or os.cpu_count() or 1)
    # starting processes takes longer than a few small runs
    if count <= 1 or sum(len(job[4]) for job in jobs) < _FEW:
        yield from map(_runs, jobs)
        return
    with ProcessPoolExecutor(count, mp_context=get_context("forkserver")) as pool:
        yield from pool.map(_runs, jobs)


def _runs(job: _Job) -> list[Run]:
    plan, classes, defect, seed, numbers, judge, begins = job
    # the same fleets for every defect: what differs is the defect
    return [replay(plan, classes, defect, np.random.default_rng((seed, n)), judge, begins) for n in numbers]


def _row(defect: Defect, runs: Sequence[Run]) -> StudyRow:
    exposed = np.array([run.exposed for run in runs])
    ended_s = {end: [run.ended_s for run in runs if run.end is end] for end in End}
    ended = (ended_s[End.HALTED] if defect.size else []) or ended_s[End.COMPLETED]
    ends = {end: sum(run.end is end for run in runs) / len(runs) for end in End}
    most = max(End, key=lambda end: ends[end])
    return StudyRow(
        defect=defect,
        runs=len(runs),
        halted=ends[End.HALTED],
        waits=ends[End.WAITS],
        completed=ends[End.COMPLETED],
        expired=ends[End.EXPIRED],
        exposed=float(np.median(exposed)),
        exposed_mean=float(exposed.mean()),
        exposed_most=float(np.quantile(exposed, 0.95)),
        ended_s=float(np.median(ended)) if ended else None,
        sent_bytes=float(np.median([run.sent_bytes for run in runs])),
        why=next(run.why for run in runs if run.end is most),
    )
