"""How the devices of a rollout stand is kept as it would be found by asking."""

from __future__ import annotations

import importlib
import random
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress

import pytest
from rollout_fleet import Fleet, Killed
from sqlalchemy import delete, event, func, select, text, update

from edge_contracts.messages import Phase as Told
from edge_contracts.messages import Progress
from edge_fleet import orders, schema
from edge_fleet.assignment import FAILED, SETTLED, State, TransitionInvalid
from edge_fleet.errors import Conflict, RequestInvalid
from edge_fleet.rollouts import counting, listing, progress, rows, view
from edge_fleet.rollouts.candidates import load_targets
from edge_fleet.rollouts.counting import Kind
from edge_fleet.rollouts.device_orders import DeviceOrder, order_device
from edge_fleet.rollouts.members import load_members
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
    own = schema.rollout_members.c
    kind = (own.rollout, own.stage, own.standing, own.state, own.previous.is_not(None))
    with fleet.store.read() as connection:
        every = connection.execute(select(*kind, func.count()).group_by(*kind))
        assert counting.counted(connection, [rollout]) == {Kind(*row[:5]): row[5] for row in every}
        counts = progress.count(connection, [rollout])[rollout]
        page = progress.page(connection, rollout, progress.Wanted(), 0, 100)
        back = progress.way_back(connection, rollout)
        safe = time_to_safe(connection, rollout, list(reached.values()))
    assert {one["device"]: one["standing"] for one in page.rows} == {
        d: word(row) for d, row in reached.items()
    }
    assert page.total == counts.reached == len(reached)
    assert counts.states() == Counter(row.member.state for row in reached.values())
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


def test_a_table_is_the_same_read_from_either_end(fleet: Fleet) -> None:
    rollout = fleet.begin("2", "5", "100%", on_failure="hold")
    for device in fleet.members(rollout):
        fleet.say(device)
        fleet.report(device, fleet.members(rollout)[device].member.bundle)
    fleet.pass_time(1)
    fleet.pass_time(60)
    with fleet.store.read() as connection:
        whole = progress.page(connection, rollout, progress.Wanted(), 0, 100)
        assert len({one["stage"] for one in whole.rows}) == 2 and whole.total == len(NAMES)
        for size in (1, 5, 7):
            parts = [
                progress.page(connection, rollout, progress.Wanted(), at, size).rows
                for at in range(0, len(NAMES), size)
            ]
            assert [one for part in parts for one in part] == whole.rows
        assert progress.page(connection, rollout, progress.Wanted(), 50, 5).rows == []


@pytest.mark.parametrize("most", (1000, 2))
def test_a_stage_that_is_past_is_told_with_the_devices_that_it_had(fleet: Fleet, most: int) -> None:
    rollout = fleet.begin("2", "5", "100%", on_failure="hold")
    order_device(fleet.services, rollout, next(iter(fleet.members(rollout))), DeviceOrder.SKIP, "anna")
    fleet.pass_time(1)  # another one takes its place
    for device, row in fleet.members(rollout).items():
        if row.left is None:
            fleet.say(device)
            fleet.report(device, row.member.bundle)

    def targets() -> list[int | None]:
        with fleet.store.read() as connection:
            found = view.shown(connection, rollout, fleet.now_ms, most)
        return [stage["target"] for stage in found["stages"]]

    assert targets() == [5, 11]
    fleet.pass_time(1)
    fleet.pass_time(60)
    assert len(fleet.members(rollout)) == len(NAMES)
    assert targets() == [5, 11]


def test_devices_are_told_a_few_at_a_time_and_each_once(fleet: Fleet) -> None:
    rollout = fleet.begin("2", "5", "100%", on_failure="hold")
    for device in fleet.members(rollout):
        fleet.say(device)
    order_device(fleet.services, rollout, next(iter(fleet.members(rollout))), DeviceOrder.ROLLBACK, "anna")
    with fleet.store.read() as connection:
        whole = view.shown(connection, rollout, fleet.now_ms, 1000)
        part = view.shown(connection, rollout, fleet.now_ms, 2)
        told: list[Mapping[str, object]] = [one for stage in part["stages"] for one in stage["devices"]]
        after = part["next"]
        while after is not None:
            further = view.devices_page(connection, rollout, progress.Wanted(), 2, after)
            assert further["total"] == 5 and 1 <= len(further["devices"]) <= 2
            told += [{k: v for k, v in one.items() if k != "stage"} for one in further["devices"]]
            after = further["next"]
        assert told == [one for stage in whole["stages"] for one in stage["devices"]]
        assert [one["target"] for one in part["stages"]] == [one["target"] for one in whole["stages"]]
        assert (part["waiting"], part["states"]) == (whole["waiting"], whole["states"])
        confirmed = progress.Wanted(standing=Standing.CONFIRMED)
        assert view.devices_page(connection, rollout, confirmed, 9, offset=3)["total"] == 4
        with pytest.raises(RequestInvalid, match="'nonsense' is no cursor; give `next`"):
            view.devices_page(connection, rollout, progress.Wanted(), 2, "nonsense")


