"""Whom a rollout would reach and whom not, and why: counted, and the devices without it a page at a time.

By groups of devices where the plan allows it (`groups.py`), device by device where it does not.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import Connection

from edge_fleet.lineage.rows import software_needs
from edge_fleet.rollouts import candidates, targets
from edge_fleet.rollouts.groups import Group, Groups
from edge_fleet.rollouts.members import load_members
from edge_fleet.rollouts.rows import Rollout
from edge_fleet.rollouts.targets import Target, resolve


@dataclass(frozen=True)
class Outlook:
    """What a rollout would come to with the devices that it has not reached, as the fleet is now.

    Args:
        selected: Of them those that its selector names.
        reaches: Of these, those that get the release.
        waiting: Of these, those that another rollout keeps.
        stages: Devices reached in all by stage, of one that has not begun.
        without: Why selected devices get nothing, and how many.
        waits: What others wait for, and how many.
    """

    selected: int
    reaches: int
    waiting: int
    stages: tuple[int, ...]
    without: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)

    @property
    def reasons(self) -> list[tuple[str, int]]:
        """Why devices are without the release now, the most frequent first."""
        told = self.without + Counter({f"waits for {what}": count for what, count in self.waits.items()})
        return sorted(told.items(), key=lambda item: (-item[1], item[0]))


def outlook(connection: Connection, rollout: Rollout, now_ms: int) -> Outlook:
    """Look at a rollout that may begin devices.

    Raises:
        NotFound: Its release has not been published.
    """
    grouped = _grouped(connection, rollout, now_ms)
    if grouped is None:
        found = _one_by_one(connection, rollout, now_ms)
        stages = tuple(
            targets.goal(rollout.id, stage, (), found, rollout.plan.held_back(index))
            for index, stage in enumerate(rollout.plan.stages)
        )
        return _summed_up([(target, 1) for target in found], stages)
    _, resolved = grouped
    return _summed_up([(target, group.count) for group, target in resolved], _stages(rollout, resolved))


def left_out(
    connection: Connection, rollout: Rollout, now_ms: int, offset: int, most: int, reached: int | None = None
) -> tuple[Outlook, list[Target]]:
    """The outlook, and some of the devices that get nothing now: the most frequent reason first.

    Args:
        reached: Devices that the rollout has reached and that count; None where nobody asks for the stages.
    """
    grouped = _grouped(connection, rollout, now_ms)
    if reached and rollout.plan.control is not None:
        grouped = None  # which of them were to be left alone goes by their names
    if grouped is None:
        found = _one_by_one(connection, rollout, now_ms)
        stages = () if reached is None else _goals(connection, rollout, found)
        seen = _summed_up([(target, 1) for target in found], stages)
        place = {why: n for n, (why, _) in enumerate(seen.reasons)}
        without = sorted(filter(_is_without, found), key=lambda one: (place[told(one)], one.device))
        return seen, without[offset : offset + most]
    groups, resolved = grouped
    stages = () if reached is None else _stages(rollout, resolved, reached)
    seen = _summed_up([(target, group.count) for group, target in resolved], stages)
    place = {why: n for n, (why, _) in enumerate(seen.reasons)}
    shown: list[Target] = []
    ordered = [(group, target) for group, target in resolved if _is_without(target)]
    for group, target in sorted(ordered, key=lambda one: (place[told(one[1])], one[0].key["choice"])):
        if offset >= group.count:
            offset -= group.count
        elif len(shown) < most:
            names = groups.names(group, offset, most - len(shown))
            shown += [replace(target, device=name) for name in names]
            offset = 0
    return seen, shown


def overlap(connection: Connection, rollout: Rollout, now_ms: int) -> tuple[str, str] | None:
    """A device that another rollout of the same priority at work names too, and that rollout."""
    groups = Groups(connection, rollout, now_ms)
    found = []
    for group in groups.found:
        other = next((one for one in group.claims if one.priority == rollout.plan.priority), None)
        if other is not None:
            found += [(device, other.rollout) for device in groups.names(group, 0, 1)]
    return min(found, default=None)


def told(target: Target) -> str:
    """Why a device is without the release now, in words."""
    return target.reason or f"waits for {target.wait}"


def _is_without(target: Target) -> bool:
    return target.bundle is None or bool(target.wait)


def _grouped(
    connection: Connection, rollout: Rollout, now_ms: int
) -> tuple[Groups, list[tuple[Group, Target]]] | None:
    """Groups with what each gets; None where that depends on the device by its name."""
    plan = rollout.plan
    by_name = plan.control is not None and any(stage.label is not None for stage in plan.stages)
    if plan.experiment is not None or by_name or software_needs(connection):
        return None
    release = candidates.load_release(connection, plan.model, plan.version)
    groups = Groups(connection, rollout, now_ms)
    started_s = None if rollout.started_ms is None else rollout.started_ms / 1000
    return groups, [(group, resolve(plan, release, group.device, started_s)) for group in groups.found]


def _one_by_one(connection: Connection, rollout: Rollout, now_ms: int) -> list[Target]:
    reached = {row.device for row in load_members(connection, rollout.id)}
    found = candidates.load_targets(connection, rollout, now_ms)
    return [target for target in found if target.device not in reached]


def _summed_up(found: Iterable[tuple[Target, int]], stages: tuple[int, ...]) -> Outlook:
    without: Counter[str] = Counter()
    waits: Counter[str] = Counter()
    selected = reaches = 0
    for target, count in found:
        selected += count
        if target.bundle is None:
            without[target.reason] += count
            continue
        reaches += count
        if target.wait:
            waits[target.wait] += count
    return Outlook(selected, reaches, waits.total(), stages, without, waits)


def _goals(connection: Connection, rollout: Rollout, found: Sequence[Target]) -> tuple[int, ...]:
    """Devices reached in all by stage, by the names of those that are reached."""
    counted = [row.device for row in load_members(connection, rollout.id) if row.left is None]
    return tuple(
        targets.goal(rollout.id, stage, counted, found, rollout.plan.held_back(index))
        for index, stage in enumerate(rollout.plan.stages)
    )


def _stages(rollout: Rollout, resolved: Iterable[tuple[Group, Target]], reached: int = 0) -> tuple[int, ...]:
    """As `targets.goal` counts them; of a plan without a control group, or that has reached nobody."""
    getting = [group for group, target in resolved if target.bundle is not None]
    reaches = sum(group.count for group in getting)
    found = []
    for index, stage in enumerate(rollout.plan.stages):
        if stage.label is not None:
            found.append(reached + sum(group.count for group in getting if index in group.stages))
        else:
            kept = math.ceil(round(rollout.plan.held_back(index) * reaches, 9))
            missing = stage.target(reached + reaches) - reached
            found.append(reached + max(0, min(missing, reaches - kept)))
    return tuple(found)
