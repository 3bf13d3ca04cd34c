"""Who gets what from a rollout, in which order, and why a device gets nothing. Pure.

The order is a hash of the rollout and the device: no device is always the first to be tried on, and
a restart, a new device or another database order changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edge_fleet.rollouts.plan import RolloutPlan, Stage
from edge_fleet.rollouts.selector import Selector


@dataclass(frozen=True)
class Device:
    """What a choice rests on.

    Args:
        profile: Its lineage, nearest first.
        counter: Largest release counter that it has confirmed.
        active: Digest of what it runs, or None.
        busy: The other rollout that it takes part in, or None.
    """

    id: str
    profile: tuple[str, ...]
    labels: Mapping[str, str]
    counter: int = 0
    active: str | None = None
    busy: str | None = None


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
    """

    device: str
    bundle: str | None
    reason: str = ""


def resolve(plan: RolloutPlan, release: Release, device: Device) -> Target:
    """The bundle of a selected device: of the nearest profile in its lineage that has one."""
    profile = next((name for name in device.profile if name in release.bundles), None)
    if profile is None:
        wanted, offered = " > ".join(device.profile), ", ".join(sorted(release.bundles))
        return Target(device.id, None, f"no bundle for {wanted}; the release has {offered}")
    bundle = release.bundles[profile]
    if device.active == bundle:
        return Target(device.id, None, "runs it already")
    if device.busy is not None:
        return Target(device.id, None, f"takes part in rollout {device.busy}")
    if device.counter > release.counter and not plan.permit_downgrade:
        return Target(
            device.id,
            None,
            f"has confirmed release {device.counter}, which is later than {release.counter}; "
            "a plan with permit_downgrade would include it",
        )
    return Target(device.id, bundle)


def select(
    plan: RolloutPlan, selector: Selector, release: Release, devices: Iterable[Device]
) -> tuple[Target, ...]:
    """The targets of all devices that the selector names."""
    return tuple(
        resolve(plan, release, device)
        for device in devices
        if selector.matches(device.id, device.profile, device.labels)
    )


def in_order(rollout: str, devices: Iterable[str]) -> list[str]:
    """Devices in the order in which this rollout reaches them."""
    return sorted(devices, key=lambda device: hashlib.sha256(f"{rollout}\n{device}".encode()).digest())


def due(rollout: str, stage: Stage, reached: Sequence[str], targets: Iterable[Target]) -> list[Target]:
    """The devices that a stage has still to reach.

    Args:
        reached: Devices that this rollout has reached already; they are of the selection.
        targets: Of the selection; those without a bundle and those reached are passed over.
    """
    waiting = {t.device: t for t in targets if t.bundle is not None and t.device not in set(reached)}
    missing = stage.target(len(reached) + len(waiting)) - len(reached)
    return [waiting[device] for device in in_order(rollout, waiting)[: max(0, missing)]]
