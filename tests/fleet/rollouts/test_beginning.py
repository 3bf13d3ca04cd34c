"""Who may be begun now, device by device, with values only."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from edge_fleet.assignment import State
from edge_fleet.evidence import Member
from edge_fleet.rollouts import targets
from edge_fleet.rollouts.beginning import PACE, WINDOW, Begin, Begun, begin
from edge_fleet.rollouts.engine import View
from edge_fleet.rollouts.order import place_of
from edge_fleet.rollouts.parts import Part
from edge_fleet.rollouts.phases import Phase, Position
from edge_fleet.rollouts.plan import RolloutPlan, parse_plan
from edge_fleet.rollouts.reached import Reached
from edge_fleet.rollouts.retries import Cause
from edge_fleet.rollouts.targets import Target

NEW = "sha256:new"
NOW_S = datetime(2030, 1, 7, 23, 0, tzinfo=UTC).timestamp()
ALL = [f"cam-{n}" for n in range(6)]
IN_ORDER = sorted(ALL, key=lambda device: place_of("r1", device))
SHADOW_FIRST: dict[str, Any] = {"kind": "shadow-first", "gates": {"shadow_agreement": 0.9}}
NIGHT = [{"begin": "22:00", "end": "04:00"}]


def plan(**changes: Any) -> RolloutPlan:
    base = {"format": "edgefleet.rollout/1", "release": "digits@2", "stages": ["100%"]}
    return parse_plan({**base, **changes})


def reached(
    device: str, state: State, code: str = "", ago_s: float = 1000.0, part: Part = Part.SWITCH, **rest: Any
) -> Reached:
    changed_ms = round((NOW_S - ago_s) * 1000)
    return Reached(
        Member(device, 0, NEW, None, state, 0.0, code), 1, changed_ms=changed_ms, part=part, **rest
    )


def target(device: str, tz: str = "", **rest: Any) -> Target:
    return Target(device, NEW, labels={"tz": tz} if tz else {}, **rest)


def begun(
    found: list[Target],
    *rows: Reached,
    phase: Phase = Phase.RUNNING,
    part: Part = Part.SWITCH,
    begun_s: tuple[float, ...] = (),
    **changes: Any,
) -> Begun:
    view = View("r1", plan(**changes), Position(phase, 0, NOW_S - 1, part), rows, begun_s)
    ordered = sorted(found, key=lambda one: place_of("r1", one.device))
    return begin(view, NOW_S, lambda: targets.grouped("r1", ordered))


def names(one: Begun) -> list[str]:
    return [each.device for each in one.begin]


def waits(one: Begun) -> Mapping[str, int]:
    return dict(one.waits)


def test_without_a_bound_all_are_begun_in_the_order_of_the_rollout() -> None:
    found = begun([target(device) for device in ALL])
    assert names(found) == IN_ORDER and waits(found) == {}
    assert found.begin[0] == Begin(IN_ORDER[0], NEW)


def test_while_a_stage_bakes_nobody_new_is_begun() -> None:
    assert begun([target("cam-0")], phase=Phase.BAKING) == Begun()


def test_devices_in_flight_leave_room_for_the_rest_only_and_the_others_wait() -> None:
    found = begun(
        [target(device) for device in ALL],
        reached("a", State.DOWNLOADING),
        reached("b", State.CONFIRMED),
        reached("c", State.REFUSED, "no-space"),
        max_in_flight=3,
    )
    assert names(found) == IN_ORDER[:2] and waits(found) == {PACE: 4}
    full = begun([target("cam-0")], *(reached(f"f{n}", State.PENDING) for n in range(4)), max_in_flight=3)
    assert names(full) == [] and waits(full) == {PACE: 1}
    just = begun([target("cam-0"), target("cam-1")], max_in_flight=2)
    assert len(names(just)) == 2 and waits(just) == {}


def test_the_rate_grows_with_those_that_have_confirmed() -> None:
    rate = {"per_minute": 60, "factor": 2, "after": 2}  # one a second, then two
    few = [target(device) for device in ALL]
    slow = begun(few, reached("a", State.CONFIRMED), reached("b", State.TRIAL), rate=rate)
    fast = begun(few, reached("a", State.CONFIRMED), reached("b", State.CONFIRMED), rate=rate)
    assert (len(names(slow)), len(names(fast))) == (1, 2)
    assert (waits(slow), waits(fast)) == ({PACE: 5}, {PACE: 4})
    assert names(begun(few, rate=rate, begun_s=(NOW_S - 0.5,))) == []


def test_the_narrower_of_rate_and_flight_counts() -> None:
    few = [target(device) for device in ALL]
    assert len(names(begun(few, rate=120, max_in_flight=1))) == 1
    assert len(names(begun(few, rate=60, max_in_flight=5))) == 1


def test_a_failed_device_is_tried_again_when_its_time_has_come_and_before_others() -> None:
    again = reached("a", State.REFUSED, "server-busy", ago_s=60.0)  # the first retry is due after 60 s
    early = reached("b", State.REFUSED, "server-busy", ago_s=59.0)
    never = reached("c", State.REFUSED, "no-space")
    found = begun([target("cam-0")], again, early, never, max_in_flight=1)
    assert found.begin == (Begin("a", NEW, Cause.SHED),)
    assert waits(found) == {"a retry after server-busy": 1, PACE: 1}


def test_what_is_ready_is_switched_at_once_whatever_the_pace() -> None:
    rows = [reached(f"r{n}", State.READY, part=Part.READY) for n in range(4)]
    found = begun([], *rows, max_in_flight=1, kind="blue-green")
    assert names(found) == ["r0", "r1", "r2", "r3"] and waits(found) == {}
    shadows = [reached(f"s{n}", State.SHADOW, part=Part.SHADOW) for n in range(4)]
    paced = begun([], *shadows, max_in_flight=1, **SHADOW_FIRST)
    assert names(paced) == ["s0"] and waits(paced) == {PACE: 3}


def test_a_shut_window_holds_devices_of_its_zone_and_an_open_one_says_when_it_closes() -> None:
    here, there = target("cam-0"), target("cam-1", "Asia/Tokyo")  # 23:00, and 08:00
    found = begun([here, there], windows=NIGHT)
    assert found.begin == (Begin("cam-0", NEW, expires_s=NOW_S + 5 * 3600),)
    assert waits(found) == {WINDOW: 1}
    rows = [
        reached("a", State.REFUSED, "server-busy"),
        reached("b", State.REFUSED, "server-busy", labels={"tz": "Asia/Tokyo"}),
    ]
    again = begun([], *rows, windows=NIGHT)
    assert again.begin == (Begin("a", NEW, Cause.SHED, NOW_S + 5 * 3600),)
    assert waits(again) == {WINDOW: 1}


def test_each_device_gets_the_closing_time_of_its_own_zone() -> None:
    found = begun([target("cam-0"), target("cam-1", "Europe/Berlin")], windows=NIGHT)
    closes = {one.device: one.expires_s for one in found.begin}
    assert closes == {"cam-0": NOW_S + 5 * 3600, "cam-1": NOW_S + 4 * 3600}


def test_those_that_wait_for_another_rollout_or_are_left_to_it_are_counted_apart() -> None:
    found = begun(
        [
            target("cam-0", wait="rollout r7, which comes first", waits_for="r7"),
            target("cam-1", wait="rollout r8, which comes first", waits_for="r8", left_to="r8"),
            target("cam-2"),
        ]
    )
    assert names(found) == ["cam-2"]
    assert waits(found) == {"rollout r7, which comes first": 1}
    assert found.left == {"r8": 1}
    assert found.told == "; 1 left to rollout r8, which comes first and waits for this one"


def test_who_cannot_take_the_first_part_gets_it_with_the_switch() -> None:
    unable = target("cam-0", unable="nothing answers there")
    first = begun([unable, target("cam-1")], part=Part.SHADOW, **SHADOW_FIRST)
    assert (names(first), first.direct, first.begin[0].part) == (["cam-1"], 1, Part.SHADOW)
    second = begun([unable], part=Part.SWITCH, **SHADOW_FIRST)
    assert (names(second), second.direct) == (["cam-0"], 0)
