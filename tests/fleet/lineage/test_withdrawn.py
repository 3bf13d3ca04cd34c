"""Withdrawing a release: what is stored, who is told what, and how it is known that devices have stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fleet_rows import digest
from rollout_fleet import Fleet, file, plan
from sqlalchemy import select, update

from edge_contracts.messages import Knows
from edge_contracts.messages import Phase as Told
from edge_contracts.withdrawal import Withdrawn
from edge_fleet import schema
from edge_fleet.assignment import State
from edge_fleet.errors import Conflict, NotFound
from edge_fleet.lineage import stages
from edge_fleet.lineage.withdrawn import standing, words
from edge_fleet.rollouts.phases import Phase
from edge_fleet.rollouts.withdrawing import Withdrawal, withdraw
from edge_fleet.standings.condition import Health
from edge_fleet.standings.judge import Baselines, judge

MODERN = (str(Knows.WITHDRAWN),)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    found = Fleet(file(tmp_path / "fleet.sqlite3"))
    found.publish("1")
    found.publish("2")
    found.enrol("cam-1", "cam-2", "cam-3")
    return found


def modern(fleet: Fleet, *names: str, withdrawn: int = 0, **changes: Any) -> None:
    """What devices say of themselves."""
    with fleet.store.write() as connection:
        for name in names:
            here = schema.devices.c.id == name
            before = connection.execute(select(schema.devices.c.state).where(here)).scalar() or {"counter": 0}
            state = {**before, "knows": list(MODERN), "withdrawn": withdrawn, **changes}
            connection.execute(update(schema.devices).where(here).values(state=state))


def off(fleet: Fleet, release: str = "digits@1", why: str = "it sees ghosts") -> Withdrawal:
    return withdraw(fleet.services, release, "ada", why)


def told(fleet: Fleet, *names: str) -> dict[str, Withdrawn]:
    with fleet.store.read() as connection:
        return words(connection, names or ("cam-1", "cam-2", "cam-3"))


def test_its_rollouts_end_its_devices_are_told_and_nothing_brings_it_any_more(fleet: Fleet) -> None:
    rollout = fleet.begin("1", "2", "100%")
    done = {name for name, row in fleet.members(rollout).items() if row.number}
    draft = fleet.operator.create(plan("1"), "anna")
    fleet.sent.clear()
    found = off(fleet)
    assert (set(found.devices), found.rollouts) == (done, (rollout,))
    assert set(fleet.sent) == done
    assert fleet.position(rollout)[0] is Phase.ABORTED
    assert fleet.why(rollout) == "its release was withdrawn by ada: it sees ghosts"
    with pytest.raises(Conflict, match=r"digits@1 is withdrawn: it sees ghosts; .*reopen"):
        fleet.operator.start(draft, "anna")
    with pytest.raises(Conflict, match="that is withdrawn cannot be withdrawn"):
        off(fleet)
    with pytest.raises(NotFound):
        off(fleet, "digits@9")
    with fleet.store.read() as connection:
        done_ = connection.execute(select(schema.audit.c.action, schema.audit.c.subject)).all()
    assert ("release withdrawn", "digits@1") in {tuple(row) for row in done_}
    assert ("rollout aborted", rollout) in {tuple(row) for row in done_}


@pytest.mark.parametrize("order", ["pause", "abort"])
def test_a_paused_rollout_ends_and_one_that_has_ended_stays_as_it_is(fleet: Fleet, order: str) -> None:
    rollout = fleet.begin("1")
    getattr(fleet.operator, order)(rollout, "anna")
    assert off(fleet).rollouts == ((rollout,) if order == "pause" else ())
    assert fleet.position(rollout)[0] is Phase.ABORTED


def test_another_release_and_its_rollout_go_on(fleet: Fleet) -> None:
    rollout = fleet.begin("2")
    assert off(fleet) == Withdrawal(1, (), ())
    assert fleet.position(rollout)[0] is Phase.RUNNING


def test_only_devices_that_know_the_word_and_have_not_stored_it_are_told(fleet: Fleet) -> None:
    assert told(fleet) == {}
    modern(fleet, "cam-1", "cam-2")
    off(fleet)
    found = told(fleet)
    assert set(found) == {"cam-1", "cam-2"}
    word = found["cam-1"]
    assert (word.bundles, word.reason) == ((digest("1"),), "digits 1: it sees ghosts")
    modern(fleet, "cam-1", withdrawn=word.n)
    assert set(told(fleet)) == {"cam-2"}


def test_a_device_of_another_class_is_told_nothing(fleet: Fleet) -> None:
    fleet.enrol("yard-1", profile=("x86-cpu",), knows=MODERN)
    off(fleet)
    assert told(fleet, "yard-1") == {}


def test_every_word_is_later_than_the_one_before_though_the_clock_stands_still(fleet: Fleet) -> None:
    modern(fleet, "cam-1")
    off(fleet)
    first = told(fleet)["cam-1"]
    off(fleet, "digits@2", "")
    second = told(fleet)["cam-1"]
    assert (second.n > first.n, second.bundles) == (True, (digest("1"), digest("2")))
    assert second.reason == "digits 2"
    modern(fleet, "cam-1", withdrawn=second.n)
    with fleet.store.write() as connection:
        stages.note(connection, 2, stages.Event.REOPENED, "ada", fleet.now_ms - 3_600_000)
    third = told(fleet)["cam-1"]
    assert (third.n > second.n, third.bundles) == (True, (digest("1"),))


def test_a_bundle_that_is_added_to_a_withdrawn_release_is_withdrawn_with_it(fleet: Fleet) -> None:
    off(fleet)
    with fleet.store.write() as connection:
        after = stages.note(connection, 1, stages.Event.PUBLISHED, "bob", fleet.now_ms)
        assert after is stages.Stage.WITHDRAWN
        connection.execute(
            update(schema.bundles).where(schema.bundles.c.counter == 2).values(counter=1, profile="x86-cpu")
        )
    fleet.enrol("yard-1", profile=("x86-cpu",), knows=MODERN)
    assert told(fleet, "yard-1")["yard-1"].bundles == (digest("2"),)


def test_it_is_known_who_has_stopped_who_answers_still_and_who_cannot_be_told(fleet: Fleet) -> None:
    fleet.complete("1")
    assert {row.state for row in fleet.members("r1").values()} == {State.CONFIRMED}
    modern(fleet, "cam-1", "cam-2")
    with fleet.store.read() as connection:
        assert standing(connection, 1) is None
    off(fleet)
    n = told(fleet)["cam-1"].n
    modern(fleet, "cam-1", withdrawn=n, active=None)
    with fleet.store.read() as connection:
        found = standing(connection, 1)
    assert found is not None
    assert (found.actor, found.why, found.devices, found.stopped) == ("ada", "it sees ghosts", 3, 1)
    assert [(one.device, one.answers) for one in found.waiting] == [("cam-2", True), ("cam-3", True)]
    assert "too old" in found.waiting[1].why


def test_a_device_that_did_as_it_was_told_is_not_failing(fleet: Fleet) -> None:
    fleet.complete("1")
    off(fleet)
    fleet.say("cam-1", Told.ROLLED_BACK, "withdrawn")
    modern(fleet, "cam-1", withdrawn=5, active=None)
    fleet.say("cam-2", Told.ROLLED_BACK, "crash")
    with fleet.store.read() as connection:
        judged = judge(connection, ["cam-1", "cam-2"], fleet.now_ms, Baselines())
    found = {row.id: one.condition for row, one in judged}
    assert found["cam-1"].health is Health.IDLE
    assert "withdrawn" in found["cam-1"].reason
    assert found["cam-2"].health is Health.FAILING


def test_after_it_another_release_reaches_the_same_devices(fleet: Fleet) -> None:
    fleet.complete("1")
    off(fleet)
    for name in ("cam-1", "cam-2", "cam-3"):
        fleet.say(name, Told.ROLLED_BACK, "withdrawn")
        modern(fleet, name, withdrawn=5, active=None)
    rollout = fleet.begin("2", select="health=empty")
    assert set(fleet.members(rollout)) == {"cam-1", "cam-2", "cam-3"}
