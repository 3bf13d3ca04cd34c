"""Whom a stage has still to reach is, look by look, what reading the whole fleet finds, whatever happens."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from fleet_rows import digest
from rollout_fleet import Fleet, Killed, plan
from sqlalchemy import event, text, update

from edge_contracts.messages import DeviceState, Knows
from edge_contracts.messages import Phase as Told
from edge_fleet import orders, schema
from edge_fleet.device_state import store_state
from edge_fleet.errors import Conflict
from edge_fleet.lineage.resolution import Need
from edge_fleet.lineage.rows import set_software_needs
from edge_fleet.rollouts import candidates, targets
from edge_fleet.rollouts.device_orders import DeviceOrder, order_device
from edge_fleet.rollouts.looking import Known, due_of, look
from edge_fleet.rollouts.phases import ENDED
from edge_fleet.rollouts.targets import Target
from edge_fleet.storage.bulk import update_many
from edge_fleet.store import Store

PROFILES = (("arm-cpu",), ("pi4", "arm-cpu"), ("intel-npu", "x86-cpu"), ("mcu",))
SITES = ("lab", "yard", "roof")
KNOWS: tuple[tuple[Knows, ...], ...] = ((), (Knows.HOLD,), (Knows.SHADOW, Knows.HOLD))
# what begins by itself, in this order: some wait for others, some come first
PLANS: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (("3", "site=lab,profile=arm-cpu", "100%"), {"select": "site=lab|yard"}),
    (("20%", "100%"), {"select": "site!=lab", "priority": 3, "control": "20%"}),
    (("4", "100%"), {"select": "health=ok|degraded|failing,device!=cam-3", "priority": 2}),
)
# what is only looked at, as if it were at any of its stages
DRAFTS: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
    (("30%", "100%"), {}),
    (("site!=roof", "100%"), {"control": "30%", "join": "never", "permit_downgrade": True}),
    (("30%", "100%"), {"kind": "ab", "experiment": {"name": "taste", "share": 0.4}}),
    (("2", "site=yard", "100%"), {"select": "health=silent|empty", "priority": 9}),
    (("50%", "100%"), {"windows": [{"begin": "22:00", "end": "04:00"}]}),
    (("2", "100%"), {"kind": "shadow-first", "gates": {"shadow_agreement": 0.9}}),
    (("2", "100%"), {"kind": "blue-green", "blue_green": {"unable": "skip"}, "priority": 1}),
)


class World:
    """A fleet in which anything happens, and who looks at it: two processes, one less often."""

    def __init__(self, store: Store, seed: int) -> None:
        self.draw = Random(seed)
        self.fleet = Fleet(lambda: store)
        self.names: list[str] = []
        self.version = 2
        self.said = 0
        for version in ("1", "2"):
            self.fleet.publish(version, "arm-cpu", "x86-cpu")
        for _ in range(24):
            self.enrol()
        for name in self.names:
            self.state(name)
        self.rollouts = [self.made(*one) for one in (*PLANS, *DRAFTS)]
        for rollout in self.rollouts[: len(PLANS)]:
            self.start(rollout)
        self.processes: list[dict[str, Known]] = [{}, {}]

    def made(self, stages: tuple[str, ...], changes: dict[str, Any]) -> str:
        return self.fleet.operator.create(plan("2", *stages, **changes), "anna")

    def start(self, rollout: str) -> None:
        with suppress(Conflict):
            self.fleet.operator.start(rollout, "anna")

    # what happens

    def enrol(self) -> None:
        labels: Any = {"site": self.draw.choice(SITES)}
        if self.draw.random() < 0.3:
            labels["tz"] = self.draw.choice(("Europe/Berlin", "Mars/Olympus"))
        self.names.append(f"cam-{len(self.names)}")
        self.fleet.enrol(self.names[-1], profile=self.draw.choice(PROFILES), **labels)

    def any(self) -> str:
        return self.draw.choice(self.names)

    def state(self, name: str = "") -> None:
        """A device says what it is, as it comes from the broker."""
        self.said += 1
        profile = self.draw.choice(PROFILES)
        version = self.draw.choice(("", "1", "2", "7"))
        active: Any = None
        if version:
            bundle = digest(version, profile[-1])
            active = {"bundle": bundle, "name": "digits", "version": version, "artifact": "int8"}
            active |= {"runtime": "litert 2.3.0", "fallback": self.draw.choice(("", "no NPU"))}
        told = DeviceState.model_validate(
            {
                "device": name or self.any(),
                "type": "status",
                "n": self.said,
                "profile": profile,
                "agent": "0.1.0",
                "epoch": "0" * 16,
                "next_seq": 0,
                "counter": self.draw.randrange(4),
                "active": active,
                "knows": self.draw.choice(KNOWS),
                "time_ms": self.fleet.now_ms,
            }
        )
        with self.fleet.store.write() as connection:
            store_state(connection, told, self.fleet.now_ms)

    def answer(self) -> None:
        name = self.any()
        if self.fleet.assigned(name) is not None:
            with suppress(ValueError):  # it takes back what it said
                self.fleet.say(name, self.draw.choice(tuple(Told)))

    def hear(self) -> None:
        """As windows of a device are stored: nothing else is written of it."""
        with self.fleet.store.write() as connection:
            told = [(self.fleet.now_ms, self.any())]
            update_many(connection, schema.devices, ("id",), ("last_seen_ms",), told)

    def label(self) -> None:
        labels = {"site": self.draw.choice(SITES)}
        with self.fleet.store.write() as connection:
            connection.execute(
                update(schema.devices).where(schema.devices.c.id == self.any()).values(labels=labels)
            )

    def order(self) -> None:
        with suppress(Conflict):
            order = self.draw.choice(tuple(DeviceOrder))
            order_device(self.fleet.services, self.draw.choice(self.rollouts), self.any(), order, "anna")

    def operate(self) -> None:
        order = self.draw.choice(("pause", "resume", "advance", "abort", "recall"))
        with suppress(Conflict):
            getattr(self.fleet.operator, order)(self.draw.choice(self.rollouts), "anna")

    def publish(self) -> None:
        self.version += 1
        self.fleet.publish(str(self.version), "arm-cpu", "x86-cpu")

    def crash(self) -> None:
        """A transaction that changes everything and is not committed."""
        with pytest.raises(Killed), self.fleet.store.write() as connection:
            connection.execute(update(schema.devices).values(labels={}, state=None))
            connection.execute(update(schema.assignments).values(phase="refused", change=orders.NEXT_CHANGE))
            raise Killed

    def report(self) -> None:
        """A window says what software a device has."""
        told = f"{self.draw.choice((1, 3))}.0"
        software = {"runtime:litert": told}
        self.fleet.report(self.any(), digest("1"), software=software, runtime=f"litert {told}")

    def need(self) -> None:
        needs = [Need("litert", "runtime:litert", "2.0")] if self.draw.random() < 0.7 else []
        with self.fleet.store.write() as connection:
            set_software_needs(connection, needs, "anna", self.fleet.now_ms)

    def happen(self) -> None:
        often: list[Callable[[], None]] = [self.state, self.state, self.answer, self.answer, self.hear]
        seldom: list[Callable[[], None]] = [
            *(self.enrol, self.label, self.order, self.order, self.operate, self.crash, self.publish),
            *(self.report, self.report),
            lambda: self.fleet.revoke(self.any()),
            lambda: self.start(self.draw.choice(self.rollouts)),
            lambda: self.fleet.pass_time(self.draw.choice((1, 1, 61, 301))),
        ]
        self.draw.choice(often if self.draw.random() < 0.6 else seldom)()

    # who looks

    def look(self, process: dict[str, Known], rollout: str, stage: int) -> tuple[list[Target], list[Target]]:
        """Whom a stage has still to reach, as the process finds it, and as everybody read says."""
        known = process.setdefault(rollout, Known())
        with self.fleet.store.read() as connection:
            found, view = look(connection, rollout, self.fleet.now_ms, known.roster)
            found = replace(found, position=replace(found.position, stage=stage))
            kinds = due_of(connection, found, self.fleet.now_ms, known)
            mine = list(targets.in_turn(kinds))
            for some in kinds:
                each = [target for _, target in some.each()]
                assert len(each) == some.count > 0
                assert {targets.kind(target) for target in each} == {targets.kind(some.like)}
            every = candidates.load_targets(connection, found, self.fleet.now_ms)
        counted = [row.device for row in view.counted]
        held_back = found.plan.held_back(stage)
        return mine, targets.due(rollout, found.plan.stages[stage], counted, every, held_back)

    def check(self, process: dict[str, Known]) -> int:
        seen = 0
        for rollout in self.rollouts:
            if self.fleet.position(rollout)[0] in ENDED:
                continue
            stages = len(PLANS[0][0]) if rollout == self.rollouts[0] else 2
            mine, expected = self.look(process, rollout, self.draw.randrange(stages))
            assert mine == expected, rollout
            seen += len(mine)
        return seen


@pytest.mark.parametrize("seed", range(4))
def test_any_history_leaves_whom_reading_everybody_finds(store: Store, seed: int) -> None:
    world = World(store, seed)
    often, seldom = world.processes
    seen = 0
    for number in range(60):
        world.happen()
        if number in (30, 45):
            world.need()
        if world.draw.random() < 0.05:
            often.clear()  # the process was started again
        if world.draw.random() < 0.4:
            seen += world.check(often)
        if world.draw.random() < 0.1:
            seen += world.check(seldom)
    assert seen + world.check(often) + world.check(seldom) > 200, "hardly anybody was due: nothing is shown"


@pytest.fixture
def fleet(store: Store) -> Fleet:
    built = Fleet(lambda: store)
    built.publish("1")
    built.enrol(*(f"cam-{n}" for n in range(40)))
    return built


def due(fleet: Fleet, rollout: str, known: Known) -> list[str]:
    with fleet.store.read() as connection:
        found, _ = look(connection, rollout, fleet.now_ms, known.roster)
        found_now = due_of(connection, found, fleet.now_ms, known)
        return [target.device for target in targets.in_turn(found_now)]


def test_a_change_without_its_number_would_not_be_seen(fleet: Fleet) -> None:
    """What the number is for: a write past it leaves the device where it was."""
    rollout, known = fleet.begin("1", "100%", max_in_flight=1), Known()
    before = due(fleet, rollout, known)
    assert len(before) == 39
    gone = before[5]
    with fleet.store.write() as connection:
        connection.execute(text("UPDATE devices SET revoked_ms = 1 WHERE id = :id"), {"id": gone})
    assert due(fleet, rollout, known) == before
    with fleet.store.write() as connection:
        connection.execute(update(schema.devices).where(schema.devices.c.id == gone).values(revoked_ms=2))
    assert due(fleet, rollout, known) == [device for device in before if device != gone]


def test_a_look_reads_only_devices_that_changed(fleet: Fleet) -> None:
    rollout, known = fleet.begin("1", "100%", max_in_flight=1), Known()
    first = due(fleet, rollout, known)
    read: list[str] = []

    @event.listens_for(fleet.store._readers, "after_cursor_execute")
    def counted(_c: object, _cursor: object, statement: str, values: object, *_: object) -> None:
        if "devices.choice" in statement:
            read.append(str(values))

    assert due(fleet, rollout, known) == first and read == []
    fleet.enrol("late")
    fleet.revoke(first[0])
    assert set(due(fleet, rollout, known)) == {"late", *first[1:]}
    assert len(read) == 1 and "late" in read[0] and first[0] in read[0] and first[1] not in read[0]


def test_a_word_that_says_again_what_is_known_takes_no_number(store: Store) -> None:
    world = World(store, 0)
    numbers = []
    query = text("SELECT max(change) FROM devices")
    for draws in (1, 1, 2):  # the same word twice, then another
        world.draw = Random(draws)
        world.state("cam-1")
        with store.read() as connection:
            numbers.append(connection.execute(query).scalar_one())
    assert numbers[0] == numbers[1] < numbers[2]


def test_a_database_that_is_older_than_what_was_seen_is_read_again(fleet: Fleet) -> None:
    rollout, known = fleet.begin("1", "100%", max_in_flight=1), Known()
    before = due(fleet, rollout, known)
    with fleet.store.write() as connection:  # as of a replica that took over and lacks the last transactions
        connection.execute(text("UPDATE devices SET change = 0"))
        connection.execute(text("UPDATE devices SET revoked_ms = 1 WHERE id = :id"), {"id": before[0]})
    assert due(fleet, rollout, known) == before[1:]


def test_devices_that_come_and_go_move_the_end_of_those_that_are_left_alone(fleet: Fleet) -> None:
    rollout, known = fleet.begin("1", "device!=cam-1", "100%", control="30%", max_in_flight=1), Known()
    for number in range(30):
        if number % 3:
            fleet.enrol(f"late-{number}")
        else:
            fleet.revoke(f"cam-{number}")
        with fleet.store.read() as connection:
            found, view = look(connection, rollout, fleet.now_ms, known.roster)
            every = candidates.load_targets(connection, found, fleet.now_ms)
            counted = [row.device for row in view.counted]
            expected = targets.due(rollout, found.plan.stages[0], counted, every, 0.3)
            mine = due_of(connection, found, fleet.now_ms, known)
            assert list(targets.in_turn(mine)) == expected
    assert len(expected) == pytest.approx(0.7 * 50, abs=2)
