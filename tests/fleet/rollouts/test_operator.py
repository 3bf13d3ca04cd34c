"""What plans and operators ask of the conductor, on a real SQLite file: pace, windows, deadlines, orders."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fleet_rows import WRONG, digest
from rollout_fleet import START_MS, Fleet, file, plan
from sqlalchemy import select

from edge_agent.doubt.routing import is_chosen
from edge_contracts.messages import Knows
from edge_contracts.messages import Phase as Told
from edge_fleet import schema
from edge_fleet.assignment import State
from edge_fleet.errors import Conflict, NotFound
from edge_fleet.lineage import stages
from edge_fleet.rollouts.device_orders import DeviceOrder, order_device
from edge_fleet.rollouts.operator import Operator
from edge_fleet.rollouts.phases import Phase
from edge_fleet.rollouts.reached import Left
from edge_fleet.rollouts.seen import Seen
from edge_fleet.rollouts.view import shown


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    built = Fleet(file(tmp_path / "fleet.db"))
    built.enrol(*(f"cam-{i}" for i in range(6)), site="lab")
    for version in ("1", "2", "3"):
        built.publish(version)
    yield built
    built.store.close()


def later(seconds: float) -> str:
    """A time so long after the beginning."""
    return datetime.fromtimestamp(START_MS / 1000 + seconds, UTC).isoformat()


def install(fleet: Fleet, rollout: str, *devices: str) -> None:
    for device in devices or tuple(fleet.members(rollout)):
        row = fleet.members(rollout)[device]
        if row.member.state is not State.CONFIRMED and row.back is None:
            fleet.say(device)
        fleet.report(device, row.member.bundle)


def test_devices_begin_at_the_rate_of_the_plan_and_no_faster(fleet: Fleet) -> None:
    rollout = fleet.begin("1", "100%", rate=2)
    assert len(fleet.members(rollout)) == 1
    for _ in range(30):
        fleet.pass_time(1)
    assert len(fleet.members(rollout)) == 2
    assert "4 for the rate or the devices in flight" in fleet.why(rollout)
    for _ in range(32):
        fleet.pass_time(1)
    assert len(fleet.members(rollout)) == 4


def test_only_so_many_devices_are_in_flight_and_a_silent_one_frees_its_place(fleet: Fleet) -> None:
    rollout = fleet.begin("1", "100%", max_in_flight=2, silence_s=300)
    first = set(fleet.members(rollout))
    assert len(first) == 2
    answered, quiet = sorted(first)
    fleet.say(answered)
    fleet.pass_time(1)
    assert len(fleet.members(rollout)) == 3
    (third,) = fleet.members(rollout).keys() - {quiet, answered}
    fleet.pass_time(290)
    fleet.say(third, Told.DOWNLOADING)
    fleet.pass_time(20)
    assert fleet.members(rollout)[quiet].member.state is State.UNREACHABLE
    assert len(fleet.members(rollout)) == 4


def test_a_device_begins_in_its_own_night_and_not_after_it(fleet: Fleet) -> None:
    fleet.enrol("tokyo", site="far", tz="Asia/Tokyo")
    fleet.enrol("phoenix", site="far", tz="America/Phoenix")
    fleet.enrol("nowhere", site="far", tz="Mars/Base")
    # the beginning is 12 January 1970, 13:46 UTC: 22:46 in Tokyo, 06:46 in Phoenix
    rollout = fleet.begin("1", select="site=far", windows=[{"begin": "22:00", "end": "04:00"}])
    assert set(fleet.members(rollout)) == {"tokyo"}
    closes_ms = fleet.assigned("tokyo").expires_ms
    assert closes_ms == datetime(1970, 1, 12, 19, 0, tzinfo=UTC).timestamp() * 1000
    fleet.pass_time(1)
    assert "1 devices of the stage wait: 1 for its maintenance window" in fleet.why(rollout)
    with fleet.store.read() as connection:
        left_out = shown(connection, rollout, fleet.now_ms)["skipped"]
    assert [one["device"] for one in left_out] == ["nowhere"] and "no time zone" in left_out[0]["reason"]
    fleet.pass_time(16 * 3600)  # 22:46 in Phoenix
    assert set(fleet.members(rollout)) == {"tokyo", "phoenix"}


def test_an_order_that_came_after_the_window_is_given_again_in_the_next(fleet: Fleet) -> None:
    rollout = fleet.begin("1", "1", windows=[{"begin": "13:00", "end": "14:00"}], silence_s=30 * 86400)
    (device,) = fleet.members(rollout)
    before = fleet.assigned(device).number
    fleet.pass_time(3600)
    fleet.say(device, Told.REFUSED, code="expired")
    fleet.pass_time(600)
    assert fleet.assigned(device).number == before
    fleet.pass_time(22.4 * 3600)
    assert fleet.assigned(device).number == before + 1
    assert fleet.members(rollout)[device].used == {"shed": 1}


def test_a_rollout_waits_for_its_time(fleet: Fleet) -> None:
    rollout = fleet.operator.create(plan("1", start_at=later(100), select="site=lab"), "anna")
    fleet.operator.start(rollout, "anna")
    fleet.pass_time(98)
    assert fleet.position(rollout) == (Phase.SCHEDULED, -1)
    fleet.pass_time(3)
    assert fleet.position(rollout) == (Phase.RUNNING, 0)
    impatient = fleet.operator.create(plan("2", start_at=later(9999), select="site=yard"), "anna")
    fleet.enrol("yard-1", site="yard")
    fleet.operator.start(impatient, "anna")
    fleet.operator.advance(impatient, "anna")
    assert fleet.position(impatient) == (Phase.RUNNING, 0)


def test_a_release_that_was_retired_meanwhile_is_not_begun_when_its_time_comes(fleet: Fleet) -> None:
    rollout = fleet.operator.create(plan("1", start_at=later(100), select="site=lab"), "anna")
    fleet.operator.start(rollout, "anna")
    mark(fleet, stages.Event.RETIRED)
    with pytest.raises(Conflict, match=r"release digits@1 is retired"):
        fleet.operator.advance(rollout, "anna")
    fleet.pass_time(99)
    assert fleet.why(rollout) == "started by anna"
    fleet.pass_time(2)
    assert fleet.position(rollout) == (Phase.SCHEDULED, -1) and not fleet.members(rollout)
    assert fleet.why(rollout) == (
        "its time has come, and it waits: release digits@1 is retired; "
        "edge-fleet release reopen digits@1 makes it a candidate again"
    )
    mark(fleet, stages.Event.REOPENED)
    fleet.pass_time(2)
    assert fleet.position(rollout) == (Phase.RUNNING, 0)


def test_a_bundle_that_nobody_approved_is_not_begun_when_its_time_comes(fleet: Fleet) -> None:
    """Approved in the evening, given a further bundle before the night."""
    with fleet.store.write() as connection:
        stages.set_policy(connection, stages.Policy.APPROVED, "anna", fleet.now_ms)
    mark(fleet, stages.Event.APPROVED)
    asked = plan("1", start_at=later(100), deadline=later(300), select="site=lab")
    rollout = fleet.operator.create(asked, "anna")
    fleet.operator.start(rollout, "anna")
    mark(fleet, stages.Event.PUBLISHED)
    fleet.pass_time(150)
    assert fleet.position(rollout) == (Phase.SCHEDULED, -1)
    assert "it waits: release digits@1 is not approved" in fleet.why(rollout)
    fleet.pass_time(200)
    assert fleet.position(rollout) == (Phase.STOPPED, -1), "the deadline ends what waits"


def mark(fleet: Fleet, event: stages.Event) -> None:
    """Release 1 is approved, retired or whatever."""
    with fleet.store.write() as connection:
        stages.note(connection, 1, event, "berta", fleet.now_ms)


def test_a_rollout_whose_deadline_has_passed_is_not_begun(fleet: Fleet) -> None:
    """A year that was typed wrongly: it was "running", and over a second later."""
    with pytest.raises(Conflict, match=r"would reach no device: its deadline .* has passed"):
        fleet.begin("1", "2", "100%", deadline=later(-1))


def test_at_its_deadline_a_rollout_stops_and_says_how_far_it_came(fleet: Fleet) -> None:
    rollout = fleet.begin("1", "2", "100%", deadline=later(100))
    install(fleet, rollout, sorted(fleet.members(rollout))[0])
    fleet.pass_time(100)
    assert fleet.position(rollout) == (Phase.STOPPED, 0)
    assert "its deadline passed in stage 1 of 2, running: 1 of 2 devices reached have confirmed" in fleet.why(
        rollout
    )
    fleet.pass_time(1000)
    assert len(fleet.members(rollout)) == 2
    fleet.operator.recall(rollout, "anna")
    assert fleet.position(rollout)[0] is Phase.ROLLING_BACK


def test_at_its_deadline_a_rollout_goes_back_where_the_plan_says_so(fleet: Fleet) -> None:
    fleet.complete("1")
    rollout = fleet.begin("2", "2", deadline=later(10_000), on_deadline="rollback-rollout")
    fleet.pass_time(10_000)
    assert fleet.position(rollout)[0] is Phase.ROLLING_BACK
    for device in fleet.members(rollout):
        fleet.say(device)
    fleet.pass_time(1)
    assert fleet.position(rollout)[0] is Phase.ROLLED_BACK


def test_only_the_stage_goes_back_where_the_plan_says_so(fleet: Fleet) -> None:
    fleet.complete("1")
    rollout = fleet.begin("2", "1", "50%", on_failure="rollback-stage")
    (canary,) = fleet.members(rollout)
    install(fleet, rollout)
    fleet.pass_time(1)
    fleet.pass_time(60)
    stage = set(fleet.members(rollout)) - {canary}
    assert fleet.position(rollout) == (Phase.RUNNING, 1)
    assert len(stage) == 2
    for device in stage:
        fleet.say(device, Told.ROLLED_BACK, code="golden-mismatch")
    fleet.pass_time(1)
    assert fleet.position(rollout) == (Phase.RETURNING_STAGE, 1)
    for device in stage:
        assert fleet.assigned(device).bundle == digest("1")
        fleet.say(device)
    fleet.pass_time(1)
    assert fleet.position(rollout) == (Phase.STOPPED, 1)
    assert fleet.assigned(canary).bundle == digest("2")  # it passed its gates and keeps the release


def test_a_failed_gate_holds_where_the_plan_says_so_and_no_order_leads_past_it(fleet: Fleet) -> None:
    fleet.complete("1")
    rollout = fleet.begin("2", "1", "100%", on_failure="hold")
    (canary,) = fleet.members(rollout)
    fleet.say(canary, Told.REFUSED, code="golden-mismatch")
    fleet.pass_time(1)
    assert fleet.position(rollout) == (Phase.HELD, 0)
    assert fleet.assigned(canary).bundle == digest("2")
    with pytest.raises(Conflict, match="cannot be advanced"):
        fleet.operator.advance(rollout, "anna")
    fleet.operator.resume(rollout, "anna")
    fleet.pass_time(1)
    assert fleet.position(rollout) == (Phase.HELD, 0)
    assert len(fleet.members(rollout)) == 1
    fleet.operator.recall(rollout, "anna")
    assert fleet.position(rollout)[0] is Phase.ROLLING_BACK


def test_an_advance_does_not_wait_for_the_bake_but_never_passes_a_failed_gate(fleet: Fleet) -> None:
    rollout = fleet.begin("1", "1", "50%", "100%", bake_s=86_400)
    install(fleet, rollout)
    fleet.pass_time(1)
    assert fleet.position(rollout) == (Phase.BAKING, 0)
    fleet.operator.advance(rollout, "anna")
    fleet.pass_time(1)
    assert fleet.position(rollout) == (Phase.RUNNING, 1)
    fresh = [device for device, row in fleet.members(rollout).items() if row.member.stage == 1]
    for device in fresh:
        fleet.say(device, Told.REFUSED, code="golden-mismatch")
    with pytest.raises(
        Conflict, match="past a failed gate: install_success: 1 of 3 devices confirmed, 2 failed"
    ):
        fleet.operator.advance(rollout, "anna")
    assert fleet.position(rollout) == (Phase.RUNNING, 1)


def test_each_cause_of_failure_has_its_own_budget(fleet: Fleet) -> None:
    rollout = fleet.begin("1", "1", retries={"network": 2, "golden": 0, "backoff_s": 10})
    (device,) = fleet.members(rollout)
    for attempt, wait_s in enumerate((10, 20)):
        fleet.say(device, Told.REFUSED, code="server-refused")
        fleet.pass_time(1)
        assert fleet.position(rollout) == (Phase.RUNNING, 0)  # no failure yet
        assert "1 for a retry after server-refused" in fleet.why(rollout)
        fleet.pass_time(wait_s)
        assert fleet.members(rollout)[device].used == {"network": attempt + 1}
        assert fleet.members(rollout)[device].member.state is State.PENDING
    fleet.say(device, Told.REFUSED, code="golden-mismatch")
    fleet.pass_time(1)
    assert fleet.position(rollout)[0] in (Phase.ROLLING_BACK, Phase.ROLLED_BACK)


def test_a_download_that_waits_takes_nothing_from_a_budget(fleet: Fleet) -> None:
    rollout = fleet.begin("1", "1", retries={"shed": 1, "backoff_s": 0})
    (device,) = fleet.members(rollout)
    for _ in range(20):
        fleet.say(device, Told.DOWNLOADING, code="server-busy")
        fleet.pass_time(30)
    assert fleet.members(rollout)[device].used == {}
    assert fleet.position(rollout) == (Phase.RUNNING, 0)


def test_the_rollout_with_priority_goes_first_and_the_other_waits(fleet: Fleet) -> None:
    slow = fleet.begin("1", "1", "100%", priority=0)
    (canary,) = fleet.members(slow)
    urgent = fleet.operator.create(plan("2", priority=10), "ben")
    fleet.operator.start(urgent, "ben")
    fleet.pass_time(1)
    assert set(fleet.members(urgent)) == {f"cam-{i}" for i in range(6)} - {canary}
    fleet.pass_time(1)
    assert f"1 for rollout {slow}, in which they take part" in fleet.why(urgent)
    install(fleet, slow)
    fleet.pass_time(1)
    fleet.pass_time(60)
    assert set(fleet.members(slow)) == {canary}  # the rest is taken
    fleet.pass_time(1)
    assert fleet.position(slow)[0] is Phase.COMPLETED
    fleet.pass_time(1)
    assert canary in fleet.members(urgent)


@pytest.mark.parametrize("rollouts", [2, 3])
def test_rollouts_that_have_begun_on_each_others_devices_do_not_wait_for_ever(
    fleet: Fleet, rollouts: int
) -> None:
    names = [
        fleet.begin(str(n + 1), "100%", priority=n, rate=1, permit_downgrade=True) for n in range(rollouts)
    ]
    assert [len(fleet.members(name)) for name in names] == [1] * rollouts  # each holds what another wants
    for _ in range(12 * rollouts):
        if all(fleet.position(name)[0] is Phase.COMPLETED for name in names):
            break
        for name in names:
            if fleet.position(name)[0] in (Phase.RUNNING, Phase.BAKING):
                install(fleet, name)
        fleet.pass_time(61)
    assert [fleet.position(name)[0] for name in names] == [Phase.COMPLETED] * rollouts
    assert len(fleet.members(names[-1])) == 6  # the first by priority has them all, and has the last word
    with fleet.store.read() as connection:
        told = connection.execute(select(schema.rollout_steps.c.why)).scalars().all()
    assert any(
        f"left to rollout {names[-1]}, which comes first and waits for this one" in one for one in told
    )


def test_a_rollout_of_lower_priority_waits_and_does_not_end_with_nobody(fleet: Fleet) -> None:
    urgent = fleet.begin("2", "1", "100%", priority=10)
    low = fleet.begin("1", "100%")
    fleet.pass_time(100)
    assert fleet.position(low) == (Phase.RUNNING, 0)
    assert fleet.members(low) == {}
    fleet.operator.abort(urgent, "anna")
    fleet.pass_time(1)
    assert len(fleet.members(low)) == 6


def test_devices_that_join_later_take_part_as_the_plan_says(fleet: Fleet) -> None:
    never = fleet.begin("1", "100%", join="never")
    fleet.now_ms += 1000
    fleet.enrol("late", site="lab")
    fleet.pass_time(1)
    assert "late" not in fleet.members(never)
    fleet.operator.abort(never, "anna")
    always = fleet.begin("2", "100%", join="until-deadline", deadline=later(100_000))
    install(fleet, always)
    fleet.pass_time(1)
    fleet.pass_time(60)
    assert fleet.position(always) == (Phase.OPEN, 0)
    fleet.enrol("later", site="lab")
    fleet.pass_time(1)
    assert "later" in fleet.members(always)
    fleet.say("later", Told.ROLLED_BACK, code="golden-mismatch")
    fleet.pass_time(1)
    assert fleet.position(always) == (Phase.OPEN, 0)  # one of eight is within the limit
    fleet.pass_time(100_000)
    assert fleet.position(always) == (Phase.COMPLETED, 0)


@pytest.mark.parametrize("resumed", [False, True])
def test_a_deadline_takes_nothing_back_that_passed_and_was_paused_since(fleet: Fleet, resumed: bool) -> None:
    fleet.complete("1")
    rollout = fleet.begin(
        "2", "100%", join="until-deadline", deadline=later(10_000), on_deadline="rollback-rollout"
    )
    install(fleet, rollout)
    fleet.pass_time(1)
    fleet.pass_time(60)
    assert fleet.position(rollout) == (Phase.OPEN, 0)
    fleet.operator.pause(rollout, "anna")
    if resumed:
        fleet.pass_time(5_000)
        fleet.operator.resume(rollout, "anna")  # it bakes again, and is not through when its time is over
    fleet.pass_time(10_000)
    assert fleet.position(rollout) == (Phase.COMPLETED, 0)


def test_a_gate_that_failed_since_it_was_open_is_not_forgotten_at_the_deadline(fleet: Fleet) -> None:
    fleet.complete("1")
    rollout = fleet.begin(
        "2",
        "100%",
        join="until-deadline",
        deadline=later(10_000),
        on_deadline="rollback-rollout",
        on_failure="hold",
    )
    install(fleet, rollout)
    fleet.pass_time(1)
    fleet.pass_time(60)
    for device in fleet.members(rollout):
        fleet.say(device, Told.ROLLED_BACK, code="golden-mismatch")
    fleet.pass_time(1)
    assert fleet.position(rollout) == (Phase.HELD, 0)
    fleet.pass_time(10_000)
    assert fleet.position(rollout)[0] is Phase.ROLLING_BACK


def test_a_stage_by_label_reaches_the_devices_with_it(fleet: Fleet) -> None:
    fleet.enrol("brave-1", "brave-2", site="lab", ring="canary")
    rollout = fleet.begin("1", "ring=canary", "50%", "100%")
    assert set(fleet.members(rollout)) == {"brave-1", "brave-2"}
    install(fleet, rollout)
    fleet.pass_time(1)
    fleet.pass_time(60)
    assert len(fleet.members(rollout)) == 4


def test_a_stage_may_be_watched_longer_than_the_others(fleet: Fleet) -> None:
    rollout = fleet.operator.create(plan("1", stages=[{"count": 1, "bake_s": 500}, "100%"]), "anna")
    fleet.operator.start(rollout, "anna")
    fleet.pass_time(1)
    install(fleet, rollout)
    fleet.pass_time(1)
    fleet.pass_time(499)
    assert fleet.position(rollout) == (Phase.BAKING, 0)
    fleet.pass_time(1)
    assert fleet.position(rollout) == (Phase.RUNNING, 1)


def test_a_selector_may_ask_how_a_device_does(fleet: Fleet) -> None:
    fleet.complete("1")
    fleet.now_ms += 301_000
    fleet.say("cam-1")
    rollout = fleet.begin("2", "100%", select="health=ok")
    assert set(fleet.members(rollout)) == {"cam-1"}


def test_an_experiment_reaches_arm_b_only_and_a_larger_share_keeps_it(fleet: Fleet) -> None:
    fleet.enrol(*(f"dev-{i}" for i in range(14)), site="lab")
    fleet.complete("1")
    half = {"name": "taste", "share": 0.5}
    rollout = fleet.begin("2", "100%", kind="ab", experiment=half)
    arm_b = set(fleet.members(rollout))
    everybody = {f"cam-{i}" for i in range(6)} | {f"dev-{i}" for i in range(14)}
    # by the agent's own hash, which divides requests
    assert arm_b == {device for device in everybody if is_chosen("taste", device, 500)}
    assert 0 < len(arm_b) < len(everybody)
    with fleet.store.read() as connection:
        arm_a = shown(connection, rollout, fleet.now_ms)["skipped"]
    assert {one["device"] for one in arm_a} == everybody - arm_b
    assert {one["reason"] for one in arm_a} == {"arm A of experiment taste: stays as it is"}
    install(fleet, rollout)
    fleet.pass_time(1)
    fleet.pass_time(60)
    assert fleet.position(rollout)[0] is Phase.COMPLETED, fleet.why(rollout)
    larger = fleet.begin("2", "100%", kind="ab", experiment=half | {"share": 0.9})
    assert set(fleet.members(larger)).isdisjoint(arm_b)  # it runs it already


# orders to one device


def give(fleet: Fleet, rollout: str, device: str, order: DeviceOrder) -> None:
    order_device(fleet.services, rollout, device, order, "anna", "because")


def test_a_device_that_is_skipped_is_never_begun_and_another_takes_its_place(fleet: Fleet) -> None:
    rollout = fleet.begin("1", "1", "100%")
    (canary,) = fleet.members(rollout)
    give(fleet, rollout, canary, DeviceOrder.SKIP)
    assert fleet.assigned(canary).bundle is None  # told to keep what it has
    fleet.pass_time(1)
    (other,) = fleet.members(rollout).keys() - {canary}
    install(fleet, rollout, other)
    fleet.pass_time(1)
    fleet.pass_time(60)
    fleet.pass_time(1)
    assert fleet.position(rollout) == (Phase.RUNNING, 1)
    assert fleet.assigned(canary).bundle is None
    with fleet.store.read() as connection:
        found = shown(connection, rollout, fleet.now_ms)
    assert found["stages"][0]["devices"][0]["left"] == "skipped" or any(
        one["left"] == "skipped" for one in found["stages"][0]["devices"]
    )
    with pytest.raises(Conflict, match="has the release already"):
        give(fleet, rollout, other, DeviceOrder.SKIP)


def test_a_device_that_was_not_reached_yet_can_be_left_out_and_taken_in_again(fleet: Fleet) -> None:
    rollout = fleet.operator.create(plan("1"), "anna")
    give(fleet, rollout, "cam-3", DeviceOrder.SKIP)
    fleet.operator.start(rollout, "anna")
    fleet.pass_time(1)
    assert "cam-3" not in fleet.members(rollout)
    with fleet.store.read() as connection:
        (left_out,) = shown(connection, rollout, fleet.now_ms)["skipped"]
    assert left_out == {"device": "cam-3", "reason": "left out by anna: because"}
    give(fleet, rollout, "cam-3", DeviceOrder.RETRY)
    fleet.pass_time(1)
    assert "cam-3" in fleet.members(rollout)


def test_a_failed_device_is_tried_again_whatever_its_budget(fleet: Fleet) -> None:
    rollout = fleet.begin("1", "100%")
    for device in sorted(fleet.members(rollout))[1:]:
        fleet.say(device)
    failed = sorted(fleet.members(rollout))[0]
    with pytest.raises(Conflict, match="there is nothing to try again"):
        give(fleet, rollout, failed, DeviceOrder.RETRY)
    fleet.operator.pause(rollout, "anna")
    with pytest.raises(Conflict, match="is paused"):
        give(fleet, rollout, failed, DeviceOrder.RETRY)
    fleet.operator.resume(rollout, "anna")
    before = fleet.assigned(failed).number
    fleet.say(failed, Told.ROLLED_BACK, code="no-space")
    give(fleet, rollout, failed, DeviceOrder.RETRY)
    assert fleet.assigned(failed).number == before + 1
    assert fleet.members(rollout)[failed].member.state is State.PENDING


def test_one_device_goes_back_and_counts_no_more(fleet: Fleet) -> None:
    fleet.complete("1")
    rollout = fleet.begin("2", "100%")
    install(fleet, rollout)
    fleet.report("cam-0", digest("2"), scalars={"input:x:mean": WRONG})
    give(fleet, rollout, "cam-0", DeviceOrder.ROLLBACK)
    back = fleet.assigned("cam-0")
    assert (back.bundle, back.permit_downgrade) == (digest("1"), True)
    fleet.say("cam-0")
    fleet.pass_time(1)
    fleet.pass_time(60)
    assert fleet.position(rollout)[0] is Phase.COMPLETED, fleet.why(rollout)
    assert fleet.assigned("cam-0").bundle == digest("1")
    with pytest.raises(Conflict, match="cam-0 is back already"):
        give(fleet, rollout, "cam-0", DeviceOrder.ROLLBACK)


def test_a_device_that_was_sent_back_is_not_left_out_afterwards(fleet: Fleet) -> None:
    fleet.complete("1")
    rollout = fleet.begin("2", "1", "100%")
    (canary,) = fleet.members(rollout)
    fleet.say(canary, Told.TRIAL)
    give(fleet, rollout, canary, DeviceOrder.ROLLBACK)
    with pytest.raises(Conflict, match="was sent back already"):
        give(fleet, rollout, canary, DeviceOrder.SKIP)
    assert fleet.members(rollout)[canary].left is Left.SENT_BACK


def test_two_who_advance_at_once_advance_once(fleet: Fleet) -> None:
    fleet.complete("1")
    rollout = fleet.begin("2", "1", "2", "100%")
    seen = Seen(Phase.RUNNING, 0)
    Operator(fleet.services, seen).advance(rollout, "anna")
    with pytest.raises(Conflict, match="running in stage 2 of 3 by now"):
        Operator(fleet.services, seen).advance(rollout, "bert")
    assert fleet.position(rollout) == (Phase.RUNNING, 1)


def test_two_who_take_the_shadows_as_passed_do_not_pass_the_stage(fleet: Fleet) -> None:
    fleet.enrol("s1", "s2", knows=(Knows.SHADOW,), runs="1")
    options: dict[str, Any] = {"kind": "shadow-first", "shadow": {}, "select": "device=s1|s2"}
    options["gates"] = {"shadow_agreement": 0.9}
    rollout = fleet.begin("2", "1", "100%", **options)
    seen = Seen.parse("running.0.shadow")
    assert str(seen) == "running.0.shadow" and str(Seen.parse("running.0")) == "running.0"
    Operator(fleet.services, seen).advance(rollout, "anna")
    with pytest.raises(
        Conflict, match=r"in stage 1 of 2 \(part switch\) by now .* was running \(part shadow\)"
    ):
        Operator(fleet.services, seen).advance(rollout, "bert")
    assert fleet.position(rollout)[1] == 0


def test_a_way_back_that_failed_is_tried_again_and_in_the_end_is_a_persons(fleet: Fleet) -> None:
    fleet.complete("1")
    rollout = fleet.begin("2", "100%", retries={"network": 0, "backoff_s": 10})
    install(fleet, rollout)
    fleet.operator.recall(rollout, "anna")
    for device in fleet.members(rollout):
        if device != "cam-3":
            fleet.say(device)
    orders, waits_s = [], (10, 20, 40)
    for wait_s in waits_s:
        orders.append(fleet.assigned("cam-3"))
        fleet.say("cam-3", Told.REFUSED, code="server-refused")
        fleet.pass_time(wait_s - 1)
        assert fleet.assigned("cam-3").number == orders[-1].number, "it is given time"
        assert fleet.position(rollout)[0] is Phase.ROLLING_BACK, "it is waited for"
        fleet.pass_time(1)
        again = fleet.assigned("cam-3")
        assert (again.number, again.bundle, again.permit_downgrade) == (
            orders[-1].number + 1,
            digest("1"),
            True,
        )
    fleet.say("cam-3", Told.REFUSED, code="server-refused")
    fleet.pass_time(1)
    assert fleet.position(rollout)[0] is Phase.ROLLED_BACK
    assert "refused to go back: cam-3 (server-refused)" in fleet.why(rollout)
    assert fleet.members(rollout)["cam-3"].used == {"back-network": 3}


def test_a_device_that_could_not_go_back_is_told_to_once_more_when_a_person_says_so(fleet: Fleet) -> None:
    fleet.complete("1")
    rollout = fleet.begin("2", "100%")
    install(fleet, rollout)
    fleet.operator.recall(rollout, "anna")
    with pytest.raises(Conflict, match="cam-0 is on its way back"):
        give(fleet, rollout, "cam-0", DeviceOrder.ROLLBACK)
    for device in fleet.members(rollout):
        full = device in ("cam-3", "cam-4")
        fleet.say(device, Told.REFUSED if full else Told.CONFIRMED, "no-space" if full else "")
    fleet.pass_time(3600)
    assert fleet.position(rollout)[0] is Phase.ROLLED_BACK, "nothing comes of asking a full disk again"
    give(fleet, rollout, "cam-3", DeviceOrder.ROLLBACK)
    assert fleet.assigned("cam-3").bundle == digest("1")
    fleet.say("cam-3")
    fleet.operator.recall(rollout, "anna", "cam-4 has room again")
    assert fleet.position(rollout)[0] is Phase.ROLLING_BACK
    fleet.pass_time(1)
    assert fleet.position(rollout)[0] is Phase.ROLLING_BACK
    assert [row.state for row in fleet.members(rollout).values()].count(State.PENDING) == 1
    fleet.say("cam-4")
    fleet.pass_time(1)
    assert fleet.position(rollout)[0] is Phase.ROLLED_BACK and "every device is back" in fleet.why(rollout)
    with pytest.raises(Conflict, match="every device is, or its order waits for it"):
        fleet.operator.recall(rollout, "anna")


def test_a_device_that_a_person_sent_back_and_that_could_not_is_sent_again(fleet: Fleet) -> None:
    fleet.complete("1")
    rollout = fleet.begin("2", "100%")
    install(fleet, rollout)
    give(fleet, rollout, "cam-0", DeviceOrder.ROLLBACK)
    before = fleet.assigned("cam-0").number
    fleet.say("cam-0", Told.REFUSED, "no-space")
    give(fleet, rollout, "cam-0", DeviceOrder.ROLLBACK)
    assert fleet.assigned("cam-0").number == before + 1
    fleet.say("cam-0")
    assert fleet.members(rollout)["cam-0"].state is State.CONFIRMED


def test_an_order_to_a_device_needs_one(fleet: Fleet) -> None:
    rollout = fleet.begin("1", "1")
    with pytest.raises(NotFound, match="no device 'nobody'"):
        give(fleet, rollout, "nobody", DeviceOrder.SKIP)
    with pytest.raises(NotFound, match="no rollout"):
        give(fleet, "r99", "cam-0", DeviceOrder.SKIP)
    outside = next(f"cam-{i}" for i in range(6) if f"cam-{i}" not in fleet.members(rollout))
    with pytest.raises(Conflict, match="has not reached"):
        give(fleet, rollout, outside, DeviceOrder.ROLLBACK)
    fleet.operator.abort(rollout, "anna")
    with pytest.raises(Conflict, match="begins no device any more"):
        give(fleet, rollout, outside, DeviceOrder.SKIP)


# a game day


def test_a_rehearsal_takes_the_release_back_and_says_how_long_it_took(fleet: Fleet) -> None:
    fleet.complete("1")
    rollout = fleet.operator.create(
        plan("2", stages=["100%"], kind="rehearsal", select="device=cam-1|cam-2|cam-3"), "anna"
    )
    fleet.operator.start(rollout, "anna")
    fleet.pass_time(1)
    assert set(fleet.members(rollout)) == {"cam-1", "cam-2", "cam-3"}
    for device in fleet.members(rollout):
        fleet.say(device)
    fleet.pass_time(1)
    assert fleet.position(rollout) == (Phase.ROLLING_BACK, 0)
    for seconds, device in ((2, "cam-2"), (1, "cam-1")):
        fleet.pass_time(seconds)
        assert fleet.assigned(device).bundle == digest("1")
        fleet.say(device)
    fleet.pass_time(301)  # cam-3 is silent
    assert fleet.position(rollout) == (Phase.ROLLED_BACK, 0)
    with fleet.store.read() as connection:
        found = shown(connection, rollout, fleet.now_ms)["safety"]
    assert found is not None
    assert found["devices"] == {"cam-1": 3.0, "cam-2": 2.0}
    assert (found["median_s"], found["p95_s"], found["last_s"]) == (2.5, 3.0, 3.0)
    assert found["not_back"] == {"cam-3": "unreachable"}
    assert found["why"].startswith("a rehearsal, as if a gate had failed")


def test_an_order_that_cannot_be_says_which_orders_can(fleet: Fleet) -> None:
    rollout = fleet.begin("1", "100%")
    with pytest.raises(Conflict, match=r"cannot be resumed; possible: abort, advance, pause, rollback$"):
        fleet.operator.resume(rollout, "anna")
    fleet.operator.abort(rollout, "anna", "of no use")
    assert fleet.why(rollout) == "aborted by anna: of no use"
    with pytest.raises(Conflict, match=r"is aborted cannot be paused; possible: rollback$"):
        fleet.operator.pause(rollout, "anna")
