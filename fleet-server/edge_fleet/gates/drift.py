"""The gate on drift: inputs or answers that leave what the model was made for, under this model only."""

from __future__ import annotations

import math
from collections.abc import Iterable, Set

from edge_contracts.sketch import MIN_DISTANCE, Drift
from edge_fleet.drifts import DeviceDrift, Weighed
from edge_fleet.evidence import Group, Laid
from edge_fleet.gates import betting
from edge_fleet.gates.registry import gate
from edge_fleet.gates.shares import told_wealth, written
from edge_fleet.gates.verdict import Budget, Finding, GateLimit, Number, Outcome

# Devices that may drift alone: one site in ten changes its light during a bake.
LONE_DRIFTERS = 0.1
CERTAIN = 4.75  # deviations of a normal beyond which lies `ALPHA`, one in a million


@gate(
    "drift",
    "smallest distance from the baseline that counts as drift, 0 to 1",
    0.05,
    1,
    MIN_DISTANCE,
    against=("control",),
)
def drift(group: Group, allowed: GateLimit, budget: Budget) -> Finding:
    """Whether inputs or answers differ from what the model was made for, and only under this model.

    A number that drifts on the control group as well, or did so on the devices before, is the world's
    doing and no reason to go back. It is none to go on either: the gate waits, since a model that
    sees a changed world has not been shown to work in it. A retrained model whose baseline is the
    changed world does not drift, and passes.

    What is certain of a pool follows from the baseline's own critical values (one in a million for
    each comparison). Devices that drift singly are bet on as units, like every other share.
    """
    drifts, control = group.drifts, group.control
    shared = _certain(control, allowed.limit / 2)
    pooled = _certain(drifts, allowed.limit)
    guilty = sorted(_more(pooled, group.earlier, allowed.limit) - shared.keys())

    def alone(laid: Laid) -> dict[str, DeviceDrift]:
        return {one.device: one for one in laid.per_device if _alone(one, allowed.limit, shared.keys())}

    found = group.sums.pick(("alone", allowed.limit, frozenset(shared)), alone)
    loners = [found[device] for device in sorted(found)]
    counted = int(group.sums.sum("drift", lambda laid: {"devices": len(laid.per_device)})["devices"])
    wealth = betting.above_alike(len(loners), counted, LONE_DRIFTERS) if loners else 0.0
    furthest = max(drifts, key=lambda one: one.distance, default=None)
    samples = min((one.samples for one in drifts), default=0)
    numbers: dict[str, Number] = {
        "distance": furthest.distance if furthest else None,
        "name": furthest.name if furthest else None,
        "allowed": allowed.limit,
        "total": samples,
        "devices": counted,
        "devices_alone": len(loners),
        "against": "control",
        "alpha": budget.alpha,
        "e": told_wealth(wealth),
        "needed": round(math.exp(budget.needed)),
    }
    if guilty:
        beside = "the release before does not" if control else "there is no release to compare with"
        return Finding(Outcome.FAIL, f"{_told(pooled, guilty)}; {beside}", numbers)
    by_themselves = ""
    if loners:
        names = sorted(_alone(loners[0], allowed.limit, shared.keys()))
        by_themselves = (
            f"{len(loners)} of {counted} devices drift by themselves, such as "
            f"{loners[0].device}: {_told(_certain(loners[0].drifts, allowed.limit), names)}; "
            f"e = {written(wealth)}, needs {math.exp(budget.needed):,.0f}"
        )
        if wealth >= budget.needed:
            return Finding(Outcome.FAIL, by_themselves, numbers)
    if furthest is None:
        return Finding(Outcome.WAIT, "no live counts that fit the bundle's baseline", numbers)
    if samples < allowed.min_inferences:
        told = f"{samples} inferences counted, {allowed.min_inferences} needed"
        return Finding(Outcome.WAIT, told, numbers)
    if counted < allowed.min_devices:
        told = f"{counted} devices counted, {allowed.min_devices} needed"
        return Finding(Outcome.WAIT, told, numbers)
    # where only some devices see the changed world, the pool is far off, and as uncertain as they disagree
    seen = pooled or {one.name: one for one in drifts if one.name in shared and one.distance >= allowed.limit}
    if seen:
        told = f"{_told(seen, sorted(seen))}; so does the control group: not this release's doing"
        return Finding(Outcome.WAIT, told, numbers)
    # rounding errors of the product must not turn 1 of 10 into too many
    if len(loners) > LONE_DRIFTERS * counted + 1e-9:
        return Finding(Outcome.WAIT, f"{by_themselves}: too few to be certain", numbers)
    told = f"furthest is {furthest.name} at {furthest.distance:.2f}, {allowed.limit:.2f} would count"
    return Finding(Outcome.PASS, told + (f"; {by_themselves}" if by_themselves else ""), numbers)


def _alone(one: DeviceDrift, limit: float, shared: Set[str]) -> Set[str]:
    """What drifts on a device, and neither did so before nor does elsewhere."""
    return _more(_certain(one.drifts, limit), one.before, limit) - shared


def _more(drifts: dict[str, Drift], before: Iterable[Drift], limit: float) -> Set[str]:
    """Those that are certainly further from their baseline, by the limit, than the same devices were before.

    A device that sees a world of its own saw it before, too. Both distances are shares of samples at their
    furthest; a share of n samples has a deviation of 1/2 sqrt(n) at most.
    """
    was = {one.name: one for one in sorted(before, key=lambda one: one.distance)}
    return {
        name
        for name, one in drifts.items()
        if name not in was or one.distance - was[name].distance >= limit + _noise(one, was[name])
    }


def _noise(*drifts: Drift) -> float:
    """What chance may add to a difference of two distances, as rarely as `ALPHA`."""
    worth = [one.effective if isinstance(one, Weighed) else one.samples for one in drifts]
    return CERTAIN / 2 * math.sqrt(sum(1 / max(1.0, n) for n in worth))


def _certain(drifts: Iterable[Drift], distance: float) -> dict[str, Drift]:
    """Those that are both certain and at least so large, by name."""
    return {one.name: one for one in drifts if one.certain and one.distance >= distance}


def _told(drifts: dict[str, Drift], names: list[str]) -> str:
    """The largest of some drifts, for a person."""
    largest = max((drifts[name] for name in names), key=lambda one: one.distance)
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    found = f"{largest.distance:.2f} from its baseline over {largest.samples} inferences"
    return f"{largest.name} is {found}{more}"
