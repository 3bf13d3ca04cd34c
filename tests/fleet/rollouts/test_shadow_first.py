"""Rollouts of kind shadow-first on a real database: first beside what answers, then to run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet_rows import digest
from rollout_fleet import Fleet, file, plan
from sqlalchemy import select, update

from edge_contracts.envelope import unseal
from edge_contracts.errors import FormatInvalid
from edge_contracts.keys import PrivateKey
from edge_contracts.lineup import ShadowTerms
from edge_contracts.messages import Assignment, Knows
from edge_contracts.messages import Phase as Told
from edge_contracts.sketch import bin_index
from edge_contracts.topics import Channel, topic
from edge_fleet import schema
from edge_fleet.access.directors import Directors
from edge_fleet.assignment import State
from edge_fleet.dispatch import Dispatcher
from edge_fleet.errors import Conflict
from edge_fleet.events import EventBus
from edge_fleet.rollouts import rows
from edge_fleet.rollouts.device_orders import DeviceOrder, order_device
from edge_fleet.rollouts.parts import Part
from edge_fleet.rollouts.phases import Phase
from edge_fleet.rollouts.view import shown

GATES = {"install_success": 0.9, "error_rate": 0.02, "shadow_agreement": 0.9}
DEVICES = tuple(f"cam-{i}" for i in range(4))


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    built = Fleet(file(tmp_path / "fleet.db"))
    built.enrol(*DEVICES, site="lab")
    built.publish("1")
    built.publish("2")
    built.complete("1")
    know(built, *DEVICES)
    yield built
    built.store.close()


def know(fleet: Fleet, *devices: str, knows: tuple[str, ...] = (Knows.SHADOW,)) -> None:
    """The devices have said hello."""
    with fleet.store.write() as connection:
        for device in devices:
            own = schema.devices.c.id == device
            state = connection.execute(select(schema.devices.c.state).where(own)).scalar_one()
            told = {**(state or {"counter": 0}), "knows": list(knows)}
            connection.execute(update(schema.devices).where(own).values(state=told))


def begin(fleet: Fleet, *stages: str, **changes: Any) -> str:
    shadow = {"share": 0.2, "bake_s": 120, **changes.pop("shadow", {})}
    return fleet.begin(
        "2", *stages, kind="shadow-first", shadow=shadow, gates=GATES | changes.pop("gates", {})
    )


def part(fleet: Fleet, rollout: str) -> Part:
    with fleet.store.read() as connection:
        return rows.load(connection, rollout).position.part


def compare(fleet: Fleet, device: str, agreed: int = 400, latency_ms: float = 5.0) -> None:
    """A window of what answers, with the counts of the shadow."""
    shadow = {
        "bundle": digest("2"),
        "compared": 400,
        "agreed": agreed,
        "latency_ms": {"bins": {str(bin_index(latency_ms)): 400}},
    }
    fleet.report(device, digest("1"), lineup={"role": "active", "shadow": shadow})


def shadows(fleet: Fleet, rollout: str, agreed: int = 400, times: int = 1) -> list[str]:
    """The devices of the stage run the release as a shadow, and report."""
    reached = [d for d, row in fleet.members(rollout).items() if row.member.state is not State.CONFIRMED]
    for device in reached:
        if fleet.members(rollout)[device].member.state is not State.SHADOW:
            fleet.say(device, Told.SHADOW)
        for _ in range(times):
            compare(fleet, device, agreed)
    return reached


def test_devices_run_it_as_a_shadow_and_the_same_ones_are_then_switched(fleet: Fleet) -> None:
    rollout = begin(fleet, "2", "100%")
    for stage, reached in enumerate((2, 4)):
        assert (fleet.position(rollout), part(fleet, rollout)) == ((Phase.RUNNING, stage), Part.SHADOW)
        assert len(fleet.members(rollout)) == reached
        beside = shadows(fleet, rollout)
        assert all(fleet.assigned(d).terms["shadow"]["per_mille"] == 200 for d in beside)
        fleet.pass_time(1)
        assert fleet.position(rollout) == (Phase.BAKING, stage)
        fleet.pass_time(119)
        assert (fleet.position(rollout), fleet.why(rollout)) == (
            (Phase.BAKING, stage),
            "shadows are watched for 120 s",
        )
        fleet.pass_time(1)
        assert (fleet.position(rollout), part(fleet, rollout)) == ((Phase.RUNNING, stage), Part.SWITCH)
        for device in beside:
            given = fleet.assigned(device)
            assert (given.bundle, given.terms) == (digest("2"), None)
            assert fleet.members(rollout)[device].member.previous == digest("1")
            fleet.say(device)
            fleet.report(device, digest("2"))
        fleet.pass_time(1)
        assert (fleet.position(rollout), part(fleet, rollout)) == ((Phase.BAKING, stage), Part.SWITCH)
        fleet.pass_time(60)
    assert fleet.position(rollout) == (Phase.COMPLETED, 1)


def test_a_release_that_answers_otherwise_goes_back_without_having_answered_anybody(fleet: Fleet) -> None:
    rollout = begin(fleet, "100%")
    beside = shadows(fleet, rollout, agreed=0, times=6)
    fleet.pass_time(1)
    assert fleet.position(rollout)[0] is Phase.ROLLING_BACK
    assert "shadow_agreement" in fleet.why(rollout)
    with fleet.store.read() as connection:
        given = connection.execute(
            select(schema.assignments.c.terms).where(schema.assignments.c.bundle == digest("2"))
        ).scalars()
        assert all(terms is not None for terms in given), "a device was told to switch"
    for device in beside:
        assert fleet.assigned(device).bundle == digest("1")
        fleet.say(device)
    fleet.pass_time(1)
    assert fleet.position(rollout)[0] is Phase.ROLLED_BACK


def test_a_release_that_is_slow_as_a_shadow_goes_back(fleet: Fleet) -> None:
    rollout = begin(fleet, "100%", gates={"shadow_latency_p95_ms": 20})
    for device in DEVICES:
        fleet.say(device, Told.SHADOW)
        for _ in range(6):
            compare(fleet, device, latency_ms=80.0)
    fleet.pass_time(1)
    assert fleet.position(rollout)[0] is Phase.ROLLING_BACK
    assert "shadow_latency_p95_ms" in fleet.why(rollout)


def test_without_compared_answers_nothing_is_switched(fleet: Fleet) -> None:
    rollout = begin(fleet, "100%")
    for device in DEVICES:
        fleet.say(device, Told.SHADOW)
    fleet.pass_time(1)
    fleet.pass_time(10_000)
    assert (fleet.position(rollout), part(fleet, rollout)) == ((Phase.BAKING, 0), Part.SHADOW)
    assert fleet.why(rollout) == "0 of 4 devices report compared answers, 4 needed"


def test_an_abort_lets_the_shadows_go_and_a_recall_after_it_has_nothing_to_take_back(fleet: Fleet) -> None:
    rollout = begin(fleet, "100%")
    shadows(fleet, rollout)
    fleet.operator.abort(rollout, "anna")
    for device in DEVICES:
        assert (fleet.assigned(device).bundle, fleet.assigned(device).terms) == (None, None)
        fleet.say(device)
    numbers = [fleet.assigned(device).number for device in DEVICES]
    fleet.operator.recall(rollout, "anna")
    assert [fleet.assigned(device).number for device in DEVICES] == numbers


def test_a_pause_keeps_the_part_and_an_advance_leads_to_the_switch_only(fleet: Fleet) -> None:
    rollout = begin(fleet, "100%")
    fleet.operator.pause(rollout, "anna")
    fleet.operator.resume(rollout, "anna")
    assert (fleet.position(rollout), part(fleet, rollout)) == ((Phase.RUNNING, 0), Part.SHADOW)
    shadows(fleet, rollout)
    fleet.operator.advance(rollout, "anna")
    assert (fleet.position(rollout), part(fleet, rollout)) == ((Phase.RUNNING, 0), Part.SWITCH)
    fleet.tick()
    assert fleet.assigned("cam-0").terms is None


def test_devices_that_cannot_are_named_and_skipped_or_switched_with_the_others(fleet: Fleet) -> None:
    know(fleet, "cam-0", knows=())
    skips = begin(fleet, "100%")
    assert set(fleet.members(skips)) == {"cam-1", "cam-2", "cam-3"}
    with fleet.store.read() as connection:
        (left_out,) = shown(connection, skips, fleet.now_ms)["skipped"]
    assert left_out["device"] == "cam-0"
    assert "does not know shadows that are assigned" in left_out["reason"]
    fleet.operator.abort(skips, "anna")
    rollout = begin(fleet, "100%", shadow={"unable": "switch"})
    assert set(fleet.members(rollout)) == {"cam-1", "cam-2", "cam-3"}
    shadows(fleet, rollout)
    fleet.pass_time(1)
    fleet.pass_time(120)
    assert set(fleet.members(rollout)) == set(DEVICES)
    assert fleet.assigned("cam-0").terms is None


def test_a_stage_of_devices_that_cannot_is_switched_straight(fleet: Fleet) -> None:
    know(fleet, *DEVICES, knows=())
    rollout = begin(fleet, "100%", shadow={"unable": "switch"})
    assert part(fleet, rollout) is Part.SWITCH
    assert all(fleet.assigned(device).terms is None for device in DEVICES)


def test_with_nobody_who_can_a_plan_that_skips_does_not_start(fleet: Fleet) -> None:
    know(fleet, *DEVICES, knows=())
    with pytest.raises(Conflict, match="would reach no device"):
        begin(fleet, "100%")


def test_a_device_that_runs_nothing_or_something_unknown_cannot(fleet: Fleet) -> None:
    with fleet.store.write() as connection:
        for device, active in (("cam-0", None), ("cam-1", {"bundle": "sha256:" + "9" * 64})):
            state = {"counter": 0, "active": active, "knows": [Knows.SHADOW]}
            own = schema.devices.c.id == device
            connection.execute(update(schema.devices).where(own).values(state=state))
    rollout = begin(fleet, "100%")
    assert set(fleet.members(rollout)) == {"cam-2", "cam-3"}
    with fleet.store.read() as connection:
        reasons = {r["device"]: r["reason"] for r in shown(connection, rollout, fleet.now_ms)["skipped"]}
    assert "nothing answers there" in reasons["cam-0"]
    assert "was not published here" in reasons["cam-1"]


def test_a_shadow_that_failed_is_never_given_to_run(fleet: Fleet) -> None:
    rollout = begin(
        fleet, "100%", quorum=0.7, retries={"golden": 1, "backoff_s": 1}, gates={"install_success": 0.5}
    )
    fleet.say("cam-0", Told.ROLLED_BACK, "latency")
    for device in DEVICES[1:]:
        fleet.say(device, Told.SHADOW)
        compare(fleet, device)
    fleet.pass_time(1)
    fleet.pass_time(120)
    assert part(fleet, rollout) is Part.SWITCH
    assert fleet.assigned("cam-0").terms is not None
    assert fleet.members(rollout)["cam-0"].member.state is State.ROLLED_BACK


def test_one_device_can_be_taken_out_while_it_runs_a_shadow(fleet: Fleet) -> None:
    rollout = begin(fleet, "100%")
    fleet.say("cam-0", Told.SHADOW)
    order_device(fleet.services, rollout, "cam-0", DeviceOrder.SKIP, "anna")
    assert fleet.assigned("cam-0").bundle is None
    order_device(fleet.services, rollout, "cam-0", DeviceOrder.RETRY, "anna")
    assert fleet.assigned("cam-0").terms is not None


def test_a_rehearsal_can_go_by_way_of_shadows(fleet: Fleet) -> None:
    changes: dict[str, Any] = {"kind": "rehearsal", "shadow": {"bake_s": 0}}
    rollout = fleet.begin("2", "100%", **changes)
    for device in DEVICES:
        fleet.say(device, Told.SHADOW)
    fleet.pass_time(1)
    for device in DEVICES:
        assert fleet.assigned(device).terms is None
        fleet.say(device)
    fleet.pass_time(1)
    assert fleet.position(rollout)[0] is Phase.ROLLING_BACK


def test_terms_are_signed_and_sent_only_to_agents_that_know_them(fleet: Fleet) -> None:
    begin(fleet, "100%")
    know(fleet, "cam-1", knows=())  # an older agent was put on it since
    director, sent = PrivateKey.generate(), dict[str, bytes]()

    def publish(where: str, payload: bytes) -> bool:
        sent[where] = payload
        return True

    dispatcher = Dispatcher(
        fleet.store, EventBus(), Directors.only(director), "lab", publish, lambda: fleet.now_ms
    )
    dispatcher.send(["cam-0", "cam-1"])
    (where,) = sent
    assert where == topic("lab", "cam-0", Channel.ASSIGNMENT)
    message = unseal(Assignment, sent[where], where, director.public)
    assert message.shadow == ShadowTerms(per_mille=200)
    assert fleet.assigned("cam-1").phase == State.PENDING


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"gates": {"error_rate": 0.02}}, "needs the gate shadow_agreement"),
        ({"kind": "staged"}, "kind staged has no shadow"),
        ({"shadow": {"share": 0}}, "shadow.share: Input should be greater than or equal to 0.001"),
        ({"shadow": {"unable": "hope"}}, "shadow.unable"),
    ],
)
def test_a_plan_that_says_something_else_is_refused(changes: dict[str, Any], told: str) -> None:
    good: dict[str, Any] = {"kind": "shadow-first", "shadow": {}, "gates": GATES}
    assert plan("2", **good).shadow is not None
    assert plan("2", kind="shadow-first", gates=GATES).first_part is Part.SHADOW
    with pytest.raises(FormatInvalid, match=told):
        plan("2", **good | changes)
