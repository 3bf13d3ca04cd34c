"""How the devices of a rollout stand is kept as it would be found by asking."""

from __future__ import annotations

import importlib
import random
from collections import Counter
from contextlib import suppress

import pytest
from rollout_fleet import Fleet
from sqlalchemy import select, text, update

from edge_contracts.messages import Phase as Told
from edge_fleet import schema
from edge_fleet.assignment import FAILED, SETTLED, State, TransitionInvalid
from edge_fleet.errors import Conflict
from edge_fleet.rollouts import progress
from edge_fleet.rollouts.device_orders import DeviceOrder, order_device
from edge_fleet.rollouts.reached import Reached
from edge_fleet.rollouts.safety import time_to_safe
from edge_fleet.rollouts.standing import Standing
from edge_fleet.store import Store

NAMES = [f"cam-{n}" for n in range(12)]


@pytest.fixture
def fleet(store: Store) -> Fleet:
    made = Fleet(lambda: store)
    made.publish("1")
    made.publish("2")
    made.enrol(*NAMES, runs="1")
    return made


def word(row: Reached) -> Standing:
    """By the assignments, in the order in which a person asks."""
    if row.left is not None:
        return Standing.LEFT_OUT
    if row.back is not None:
        if row.back_state is State.CONFIRMED:
            return Standing.BACK
        return Standing.NOT_BACK if row.back_state in SETTLED else Standing.GOING_BACK
    if row.member.state in FAILED:
        return Standing.FAILED
    told = {State.UNREACHABLE: Standing.SILENT, State.CONFIRMED: Standing.CONFIRMED}
    return told.get(row.member.state, Standing.ON_ITS_WAY)


def see_that_it_is_kept(fleet: Fleet, rollout: str) -> Counter[Standing]:
    reached = fleet.members(rollout)
    with fleet.store.read() as connection:
        counts = progress.count(connection, [rollout])[rollout]
        total, page = progress.page(connection, rollout, progress.Wanted(), 0, 100)
        back = progress.way_back(connection, rollout)
        safe = time_to_safe(connection, rollout, list(reached.values()))
    assert {one["device"]: one["standing"] for one in page} == {d: word(row) for d, row in reached.items()}
    assert total == counts.reached == len(reached)
    assert counts.total == Counter(word(row) for row in reached.values())
    assert (back is None) == (safe is None)
    if back is not None and safe is not None:
        assert (back.began_ms, back.why, back.back) == (safe.began_ms, safe.why, len(safe.seconds))
        assert (back.median_s, back.p95_s, back.last_s) == pytest.approx(
            (safe.median_s, safe.p95_s, safe.last_s)
        )
        assert back.not_back == len(safe.states)
        assert dict(back.few).items() <= {d: str(s) for d, s in safe.states.items()}.items()
    return counts.total


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_the_words_are_those_of_the_assignments(fleet: Fleet, seed: int) -> None:
    draw = random.Random(seed)
    rollout = fleet.begin("2", "6", "100%", on_failure="hold")
    seen = see_that_it_is_kept(fleet, rollout)
    for _ in range(40):
        device = draw.choice(NAMES)
        deed = draw.randrange(8)
        if deed < 4 and device in fleet.members(rollout) and fleet.assigned(device) is not None:
            word_of_it = draw.choice((Told.DOWNLOADING, Told.CONFIRMED, Told.CONFIRMED, Told.REFUSED))
            with suppress(TransitionInvalid):  # it would take back what it said
                fleet.say(device, word_of_it)
        elif deed == 4:
            fleet.pass_time(draw.choice((1, 400)))
        elif deed == 5 and draw.random() < 0.3:
            fleet.revoke(device)
        elif deed == 6:
            order = draw.choice(list(DeviceOrder))
            try:
                order_device(fleet.services, rollout, device, order, "anna")
            except Conflict:
                continue  # it makes no sense for this device now
        elif deed == 7 and draw.random() < 0.15:
            try:
                fleet.operator.recall(rollout, "anna", "enough")
            except Conflict:
                continue
        seen |= see_that_it_is_kept(fleet, rollout)
    assert len(seen) >= 4, seen


def test_a_search_finds_names_and_what_was_wrong_and_no_wildcards(fleet: Fleet) -> None:
    rollout = fleet.begin("2")
    fleet.say("cam-3", Told.REFUSED, "wrong-profile")

    def found(**wanted: object) -> list[str]:
        with fleet.store.read() as connection:
            total, page = progress.page(connection, rollout, progress.Wanted(**wanted), 0, 100)  # type: ignore[arg-type]
        assert total == len(page)
        return [one["device"] for one in page]

    assert found(text="CAM-1") == ["cam-1", "cam-10", "cam-11"]
    assert found(text="wrong-p") == found(standing=Standing.FAILED) == ["cam-3"]
    assert found(text="%") == found(text="_am") == found(stage=4) == []
    order_device(fleet.services, rollout, "cam-3", DeviceOrder.RETRY, "anna")
    assert found(text="wrong-p") == []  # that was another attempt


def test_a_database_of_before_is_filled_with_what_its_assignments_say(fleet: Fleet) -> None:
    rollout = fleet.begin("2", "8", "100%", on_failure="hold")
    reached = list(fleet.members(rollout))
    for device, told in zip(reached, (Told.CONFIRMED, Told.REFUSED, Told.CONFIRMED), strict=False):
        fleet.say(device, told)
    fleet.revoke(reached[4])
    order_device(fleet.services, rollout, reached[5], DeviceOrder.SKIP, "anna")
    order_device(fleet.services, rollout, reached[0], DeviceOrder.ROLLBACK, "anna")
    fleet.operator.recall(rollout, "anna", "enough")
    fleet.say(reached[2], Told.CONFIRMED)
    before = see_that_it_is_kept(fleet, rollout)
    own = schema.rollout_members.c
    with fleet.store.write() as connection:
        query = select(own.device, own.standing).order_by(own.device)
        kept = connection.execute(query).all()
        connection.execute(update(schema.rollout_members).values(standing="on-its-way", standing_ms=0))
        revision = importlib.import_module("edge_fleet.migrations.versions.r0022_rollouts_are_counted")
        connection.execute(text(revision._STANDING))
        assert connection.execute(query).all() == kept
    assert see_that_it_is_kept(fleet, rollout) == before
