"""The devices that a rollout has still to reach: a look reads only those that changed since the last.

What a device gets is `candidates.load_targets`' to say, of all devices at first and then of those that
changed. Whatever is written of a device takes the next number (`devices.change`), and so does every change of
its assignments (`roster.py`), which tell of other rollouts that have it. What a choice rests on besides - the
release, what operators left out, the rollouts at work, who is silent where that matters - is asked at each
look, and read again is whom it concerns, or everybody. In memory only: a server that starts again reads
everything.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection, func, select

from edge_fleet import orders
from edge_fleet.rollouts.candidates import PORTION, Terms, load_targets, load_terms, silent_devices
from edge_fleet.rollouts.members import skipped
from edge_fleet.rollouts.order import Order, Place
from edge_fleet.rollouts.phases import WATCHED
from edge_fleet.rollouts.reached import Reached
from edge_fleet.rollouts.rows import Rollout, load_ids
from edge_fleet.rollouts.stages import Stage
from edge_fleet.rollouts.targets import Alike, Target, kind
from edge_fleet.schema import devices, rollout_members


class Pool:
    """What is known of the devices that one rollout may begin."""

    def __init__(self) -> None:
        """Know nothing."""
        self._terms: Terms | None = None
        self._changes = (0, 0)  # the last that were seen: of devices, and of assignments
        self._left_out: Mapping[str, str] = {}
        self._others: frozenset[str] = frozenset()
        self._silent: frozenset[str] = frozenset()
        self._counted: set[str] = set()
        self._waiting: dict[str, Target] = {}
        self._selected = Order("")  # the counted and the waiting, where a plan leaves the last of them alone
        self._label: str | None = None
        self._named = Order("")  # of the waiting those that the stage names
        self._kinds: dict[Hashable, _Kind] = {}  # the same by kind

    def due(
        self, connection: Connection, rollout: Rollout, now_ms: int, reached: Mapping[str, Reached]
    ) -> list[Alike]:
        """What `targets.due` would find among all devices: whom the stage has still to reach, by kind.

        Args:
            reached: The devices that the rollout has reached, by id, as they are in this transaction.
        """
        self._look(connection, rollout, now_ms, reached)
        stage = rollout.plan.stages[rollout.position.stage]
        if stage.label != self._label:
            self._label = stage.label
            self._name(rollout, (one for one in self._waiting.values() if _names(stage, one)))
        held_back = rollout.plan.held_back(rollout.position.stage)
        selected = len(self._counted) + len(self._waiting)
        ends = []
        if held_back:
            ends.append(self._selected.from_end(math.ceil(round(held_back * selected, 9))))
        if stage.label is None:
            ends.append(self._named.at(max(0, stage.target(selected) - len(self._counted))))
        end = min((one for one in ends if one is not None), default=None)
        return [
            Alike(some.like, count, partial(self._each, some.order, end))
            for some in self._kinds.values()
            if (count := some.order.before(end))
        ]

    def _each(self, order: Order, end: Place | None) -> Iterator[tuple[Place, Target]]:
        return ((place, self._waiting[place[1]]) for place in order.until(end))

    def _look(
        self, connection: Connection, rollout: Rollout, now_ms: int, reached: Mapping[str, Reached]
    ) -> None:
        """Know what there is now."""
        terms = load_terms(connection, rollout)
        changes = _last_change(connection), orders.last_change(connection)
        left_out = skipped(connection, rollout.id)
        others = frozenset(load_ids(connection, WATCHED)) - {rollout.id}
        silent = silent_devices(connection, now_ms) if terms.ask_health else frozenset()
        # what software a device has comes with its windows, and takes no number
        behind = changes[0] < self._changes[0] or changes[1] < self._changes[1]
        if self._terms != terms or terms.needs or behind:
            found = load_targets(connection, rollout, now_ms, terms=terms)
            self._begin_anew(rollout, found, reached)
        else:
            changed = _changed_since(connection, self._changes[0]) if changes[0] > self._changes[0] else set()
            if changes[1] > self._changes[1]:
                changed.update(orders.changed_since(connection, self._changes[1]))
            changed.update(one for one, _ in left_out.items() ^ self._left_out.items())
            changed |= silent ^ self._silent
            changed |= _devices_of(connection, others ^ self._others)
            self._take(connection, rollout, now_ms, terms, changed, reached)
        self._terms, self._changes, self._left_out = terms, changes, left_out
        self._others, self._silent = others, silent

    def _begin_anew(
        self, rollout: Rollout, found: Collection[Target], reached: Mapping[str, Reached]
    ) -> None:
        self._counted = {device for device, row in reached.items() if row.left is None}
        self._waiting = {one.device: one for one in found if one.bundle is not None}
        for device in self._counted:
            self._waiting.pop(device, None)
        if rollout.plan.control is not None:
            self._selected = Order(rollout.id, [*self._counted, *self._waiting])
        self._label = None
        self._name(rollout, self._waiting.values())

    def _name(self, rollout: Rollout, named: Iterable[Target]) -> None:
        """Have these be the ones that the stage names."""
        kinds: dict[Hashable, list[Target]] = {}
        for target in named:
            kinds.setdefault(kind(target), []).append(target)
        self._kinds = {
            key: _Kind(some[0], Order(rollout.id, (one.device for one in some)))
            for key, some in kinds.items()
        }
        self._named = Order(rollout.id, (one.device for some in kinds.values() for one in some))

    def _take(
        self,
        connection: Connection,
        rollout: Rollout,
        now_ms: int,
        terms: Terms,
        changed: set[str],
        reached: Mapping[str, Reached],
    ) -> None:
        """Take in what became of some devices."""
        counted = {device for device in changed if device in reached and reached[device].left is None}
        asked = changed - counted
        found = {one.device: one for one in load_targets(connection, rollout, now_ms, asked, terms)}
        stage = rollout.plan.stages[rollout.position.stage]
        for device in changed:
            before, target = self._waiting.pop(device, None), found.get(device)
            if before is not None:
                self._named.remove(device)
                if (key := kind(before)) in self._kinds:
                    self._kinds[key].order.remove(device)
            if target is not None and target.bundle is not None:
                self._waiting[device] = target
                if _names(stage, target):
                    self._named.add(device)
                    self._kinds.setdefault(kind(target), _Kind(target, Order(rollout.id))).order.add(device)
            (self._counted.add if device in counted else self._counted.discard)(device)
            if rollout.plan.control is not None:
                there = device in counted or device in self._waiting
                (self._selected.add if there else self._selected.remove)(device)


@dataclass(frozen=True)
class _Kind:
    """Devices of one kind (`targets.kind`), of those that the stage names.

    Args:
        like: The first of them that came.
    """

    like: Target
    order: Order


def _names(stage: Stage, target: Target) -> bool:
    return stage.names(target.device, target.profile, target.labels)


def _last_change(connection: Connection) -> int:
    return int(connection.execute(select(func.max(devices.c.change))).scalar() or 0)


def _changed_since(connection: Connection, change: int) -> set[str]:
    return set(connection.execute(select(devices.c.id).where(devices.c.change > change)).scalars())


def _devices_of(connection: Connection, rollouts: Collection[str]) -> set[str]:
    """The devices that these rollouts have reached."""
    own, ids = rollout_members.c, list(rollouts)
    return {
        device
        for start in range(0, len(ids), PORTION)
        for device in connection.execute(
            select(own.device).where(own.rollout.in_(ids[start : start + PORTION]))
        ).scalars()
    }