def test_a_rollout_is_shown_and_ordered_without_reading_all_of_its_devices(fleet: Fleet) -> None:
    rollout = fleet.begin("2")
    asked: list[str] = []

    @event.listens_for(fleet.store._engine, "after_cursor_execute")
    def counted(_c: object, _cursor: object, statement: str, *_: object) -> None:
        asked.append(" ".join(statement.split()))

    def whole(statement: str) -> bool:
        """Rows of all devices, or of all that were reached."""
        rows = statement.startswith(("SELECT rollout_members.", "SELECT devices.id, devices.choice"))
        return rows and "LIMIT" not in statement and " IN (" not in statement

    with fleet.store.read() as connection:
        view.shown(connection, rollout, fleet.now_ms, 2)
    fleet.operator.pause(rollout, "anna")
    fleet.operator.resume(rollout, "anna")
    order_device(fleet.services, rollout, "cam-3", DeviceOrder.SKIP, "anna")
    fleet.operator.abort(rollout, "anna")
    with fleet.store.read() as connection:
        assert asked and not any(map(whole, asked))
        load_members(connection, rollout)
        load_targets(connection, rows.load(connection, rollout), fleet.now_ms)
        assert sum(map(whole, asked)) == 2, "this test does not see it when all of them are read"


def test_a_text_that_many_have_is_counted_so_far_and_no_further(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout = fleet.begin("2")
    fleet.say("cam-3", Told.REFUSED, "cam-is-wrong")
    monkeypatch.setattr(progress, "FOUND", 4)
    with fleet.store.read() as connection:
        many = progress.page(connection, rollout, progress.Wanted("cam"), 0, 3)
        rest = progress.page(connection, rollout, progress.Wanted("cam"), 3, 3)
        few = progress.page(connection, rollout, progress.Wanted("cam-1"), 0, 3)
    assert (many.total, many.more, len(many.rows), len(rest.rows)) == (4, True, 3, 1)
    assert [one["device"] for one in many.rows + rest.rows] == sorted(NAMES)[:4]
    assert (few.total, few.more) == (3, False)


def test_lists_of_rollouts_look_at_no_device_and_a_transaction_stores_its_counts_once(fleet: Fleet) -> None:
    asked: list[str] = []

    @event.listens_for(fleet.store._engine, "after_cursor_execute")
    def counted(_c: object, _cursor: object, statement: str, *_: object) -> None:
        asked.append(statement)

    rollout = fleet.begin("2")
    assert len(fleet.members(rollout)) == len(NAMES)
    assert sum("INSERT INTO rollout_counts" in one for one in asked) == 1
    asked.clear()
    with fleet.store.read() as connection:
        assert [one["reached"] for one in view.listed(connection)] == [len(NAMES)]
        assert listing.page(connection, listing.Wanted(), 0, 9)[1][0][1].reached == len(NAMES)
    assert asked and not any("rollout_members" in one or "assignments" in one for one in asked)


def test_a_transaction_that_is_undone_moves_nobody(fleet: Fleet) -> None:
    rollout = fleet.begin("2")
    with pytest.raises(Killed), fleet.store.write() as connection:
        orders.note_progress(connection, "cam-1", Progress(assignment=1, phase=Told.CONFIRMED), 5)
        assert progress.count(connection, [rollout])[rollout].total[Standing.CONFIRMED] == 1
        orders.note_progress(connection, "cam-2", Progress(assignment=1, phase=Told.CONFIRMED), 5)
        raise Killed
    assert see_that_it_is_kept(fleet, rollout)[Standing.CONFIRMED] == 0


def test_a_search_finds_names_and_what_was_wrong_and_no_wildcards(fleet: Fleet) -> None:
    rollout = fleet.begin("2")
    fleet.say("cam-3", Told.REFUSED, "wrong-profile")

    def found(**wanted: object) -> list[str]:
        with fleet.store.read() as connection:
            page = progress.page(connection, rollout, progress.Wanted(**wanted), 0, 100)  # type: ignore[arg-type]
        assert page.total == len(page.rows) and not page.more
        return [one["device"] for one in page.rows]

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
        query = select(own.device, own.standing, own.state).order_by(own.device)
        kept = connection.execute(query).all()
        connection.execute(
            update(schema.rollout_members).values(standing="on-its-way", standing_ms=0, state="pending")
        )
        connection.execute(delete(schema.rollout_counts))
        revisions = "edge_fleet.migrations.versions"
        first = importlib.import_module(f"{revisions}.r0022_rollouts_are_counted")
        second = importlib.import_module(f"{revisions}.r0025_kinds_of_devices_are_counted")
        for statement in (first._STANDING, second._STATE, second._COUNTS):
            connection.execute(text(statement))
        assert connection.execute(query).all() == kept
    assert see_that_it_is_kept(fleet, rollout) == before
