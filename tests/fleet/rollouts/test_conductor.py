"""The conductor on a real SQLite file: whole rollouts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet_rows import FITS, WRONG, digest
from rollout_fleet import Fleet, Killed, everything, file, plan
from sqlalchemy import event, update

from edge_contracts.messages import Phase as Told
from edge_fleet import schema
from edge_fleet.assignment import State
from edge_fleet.errors import Conflict, NotFound
from edge_fleet.rollouts import rows
from edge_fleet.rollouts.phases import Phase
from edge_fleet.store import Store


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    built = Fleet(file(tmp_path / "fleet.db"))
    built.enrol(*(f"cam-{i}" for i in range(6)), site="lab")
    built.publish("1")
    built.publish("2")
    yield built
    built.store.close()


def test_a_good_release_reaches_every_device_stage_by_stage(fleet: Fleet) -> None:
    fleet.complete("1")
    rollout = fleet.begin("2", "1", "50%", "100%")
    for stage, reached in enumerate((1, 3, 6)):
        assert fleet.position(rollout) == (Phase.RUNNING, stage)
        members = fleet.members(rollout)
        assert len(members) == reached
        assert {row.member.previous for row in members.values()} == {digest("1")}
        for device, row in members.items():
            if row.member.stage == stage:
                assert fleet.assigned(device).bundle == digest("2")
                fleet.say(device)
            fleet.report(device, digest("2"))
        fleet.pass_time(1)
        assert fleet.position(rollout) == (Phase.BAKING, stage)
        fleet.pass_time(59)
        assert fleet.position(rollout) == (Phase.BAKING, stage)
        fleet.pass_time(1)
    assert fleet.position(rollout) == (Phase.COMPLETED, 2)
    assert not fleet.assigned("cam-0").permit_downgrade


def test_every_device_is_read_once_and_not_for_each_look_or_stage(fleet: Fleet) -> None:
    asked: list[str] = []

    @event.listens_for(fleet.store._engine, "after_cursor_execute")
    def counted(_c: object, _cursor: object, statement: str, *_: object) -> None:
        asked.append(" ".join(statement.split()))

    def whole() -> int:
        """How often every device was read."""
        read = [one for one in asked if one.startswith("SELECT devices.id, devices.choice, devices.labels")]
        return sum(" IN (" not in one for one in read)

    rollout = fleet.begin("2", "1", "100%")
    assert len(fleet.members(rollout)) == 1 and whole() == 1
    fleet.pass_time(1)
    fleet.pass_time(1)
    assert fleet.position(rollout) == (Phase.RUNNING, 0) and whole() == 1
    (device,) = fleet.members(rollout)
    fleet.say(device)
    fleet.report(device, digest("2"))
    fleet.pass_time(1)
    fleet.pass_time(60)
    fleet.pass_time(1)
    assert len(fleet.members(rollout)) == 6 and whole() == 1
    fleet.enrol("late")
    fleet.pass_time(1)
    assert len(fleet.members(rollout)) == 7 and whole() == 1


def test_a_rollout_ends_the_same_on_every_database(store: Store) -> None:
    fleet = Fleet(lambda: store)
    fleet.enrol("a", "b", "c")
    fleet.publish("1")
    fleet.publish("2")
    fleet.complete("1")
    rollout = fleet.begin("2", "1", "100%")
    (canary,) = fleet.members(rollout)
    fleet.say(canary)
    fleet.report(canary, digest("2"), scalars={"input:x:mean": WRONG})
    fleet.pass_time(1)
    fleet.say(canary)
    fleet.pass_time(1)
    assert fleet.position(rollout) == (Phase.ROLLED_BACK, 0)
    assert fleet.assigned(canary).bundle == digest("1")


def test_a_release_that_is_wrong_on_live_data_is_undone_in_its_first_stage(fleet: Fleet) -> None:
    fleet.complete("1")
    rollout = fleet.begin("2", "1", "100%")
    (canary,) = fleet.members(rollout)
    fleet.say(canary)
    for device in (f"cam-{i}" for i in range(6)):
        live = {"input:x:mean": WRONG} if device == canary else {"input:x:mean": FITS}
        fleet.report(device, digest("2") if device == canary else digest("1"), scalars=live)
    fleet.pass_time(1)
    assert fleet.position(rollout) == (Phase.ROLLING_BACK, 0)
    assert "drift: arm-cpu: input:x:mean is 0.72 from its baseline" in fleet.why(rollout)

    back = fleet.assigned(canary)
    assert (back.bundle, back.permit_downgrade) == (digest("1"), True)
    for device in set(f"cam-{i}" for i in range(6)) - {canary}:
        assert fleet.assigned(device).bundle == digest("1")  # never saw it
    fleet.pass_time(1)
    assert fleet.position(rollout)[0] is Phase.ROLLING_BACK
    fleet.say(canary)
    fleet.pass_time(1)
    assert fleet.position(rollout) == (Phase.ROLLED_BACK, 0)
    assert "drift" in fleet.why(rollout) and "every device is back" in fleet.why(rollout)


def test_a_later_stage_takes_the_earlier_ones_back_with_it(fleet: Fleet) -> None:
    fleet.complete("1")
    rollout = fleet.begin("2", "1", "50%", "100%")
    (canary,) = fleet.members(rollout)
    fleet.say(canary)
    fleet.report(canary, digest("2"))
    fleet.pass_time(1)
    fleet.pass_time(60)
    assert fleet.position(rollout) == (Phase.RUNNING, 1)
    for device, row in fleet.members(rollout).items():
        if row.member.stage == 1:
            fleet.say(device, Told.REFUSED, code="golden-mismatch")
    fleet.pass_time(1)
    assert fleet.position(rollout)[0] is Phase.ROLLING_BACK
    assert "golden-mismatch" in fleet.why(rollout)
    assert all(row.back is not None for row in fleet.members(rollout).values())
    assert fleet.assigned(canary).bundle == digest("1")


def test_a_failed_first_release_leaves_devices_with_nothing_assigned(fleet: Fleet) -> None:
    rollout = fleet.begin("1", "1", "100%")
    (canary,) = fleet.members(rollout)
    fleet.say(canary, Told.REFUSED, code="model-invalid")
    fleet.pass_time(1)
    # there is nothing to go back to, so nothing to wait for
    assert fleet.position(rollout)[0] is Phase.ROLLED_BACK
    assert fleet.assigned(canary).bundle is None


def test_a_silent_device_neither_passes_nor_fails_a_stage(fleet: Fleet) -> None:
    rollout = fleet.begin("1", "100%", quorum=0.5)
    quiet, *others = sorted(fleet.members(rollout))
    for device in others:
        fleet.say(device)
    fleet.pass_time(299)
    assert fleet.position(rollout) == (Phase.RUNNING, 0)
    for device in others:
        fleet.say(device)
        fleet.report(device, digest("1"))
    fleet.pass_time(2)
    assert fleet.members(rollout)[quiet].member.state is State.UNREACHABLE
    assert fleet.position(rollout) == (Phase.BAKING, 0)
    fleet.pass_time(60)
    assert fleet.position(rollout)[0] is Phase.COMPLETED
    assert fleet.assigned(quiet).bundle == digest("1")  # it gets it when it is back


def test_a_stage_without_a_quorum_waits(fleet: Fleet) -> None:
    rollout = fleet.begin("1", "100%", quorum=0.9)
    for device in sorted(fleet.members(rollout))[1:]:
        fleet.say(device)
    fleet.pass_time(10_000)
    assert fleet.position(rollout) == (Phase.RUNNING, 0)
    assert "5 of 6 devices of the stage have answered, 6 needed" in fleet.why(rollout)


def test_a_device_that_speaks_but_never_installs_does_not_hold_a_stage_for_ever(fleet: Fleet) -> None:
    rollout = fleet.begin("1", "1")
    (canary,) = fleet.members(rollout)
    for _ in range(13):
        fleet.say(canary, Told.DOWNLOADING)
        fleet.pass_time(100)
    assert fleet.members(rollout)[canary].member.state is State.UNREACHABLE


def test_pause_stops_the_next_stage_and_resume_bakes_anew(fleet: Fleet) -> None:
    rollout = fleet.begin("1", "1", "100%")
    (canary,) = fleet.members(rollout)
    fleet.operator.pause(rollout, "anna")
    fleet.say(canary)
    fleet.report(canary, digest("1"))
    fleet.pass_time(1000)
    assert fleet.position(rollout) == (Phase.PAUSED, 0)
    assert fleet.why(rollout) == "paused by anna"
    fleet.operator.resume(rollout, "anna")
    fleet.pass_time(1)
    assert fleet.position(rollout) == (Phase.BAKING, 0)
    fleet.pass_time(60)
    assert fleet.position(rollout) == (Phase.RUNNING, 1)


def test_a_gate_that_fails_while_paused_still_undoes_the_rollout(fleet: Fleet) -> None:
    rollout = fleet.begin("1", "1", "100%")
    (canary,) = fleet.members(rollout)
    fleet.operator.pause(rollout, "anna")
    fleet.say(canary, Told.ROLLED_BACK, code="crash")
    fleet.pass_time(1)
    assert fleet.position(rollout)[0] in (Phase.ROLLING_BACK, Phase.ROLLED_BACK)


def test_an_aborted_rollout_leaves_devices_as_they_are(fleet: Fleet) -> None:
    fleet.complete("1")
    rollout = fleet.begin("2", "1", "100%")
    (canary,) = fleet.members(rollout)
    fleet.operator.abort(rollout, "anna")
    fleet.pass_time(10_000)
    assert fleet.position(rollout)[0] is Phase.ABORTED
    assert fleet.assigned(canary).bundle == digest("2")


def test_a_completed_rollout_can_be_recalled(fleet: Fleet) -> None:
    fleet.complete("1")
    rollout = fleet.complete("2", "50%", "100%")
    fleet.operator.recall(rollout, "anna", "customer complains")
    for i in range(6):
        assert fleet.assigned(f"cam-{i}").bundle == digest("1")
        fleet.say(f"cam-{i}")
    fleet.pass_time(1)
    assert fleet.position(rollout)[0] is Phase.ROLLED_BACK
    assert "rolled back by anna: customer complains" in fleet.why(rollout)


def test_a_recall_leaves_devices_that_a_later_rollout_has_taken_over(fleet: Fleet) -> None:
    first = fleet.complete("1")
    fleet.complete("2")
    fleet.operator.recall(first, "anna")
    fleet.pass_time(1)
    assert fleet.position(first)[0] is Phase.ROLLED_BACK
    assert fleet.assigned("cam-0").bundle == digest("2")


def test_a_silent_device_does_not_hold_up_the_end_of_a_rollback(fleet: Fleet) -> None:
    fleet.complete("1")
    rollout = fleet.begin("2", "1")
    (canary,) = fleet.members(rollout)
    fleet.operator.recall(rollout, "anna")
    fleet.pass_time(301)
    assert fleet.position(rollout)[0] is Phase.ROLLED_BACK
    assert f"the order to go back waits for: {canary}" in fleet.why(rollout)
    assert fleet.assigned(canary).bundle == digest("1")


def test_each_device_gets_the_bundle_of_its_nearest_profile(fleet: Fleet) -> None:
    fleet.enrol("pi-4", profile=("raspberry-pi-4", "arm-cpu"))
    fleet.enrol("pi-5", profile=("raspberry-pi-5", "arm-cpu"))
    fleet.enrol("tpu", profile=("coral-usb", "coral-tpu"))
    fleet.publish("3", "arm-cpu", "raspberry-pi-4")
    rollout = fleet.begin("3")
    members = fleet.members(rollout)
    assert members["pi-4"].member.bundle == digest("3", "raspberry-pi-4")
    assert members["pi-5"].member.bundle == digest("3", "arm-cpu")
    assert "tpu" not in members


def test_a_selector_keeps_other_devices_out(fleet: Fleet) -> None:
    fleet.enrol("yard-1", site="yard")
    rollout = fleet.begin("1", "100%", select="site=yard")
    assert set(fleet.members(rollout)) == {"yard-1"}


def test_a_revoked_device_is_not_reached(fleet: Fleet) -> None:
    fleet.revoke("cam-0")
    assert "cam-0" not in fleet.members(fleet.begin("1"))


def test_a_device_that_is_revoked_on_the_way_holds_nothing_up(fleet: Fleet) -> None:
    fleet.complete("1")
    rollout = fleet.begin("2", "2", "100%", quorum=1)
    lost, kept = fleet.members(rollout)
    fleet.say(kept)
    fleet.revoke(lost)
    fleet.pass_time(1)
    # the stage is of two devices still: another one takes the place
    (other,) = fleet.members(rollout).keys() - {kept}
    assert other != lost
    fleet.say(other)
    fleet.pass_time(1)
    assert fleet.position(rollout) == (Phase.BAKING, 0)
    fleet.operator.recall(rollout, "anna")
    fleet.sent.clear()
    for device in (kept, other):
        fleet.say(device)
    fleet.pass_time(1)
    assert fleet.position(rollout)[0] is Phase.ROLLED_BACK, fleet.why(rollout)


def test_a_device_that_enrols_during_the_last_stage_joins_it(fleet: Fleet) -> None:
    rollout = fleet.begin("1", "100%")
    fleet.enrol("late", site="lab")
    fleet.pass_time(1)
    assert "late" in fleet.members(rollout)


def test_a_device_that_enrols_early_waits_for_its_stage(fleet: Fleet) -> None:
    rollout = fleet.begin("1", "1", "100%")
    fleet.enrol("late", site="lab")
    fleet.pass_time(1)
    assert len(fleet.members(rollout)) == 1


def test_a_later_rollout_of_the_same_release_reaches_only_newcomers(fleet: Fleet) -> None:
    fleet.complete("1")
    fleet.enrol("late", site="lab")
    assert set(fleet.members(fleet.begin("1"))) == {"late"}


def test_one_rollout_at_a_time_per_device(fleet: Fleet) -> None:
    first = fleet.begin("1", "1", "100%")
    second = fleet.operator.create(plan("2", select="site=lab"), "ben")
    with pytest.raises(Conflict, match=f"rollout {first} is at work on cam-0"):
        fleet.operator.start(second, "ben")
    fleet.operator.abort(first, "anna")
    fleet.operator.start(second, "ben")


def test_two_rollouts_of_different_devices_run_at_once(fleet: Fleet) -> None:
    fleet.enrol("yard-1", site="yard")
    first = fleet.begin("1", "100%", select="site=lab")
    second = fleet.begin("2", "100%", select="site=yard")
    assert set(fleet.members(first)) & set(fleet.members(second)) == set()


def test_a_rollout_that_would_reach_nobody_does_not_start(fleet: Fleet) -> None:
    nobody = fleet.operator.create(plan("1", select="site=moon"), "anna")
    with pytest.raises(Conflict, match="would reach no device: none matches 'site=moon'"):
        fleet.operator.start(nobody, "anna")
    fleet.complete("1")
    again = fleet.operator.create(plan("1"), "anna")
    with pytest.raises(Conflict, match="runs it already"):
        fleet.operator.start(again, "anna")


def test_an_order_that_the_phase_does_not_allow_is_refused(fleet: Fleet) -> None:
    rollout = fleet.operator.create(plan("1"), "anna")
    with pytest.raises(Conflict, match="a rollout that is draft cannot be paused"):
        fleet.operator.pause(rollout, "anna")
    with pytest.raises(NotFound, match="no rollout 'r99'"):
        fleet.operator.pause("r99", "anna")
    with pytest.raises(NotFound, match="no release digits@9"):
        fleet.operator.create(plan("9"), "anna")


def test_an_older_release_reaches_devices_only_with_permission(fleet: Fleet) -> None:
    with fleet.store.write() as connection:
        connection.execute(update(schema.devices).values(state={"active": None, "counter": 2}))
    refused = fleet.operator.create(plan("1"), "anna")
    with pytest.raises(Conflict, match="has confirmed release 2, which is later than 1"):
        fleet.operator.start(refused, "anna")
    fleet.begin("1", "100%", permit_downgrade=True)
    assert fleet.assigned("cam-0").permit_downgrade


def test_an_order_that_meets_a_tick_is_not_lost(fleet: Fleet) -> None:
    rollout = fleet.begin("1", "1", "100%")
    with fleet.store.read() as connection:
        stale = rows.load(connection, rollout)
    fleet.operator.pause(rollout, "anna")
    with pytest.raises(rows.RolloutChanged), fleet.store.write() as connection:
        rows.explain(connection, stale, stale.why, None)
    assert fleet.position(rollout)[0] is Phase.PAUSED


def test_a_rollout_that_cannot_be_read_does_not_hold_up_the_others(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    fleet.enrol("yard-1", site="yard")
    broken = fleet.begin("1", "1", "100%", select="site=yard")
    good = fleet.begin("1", "1", "100%", select="site=lab")
    with fleet.store.write() as connection:
        connection.execute(
            update(schema.rollouts)
            .where(schema.rollouts.c.id == broken)
            .values(plan={"format": "edgefleet.rollout/9"})
        )
    fleet.say(next(iter(fleet.members(good))))
    fleet.conductor.attend(fleet.now_ms)
    assert fleet.position(good)[0] is Phase.BAKING
    assert fleet.conductor.failures == 1
    assert "update edgefleet" in caplog.text


def test_ticking_again_changes_nothing(fleet: Fleet) -> None:
    rollout = fleet.begin("1", "1", "100%")
    fleet.say(next(iter(fleet.members(rollout))))
    fleet.pass_time(1)
    before = everything(fleet)
    for _ in range(3):
        fleet.tick()
    assert everything(fleet) == before


def test_what_was_stored_and_not_sent_is_sent_after_a_restart(fleet: Fleet) -> None:
    rollout = fleet.operator.create(plan("1", "1"), "anna")
    fleet.operator.start(rollout, "anna")
    fleet.crash_when_sending = True
    with pytest.raises(Killed):
        fleet.tick()
    fleet.store.close()
    fleet.open()
    fleet.crash_when_sending = False
    fleet.tick()
    assert fleet.sent == list(fleet.members(rollout))
