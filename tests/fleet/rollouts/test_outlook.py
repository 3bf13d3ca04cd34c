"""Counting devices by groups says what asking about each device says."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fleet_rows import digest
from rollout_fleet import Fleet, plan
from sqlalchemy import select, update

from edge_contracts.messages import Knows
from edge_contracts.messages import Phase as Told
from edge_fleet import schema
from edge_fleet.errors import Conflict
from edge_fleet.lineage.resolution import Need
from edge_fleet.lineage.rows import set_software_needs
from edge_fleet.rollouts import members, outlook, rows
from edge_fleet.rollouts.rows import Rollout
from edge_fleet.rollouts.view import shown
from edge_fleet.store import Store

PROFILES = (("arm-cpu",), ("pi4", "arm-cpu"), ("intel-npu", "x86-cpu"), ("mcu",))
SELECTORS = (
    "all",
    "profile=arm-cpu",
    "profile!=arm-cpu,site=lab",
    "site=lab|yard",
    "site!=lab",
    "health=ok|degraded",
    "health!=silent,row=1",
    "device!=cam-003|cam-004",
    "site=yard,health=failing|empty",
)
PLANS: tuple[dict[str, Any], ...] = (
    {},
    {"permit_downgrade": True},
    {"join": "never"},
    {"priority": 5},
    {"windows": [{"begin": "22:00", "end": "04:00"}]},
    {"control": "10%"},
    {"kind": "blue-green", "blue_green": {"unable": "skip"}},
    {"kind": "shadow-first", "shadow": {"unable": "skip"}, "gates": {"shadow_agreement": 0.9}},
    {"kind": "ab", "experiment": {"name": "taste", "share": 0.4}},
)


@pytest.fixture
def fleet(store: Store) -> Fleet:
    """Sixty devices of which hardly two are alike, and two rollouts at work among them."""
    made = Fleet(lambda: store)
    for version in ("1", "2", "3"):
        made.publish(version, "arm-cpu", "x86-cpu")
    draw = random.Random(7)
    for n in range(60):
        labels: Any = {"site": draw.choice(("lab", "yard", "roof")), "row": str(draw.randrange(2))}
        if draw.random() < 0.2:
            labels["tz"] = draw.choice(("Europe/Berlin", "Mars/Olympus"))
        if draw.random() < 0.1:
            del labels["site"]
        name, profile = f"cam-{n:03}", draw.choice(PROFILES)
        made.enrol(name, profile=profile, **labels)
        state: Any = draw.choice((None, {"active": None, "counter": 0}, "runs", "runs", "runs"))
        if state == "runs":
            bundle = draw.choice((digest("1", profile[-1]), digest("3", profile[-1]), "sha256:" + "0" * 64))
            active = {"bundle": bundle, "fallback": draw.choice(("", "no NPU"))}
            knows = draw.choice(([], [Knows.HOLD], [Knows.SHADOW, Knows.HOLD]))
            state = {"active": active, "counter": draw.randrange(4), "knows": knows}
        here = schema.devices.c.id == name
        seen = draw.choice((None, made.now_ms, made.now_ms - 400_000))
        with store.write() as connection:
            values = {"last_seen_ms": seen, **({"state": state} if state else {})}
            connection.execute(update(schema.devices).where(here).values(values))
    made.begin("2", "5", "100%", select="site=lab,profile=arm-cpu")
    made.begin("2", "6", "100%", select="site=yard", priority=2)
    for device in made.sent[::3]:
        made.say(device, Told.REFUSED, "wrong-profile")
    made.revoke("cam-010")
    made.revoke(made.sent[1])
    return made


def one_by_one(fleet: Fleet, rollout: Rollout, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, Any]:
    with monkeypatch.context() as patch, fleet.store.read() as connection:
        patch.setattr(outlook, "_grouped", lambda *_: None)
        seen = outlook.outlook(connection, rollout, fleet.now_ms)
        return seen, *outlook.left_out(connection, rollout, fleet.now_ms, 0, 1000)


def see_that_a_part_says_the_same(fleet: Fleet, rollout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with fleet.store.read() as connection:
        with monkeypatch.context() as patch:
            patch.setattr(outlook, "_grouped", lambda *_: None)
            whole = shown(connection, rollout, fleet.now_ms, 1000)
        part = shown(connection, rollout, fleet.now_ms, 3)
    assert [one["target"] for one in part["stages"]] == [one["target"] for one in whole["stages"]]
    assert part["waiting"] == whole["waiting"] and len(part["skipped"]) + len(part["waits"]) <= 3
    assert {one["why"]: one["devices"] for one in part["left_out"]} == Counter(
        one["reason"] for one in whole["skipped"]
    )
    assert {one["for"]: one["devices"] for one in part["waits_for"]} == Counter(
        one["for"] for one in whole["waits"]
    )


@pytest.mark.parametrize("changes", PLANS, ids=str)
def test_groups_come_to_what_each_device_comes_to(
    fleet: Fleet, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons = set()
    for selector in SELECTORS:
        stages = ("10%", "100%") if "control" in changes else ("3", "site=lab,profile=arm-cpu", "100%")
        made = plan("2", *stages, select=selector, **changes)
        rollout = fleet.operator.create(made, "anna")
        with fleet.store.write() as connection:
            members.skip(connection, rollout, "cam-020", "anna", "in the shop", fleet.now_ms)
            members.skip(connection, rollout, "cam-021", "bert", "", fleet.now_ms)
            found = rows.load(connection, rollout)
        seen, listed, devices = one_by_one(fleet, found, monkeypatch)
        reasons |= set(dict(listed.reasons))
        with fleet.store.read() as connection:
            assert outlook.outlook(connection, found, fleet.now_ms) == seen
            again, first = outlook.left_out(connection, found, fleet.now_ms, 0, 7)
            pages = list(first)
            while len(first) == 7:
                _, first = outlook.left_out(connection, found, fleet.now_ms, len(pages), 7)
                pages += first
        assert again.reasons == listed.reasons
        see_that_a_part_says_the_same(fleet, rollout, monkeypatch)
        assert {(one.device, outlook.told(one)) for one in pages} == {
            (one.device, outlook.told(one)) for one in devices
        }
        assert len(pages) == len(devices) == sum(count for _, count in listed.reasons)
        assert [outlook.told(one) for one in pages] == [outlook.told(one) for one in devices]
    assert len(reasons) >= 4, "the fleet does not differ enough to show anything"


def test_of_a_rollout_at_work_those_are_left_that_it_has_not_reached(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fleet.store.read() as connection:
        for rollout in ("r1", "r2"):
            found = rows.load(connection, rollout)
            _, listed, devices = one_by_one(fleet, found, monkeypatch)
            seen, shown = outlook.left_out(connection, found, fleet.now_ms, 0, 1000)
            assert seen.reasons == listed.reasons
            assert {one.device for one in shown} == {one.device for one in devices}
            assert not {one.device for one in shown} & set(fleet.members(rollout))


def test_a_device_that_two_rollouts_name_is_found(fleet: Fleet) -> None:
    with pytest.raises(Conflict, match="rollout r1 is at work on cam-"):
        fleet.begin("3", select="profile=arm-cpu")
    with pytest.raises(Conflict, match="would reach no device: none matches"):
        fleet.begin("3", select="site=nowhere")
    with pytest.raises(Conflict, match=r"would reach no device: cam-\d+: no bundle for mcu"):
        fleet.begin("3", select="profile=mcu", priority=9)


def test_stated_needs_are_asked_of_each_device(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    rollout = fleet.operator.create(plan("3", "100%"), "anna")
    fleet.report("cam-000", digest("1"), software={"runtime:litert": "1.0"}, runtime="litert 1.0")
    with fleet.store.write() as connection:
        set_software_needs(connection, [Need("runtime:litert", "2.0", "")], "anna", fleet.now_ms)
        found = rows.load(connection, rollout)
    seen, _, _ = one_by_one(fleet, found, monkeypatch)
    with fleet.store.read() as connection:
        assert outlook.outlook(connection, found, fleet.now_ms) == seen


def test_the_choice_follows_what_a_device_says(fleet: Fleet, tmp_path: Path) -> None:
    query = select(schema.CHOICE).where(schema.devices.c.id == "cam-000")
    with fleet.store.write() as connection:
        state = {"active": {"bundle": "b", "fallback": "x"}, "counter": 9, "knows": ["hold"]}
        connection.execute(update(schema.devices).values(state=state, profile=["a", "b"]))
        lines = connection.execute(query).scalar_one().split("\n")
        assert lines[:3] == ["9", "b", "1"]
        connection.execute(update(schema.devices).values(state=None))
        assert connection.execute(query).scalar_one().split("\n")[:4] == ["0", "", "0", "[]"]
