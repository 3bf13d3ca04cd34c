"""A fleet for tests of rollouts: a real database, the conductor, and devices that do what a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from fleet_rows import FleetRows
from sqlalchemy import event, select

from edge_fleet import schema
from edge_fleet.assignment import State
from edge_fleet.enrol import revoke
from edge_fleet.events import EventBus
from edge_fleet.rollouts import rows
from edge_fleet.rollouts.conductor import Conductor
from edge_fleet.rollouts.members import load_members
from edge_fleet.rollouts.operator import Operator
from edge_fleet.rollouts.phases import Phase
from edge_fleet.rollouts.plan import RolloutPlan, parse_plan
from edge_fleet.rollouts.reached import Reached
from edge_fleet.services import Services
from edge_fleet.store import Store, open_store

START_MS = 1_000_000_000


class Fleet(FleetRows):
    """A server's store and conductor, and devices that do what a test says. Time is a number."""

    def __init__(self, open_again: Callable[[], Store]) -> None:
        self.now_ms = START_MS
        self.sent: list[str] = []
        self.crash_when_sending = False
        self.open_again = open_again
        self.open()

    def open(self) -> None:
        super().__init__(self.open_again(), lambda: self.now_ms)
        self.services = Services(self.store, EventBus(), self, self.clock)
        self.conductor = Conductor(self.services)
        self.operator = Operator(self.services)

    def soon(self, devices: Iterable[str]) -> None:
        if self.crash_when_sending:
            raise Killed
        self.sent.extend(devices)

    def pass_time(self, seconds: float) -> None:
        self.now_ms += round(seconds * 1000)
        self.tick()

    def tick(self) -> None:
        self.conductor.attend(self.now_ms)
        assert self.conductor.failures == 0

    def position(self, rollout: str) -> tuple[Phase, int]:
        with self.store.read() as connection:
            position = rows.load(connection, rollout).position
        return position.phase, position.stage

    def why(self, rollout: str) -> str:
        with self.store.read() as connection:
            return rows.load(connection, rollout).why

    def revoke(self, device: str) -> None:
        with self.store.write() as connection:
            revoke(connection, device, "anna", self.now_ms)

    def members(self, rollout: str) -> dict[str, Reached]:
        with self.store.read() as connection:
            return {row.member.device: row for row in load_members(connection, rollout)}

    def begin(self, version: str, *stages: str, **changes: Any) -> str:
        rollout = self.operator.create(plan(version, *stages, **changes), "anna")
        self.operator.start(rollout, "anna")
        self.pass_time(1)
        return rollout

    def complete(self, version: str, *stages: str) -> str:
        """Roll a good version out to the end."""
        rollout = self.begin(version, *stages)
        for _ in stages or ("100%",):
            for device, row in self.members(rollout).items():
                if row.member.state is not State.CONFIRMED:
                    self.say(device)
                self.report(device, row.member.bundle)
            self.pass_time(1)
            self.pass_time(60)
        assert self.position(rollout)[0] is Phase.COMPLETED, self.why(rollout)
        return rollout


class Killed(BaseException):
    """The process is gone: nothing catches that."""


def file(path: Path) -> Callable[[], Store]:
    """Opens a real SQLite file, again and again."""

    def open_again() -> Store:
        store = open_store(f"sqlite:///{path}")
        # a process that dies loses nothing that it has written: only a power cut needs the slow fsync
        event.listen(store._engine, "connect", lambda raw, _: raw.execute("PRAGMA synchronous=OFF"))
        store._engine.dispose()
        return store

    return open_again


def plan(version: str, *stages: str, **changes: Any) -> RolloutPlan:
    return parse_plan(
        {
            "format": "edgefleet.rollout/1",
            "release": f"digits@{version}",
            "stages": list(stages) or ["100%"],
            "bake_s": 60,
            "silence_s": 300,
            **changes,
        }
    )


def everything(fleet: Fleet) -> list[tuple[Any, ...]]:
    """All that is stored of rollouts, without the numbers that rows get."""
    tables = (
        schema.rollouts,
        schema.rollout_members,
        schema.rollout_stages,
        schema.assignments,
    )
    found: list[tuple[Any, ...]] = []
    with fleet.store.read() as connection:
        for table in tables:
            columns = [column for column in table.c if column.name != "change"]
            found += [tuple(row) for row in connection.execute(select(*columns).order_by(*table.primary_key))]
        steps = schema.rollout_steps.c
        rows = connection.execute(select(steps.rollout, steps.event, steps.stage).order_by(steps.id))
        return found + [tuple(row) for row in rows]
