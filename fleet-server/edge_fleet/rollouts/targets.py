"""Who gets what from a rollout, in which order, and why a device gets nothing or has to wait. Pure.

The order is `order.py`'s: a hash of the rollout and the device.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from edge_fleet.rollouts.order import Place, place_of
from edge_fleet.rollouts.parts import Part, Unable
from edge_fleet.rollouts.plan import Join, RolloutPlan
from edge_fleet.rollouts.selector import Health, Selector
from edge_fleet.rollouts.stages import Stage
from edge_fleet.rollouts.windows import LABEL, zone

Labels = Mapping[str, str]


@dataclass(frozen=True)
class Device:
    """What a choice rests on.

    Args:
        profile: Its lineage, nearest first.
        counter: Largest release counter that it has confirmed.
        active: Digest of what it runs, or None.
        busy: The other rollout that it takes part in, or None.
        claimed: A rollout at work that names it and has priority, or None.
        skipped: Who left it out of this rollout, and why; "" for nobody.
        enrolled_s: Unix seconds.
        unable: Why it cannot run a shadow; "" when it can.
        unready: Why it cannot have a release wait in its spare slot; "" when it can.
    """

    id: str
    profile: tuple[str, ...]
    labels: Labels
    counter: int = 0
    active: str | None = None
    busy: str | None = None
    claimed: str | None = None
    skipped: str = ""
    health: Health = Health.OK
    enrolled_s: float = 0.0
    unable: str = ""
    unready: str = ""


@dataclass(frozen=True)
class Release:
    """The bundles of a release.

    Args:
        bundles: Digest by profile.
    """

    counter: int
    bundles: Mapping[str, str]


@dataclass(frozen=True)
class Target:
    """What a selected device gets.

    Args:
        bundle: Digest, or None when it gets nothing.
        reason: Why it gets nothing; "" otherwise.
        wait: Why it cannot have it now; "" when it can. It takes its place in a stage all the same.
        unable: Why it cannot take the first part of a stage, and gets it with the switch; "" when it can.
        waits_for: The rollout that it waits for; "" when it waits for none.
        left_to: The same, where the rollout goes on without it, since that one waits for this (`circles.py`).
    """

    device: str
    bundle: str | None
    reason: str = ""
    wait: str = ""
    profile: tuple[str, ...] = ()
    labels: Labels = field(default_factory=dict)
    unable: str = ""
    waits_for: str = ""
    left_to: str = ""


@dataclass(frozen=True)
class Alike:
    """Devices that a stage has still to reach, which differ in nothing that it asks before it begins one.

    Args:
        like: One of them, or what they have in common.
        each: All of them with their places, in the order of the rollout.
    """

    like: Target
    count: int
    each: Callable[[], Iterator[tuple[Place, Target]]]


# Why a device cannot take the first part of a stage, and what that is.
_FIRST: Mapping[Part, Callable[[Device], tuple[str, str]]] = {
    Part.SWITCH: lambda device: ("", ""),
    Part.SHADOW: lambda device: (device.unable, "run a shadow"),
    Part.READY: lambda device: (device.unready, "have it ready"),
}


def resolve(plan: RolloutPlan, release: Release, device: Device, started_s: float | None = None) -> Target:
    """The bundle of a selected device: of the nearest profile in its lineage that has one.

    Args:
        started_s: When the rollout began, Unix seconds; None before.
    """
    profile = next((name for name in device.profile if name in release.bundles), None)
    if profile is None:
        wanted, offered = " > ".join(device.profile), ", ".join(sorted(release.bundles))
        return Target(device.id, None, f"no bundle for {wanted}; the release has {offered}")
    bundle = release.bundles[profile]
    if device.active == bundle:
        return Target(device.id, None, "runs it already")
    if plan.experiment is not None and not plan.experiment.has(device.id):
        return Target(device.id, None, f"arm A of experiment {plan.experiment.name}: stays as it is")
    if device.skipped:
        return Target(device.id, None, device.skipped)
    unable, what = _FIRST[plan.first_part](device)
    if unable and plan.unable is Unable.SKIP:
        return Target(device.id, None, f"cannot {what}, and the plan says skip: {unable}")
    if device.counter > release.counter and not plan.permit_downgrade:
        return Target(
            device.id,
            None,
            f"has confirmed release {device.counter}, which is later than {release.counter}; "
            "a plan with permit_downgrade would include it",
        )
    if plan.join is Join.NEVER and started_s is not None and device.enrolled_s > started_s:
        return Target(device.id, None, "enrolled after the start, and the plan says join: never")
    if plan.windows:
        try:
            zone(device.labels.get(LABEL, plan.time_zone))
        except ValueError as error:
            return Target(device.id, None, f"label {LABEL}: {error}")
    wait = ""
    if device.busy is not None:
        wait = f"rollout {device.busy}, in which they take part"
    elif device.claimed is not None:
        wait = f"rollout {device.claimed}, which comes first"
    other = (device.busy or device.claimed or "") if wait else ""
    return Target(device.id, bundle, "", wait, device.profile, device.labels, unable, other)


def select(
    plan: RolloutPlan,
    selector: Selector,
    release: Release,
    devices: Iterable[Device],
    started_s: float | None = None,
) -> tuple[Target, ...]:
    """The targets of all devices that the selector names."""
    return tuple(
        resolve(plan, release, device, started_s)
        for device in devices
        if selector.matches(device.id, device.profile, device.labels, device.health)
    )


def in_order(rollout: str, devices: Iterable[str]) -> list[str]:
    """Devices in the order in which this rollout reaches them."""
    return sorted(devices, key=lambda device: place_of(rollout, device))


def due(
    rollout: str, stage: Stage, reached: Sequence[str], targets: Iterable[Target], held_back: float = 0.0
) -> list[Target]:
    """The devices that a stage has still to reach, those that have to wait included.

    Args:
        reached: Devices that this rollout has reached already; they are of the selection.
        targets: Of the selection; those without a bundle and those reached are passed over.
        held_back: Share of all of them that the stage leaves alone: the last ones in the order.
    """
    known = set(reached)
    waiting = {t.device: t for t in targets if t.bundle is not None and t.device not in known}
    selected = len(known) + len(waiting)
    if held_back:
        every = in_order(rollout, known | waiting.keys())
        for device in every[selected - math.ceil(round(held_back * selected, 9)) :]:
            waiting.pop(device, None)
    if stage.label is not None:
        named = (t.device for t in waiting.values() if stage.names(t.device, t.profile, t.labels))
        return [waiting[device] for device in in_order(rollout, named)]
    missing = stage.target(selected) - len(known)
    return [waiting[device] for device in in_order(rollout, waiting)[: max(0, missing)]]


def kind(target: Target) -> tuple[bool, str, str, str | None]:
    """What a stage asks of a device that it has still to reach, before it begins it."""
    return bool(target.unable), target.wait, target.waits_for, target.labels.get(LABEL)


def grouped(rollout: str, found: Iterable[Target]) -> list[Alike]:
    """Devices that are due, by kind."""
    kinds: dict[tuple[bool, str, str, str | None], list[tuple[Place, Target]]] = {}
    for target in found:
        kinds.setdefault(kind(target), []).append((place_of(rollout, target.device), target))
    return [Alike(each[0][1], len(each), partial(iter, each)) for each in kinds.values()]


def in_turn(found: Iterable[Alike]) -> Iterator[Target]:
    """The devices of all kinds in the order of the rollout."""
    merged = heapq.merge(*(some.each() for some in found), key=lambda one: one[0])
    return (target for _, target in merged)


def goal(
    rollout: str, stage: Stage, reached: Sequence[str], targets: Sequence[Target], held_back: float = 0.0
) -> int:
    """Devices that a stage will have reached in all, as the fleet is now."""
    return len(set(reached)) + len(due(rollout, stage, reached, targets, held_back))
