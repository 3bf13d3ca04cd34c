"""A server that dies between any two lines: the rollout ends the same."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fleet_rows import FITS, WRONG, digest
from postgres_server import suite_server
from rollout_fleet import Fleet, Killed, everything, file, plan
from sqlalchemy import event

from edge_contracts.messages import Knows
from edge_contracts.messages import Phase as Told
from edge_fleet.assignment import State
from edge_fleet.errors import Conflict
from edge_fleet.lineage import stages
from edge_fleet.rollouts import targets
from edge_fleet.rollouts.device_orders import DeviceOrder, order_device
from edge_fleet.rollouts.phases import Phase
from edge_fleet.rollouts.withdrawing import withdraw

Survive = Callable[[Callable[[], None]], None]
Story = Callable[[Fleet, Survive], list[tuple[Any, ...]]]


def good_then_wrong(fleet: Fleet, survive: Survive) -> list[tuple[Any, ...]]:
    """A release that is good in its first stage and wrong in its second."""
    fleet.enrol("a", "b", "c", "d")
    fleet.publish("1")
    rollout = fleet.operator.create(plan("1", "1", "100%"), "anna")
    survive(lambda: fleet.operator.start(rollout, "anna"))
    for seconds in (1, 1, 60, 1, 1, 1, 1):
        fleet.now_ms += seconds * 1000
        survive(lambda: fleet.tick())
        for device, row in fleet.members(rollout).items():
            if fleet.assigned(device).bundle and row.member.state in (State.PENDING, State.OFFERED):
                wrong = row.member.stage == 1
                fleet.say(device)
                fleet.report(device, digest("1"), scalars={"input:x:mean": WRONG if wrong else FITS})
    assert fleet.position(rollout) == (Phase.ROLLED_BACK, 1)
    return everything(fleet)


def slow_with_retries_and_orders(fleet: Fleet, survive: Survive) -> list[tuple[Any, ...]]:
    """One device at a time; two are tried again, one is skipped, one sent back."""
    fleet.enrol("a", "b", "c", "d")
    fleet.publish("1")
    options: dict[str, Any] = {"max_in_flight": 1, "on_failure": "rollback-stage", "join": "never"}
    options["retries"] = {"network": 1, "backoff_s": 1}
    rollout = fleet.operator.create(plan("1", "1", "100%", bake_s=5, gates={}, **options), "anna")
    survive(lambda: fleet.operator.start(rollout, "anna"))
    left = max("abcd", key=lambda device: targets.in_order(rollout, "abcd").index(device))
    survive(lambda: order_device(fleet.services, rollout, left, DeviceOrder.SKIP, "anna"))
    for look in range(24):
        fleet.now_ms += 1000
        survive(lambda: fleet.tick())
        for device, row in fleet.members(rollout).items():
            if row.member.state not in (State.PENDING, State.OFFERED) or row.back is not None:
                continue
            first = row.member.stage == 1 and not row.used
            fleet.say(device, Told.REFUSED if first else Told.CONFIRMED, "server-refused" if first else "")
            if not first:
                fleet.report(device, digest("1"))
        if look == 20:
            canary = targets.in_order(rollout, set("abcd") - {left})[0]
            send_back = partial(order_device, fleet.services, rollout, canary, DeviceOrder.ROLLBACK, "anna")
            survive(send_back)
    assert fleet.position(rollout) == (Phase.COMPLETED, 1), fleet.why(rollout)
    assert [row.used for row in fleet.members(rollout).values()].count({"network": 1}) == 2
    return everything(fleet)


def a_shadow_then_wrong(fleet: Fleet, survive: Survive) -> list[tuple[Any, ...]]:
    """A stage that is a shadow first, agrees, and is wrong when it runs; one device could not be a shadow."""
    fleet.enrol("a", "b", "c", knows=(Knows.SHADOW,), runs="1")
    fleet.enrol("d", runs="1")
    fleet.publish("1")
    fleet.publish("2")
    options: dict[str, Any] = {"kind": "shadow-first", "shadow": {"unable": "switch", "bake_s": 5}}
    options["gates"] = {"install_success": 0.9, "drift": 0.2, "shadow_agreement": 0.9}
    rollout = fleet.operator.create(plan("2", "100%", **options), "anna")
    survive(lambda: fleet.operator.start(rollout, "anna"))
    for seconds in (1, 1, 5, 1, 1, 1, 1, 1):
        fleet.now_ms += seconds * 1000
        survive(lambda: fleet.tick())
        for device, row in fleet.members(rollout).items():
            given = fleet.assigned(device)
            if row.state not in (State.PENDING, State.OFFERED):
                continue
            fleet.say(device, Told.SHADOW if given.terms else Told.CONFIRMED)
            if given.terms:
                shadow = {"bundle": digest("2"), "compared": 400, "agreed": 400}
                fleet.report(device, digest("1"), lineup={"role": "active", "shadow": shadow})
            elif row.back is None:
                fleet.report(device, digest("2"), scalars={"input:x:mean": WRONG})
    assert fleet.position(rollout) == (Phase.ROLLED_BACK, 0), fleet.why(rollout)
    return everything(fleet)


def held_then_wrong(fleet: Fleet, survive: Survive) -> list[tuple[Any, ...]]:
    """A stage that is brought and switched at once; one is late, one fails its check, then it is wrong."""
    fleet.enrol("a", "b", "c", "d", "e", knows=(Knows.HOLD,), runs="1")
    fleet.publish("1")
    fleet.publish("2")
    options: dict[str, Any] = {"kind": "blue-green", "quorum": 0.6}
    options["gates"] = {"install_success": 0.5, "drift": 0.2}
    rollout = fleet.operator.create(plan("2", "100%", **options), "anna")
    survive(lambda: fleet.operator.start(rollout, "anna"))
    late, broken = sorted("abcde")[3:]
    switched = False
    for seconds in (1, 1, 1, 1, 1, 1, 1, 1):
        fleet.now_ms += seconds * 1000
        survive(lambda: fleet.tick())
        for device, row in fleet.members(rollout).items():
            given = fleet.assigned(device)
            if row.state not in (State.PENDING, State.OFFERED):
                continue
            if given.terms:
                if device == broken:
                    fleet.say(device, Told.REFUSED, "crash")
                elif device != late or switched:
                    fleet.say(device, Told.READY)
                continue
            fleet.say(device)
            switched = True
            if row.back is None and device == late:  # the last one to switch shows what is wrong
                for one in "abc" + late:
                    fleet.report(one, digest("2"), scalars={"input:x:mean": WRONG})
    assert fleet.position(rollout) == (Phase.ROLLED_BACK, 0), fleet.why(rollout)
    return everything(fleet)


def withdrawn_midway(fleet: Fleet, survive: Survive) -> list[tuple[Any, ...]]:
    """A release that is switched off while one rollout of it runs and another is paused."""
    fleet.enrol("a", "b", site="x")
    fleet.enrol("c", "d", site="y")
    fleet.publish("1")
    plans = [plan("1", "1", "100%", select=f"site={site}", gates={}) for site in "xy"]
    rollouts = [fleet.operator.create(one, "anna") for one in plans]
    for rollout in rollouts:
        survive(partial(fleet.operator.start, rollout, "anna"))
    fleet.now_ms += 1000
    survive(lambda: fleet.tick())
    survive(lambda: fleet.operator.pause(rollouts[1], "anna"))

    def off() -> None:
        withdraw(fleet.services, "digits@1", "anna", "it sees ghosts")

    survive(off)
    fleet.now_ms += 1000
    survive(lambda: fleet.tick())
    assert [fleet.position(rollout)[0] for rollout in rollouts] == [Phase.ABORTED] * 2
    with fleet.store.read() as connection:
        assert stages.stage_of(stages.history(connection, 1)) is stages.Stage.WITHDRAWN
    return everything(fleet)


# How many moments lie between two deaths; in PostgreSQL, where a story takes twice as long, four times that.
STORIES = [
    (good_then_wrong, 1, 40),
    (slow_with_retries_and_orders, 9, 60),
    (a_shadow_then_wrong, 9, 40),
    (held_then_wrong, 9, 40),
    (withdrawn_midway, 5, 20),
]


@pytest.mark.parametrize(("story", "every", "moments"), STORIES)
def test_the_story_ends_the_same_wherever_the_server_dies(
    tmp_path: Path, story: Story, every: int, moments: int
) -> None:
    expected = story(Fleet(file(tmp_path / "calm.db")), lambda act: act())
    for nth in itertools.count(1, every if suite_server() is None else 4 * every):
        fleet = Fleet(file(tmp_path / f"{nth}.db"))
        killer = Killer(fleet, nth)

        def survive(act: Callable[[], None], fleet: Fleet = fleet, killer: Killer = killer) -> None:
            killer.armed = True
            try:
                act()
            except Killed:
                killer.armed = False
                fleet.store.close()
                fleet.open()
                with contextlib.suppress(Conflict):  # the order had been stored before it died
                    act()
            killer.armed = False

        assert story(fleet, survive) == expected, f"died at statement {nth}"
        fleet.store.close()
        if killer.count < nth:
            break
    assert killer.count > moments  # there were that many to die in


class Killer:
    """Kills the server before the nth write, commit or message of one server's life."""

    def __init__(self, fleet: Fleet, nth: int) -> None:
        self.nth, self.count, self.armed = nth, 0, False
        engine = fleet.store._engine
        event.listen(engine, "before_cursor_execute", self.statement)
        event.listen(engine, "commit", lambda *_: self.point())
        fleet.soon = self.soon  # type: ignore[method-assign]

    def statement(self, _connection: object, _cursor: object, sql: str, *_: object) -> None:
        if not sql.startswith(("SELECT", "BEGIN")):  # dying between two reads is dying before a write
            self.point()

    def soon(self, devices: Iterable[str]) -> None:
        list(devices)
        self.point()

    def point(self) -> None:
        if not self.armed:
            return
        self.count += 1
        if self.count == self.nth:
            raise Killed
