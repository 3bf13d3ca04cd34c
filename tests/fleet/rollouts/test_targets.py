"""Who is due in a stage, and who is held back for comparison."""

from __future__ import annotations

from typing import Any

import pytest

from edge_contracts.errors import FormatInvalid
from edge_fleet.rollouts.plan import RolloutPlan, parse_plan
from edge_fleet.rollouts.stages import Stage
from edge_fleet.rollouts.targets import Target, due, goal, in_order

DEVICES = [f"cam-{i:02}" for i in range(20)]
TARGETS = [Target(device, "sha256:new") for device in DEVICES]
LAST = in_order("r1", DEVICES)[-2:]


def plan(stages: list[Any], **changes: Any) -> RolloutPlan:
    return parse_plan({"format": "edgefleet.rollout/1", "release": "d@1", "stages": stages, **changes})


@pytest.mark.parametrize("stage", [Stage(count=20), Stage(percent=100.0)])
def test_a_stage_leaves_the_control_group_alone(stage: Stage) -> None:
    chosen = [target.device for target in due("r1", stage, (), TARGETS, held_back=0.1)]
    assert sorted([*chosen, *LAST]) == DEVICES
    assert goal("r1", stage, (), TARGETS, held_back=0.1) == 18


def test_the_control_group_stays_the_same_while_others_are_reached() -> None:
    first = [target.device for target in due("r1", Stage(count=5), (), TARGETS, held_back=0.1)]
    then = [target.device for target in due("r1", Stage(count=20), first, TARGETS, held_back=0.1)]
    assert not {*first, *then} & {*LAST}
    assert len(first) + len(then) == 18


def test_a_stage_by_share_counts_all_devices() -> None:
    assert len(due("r1", Stage(percent=50.0), (), TARGETS, held_back=0.1)) == 10


def test_the_last_stage_reaches_the_control_group() -> None:
    made = plan(["50%", "100%"], control="10%")
    assert [made.held_back(stage) for stage in (0, 1)] == [0.1, 0.0]
    assert plan(["50%", "100%"]).held_back(0) == 0.0


@pytest.mark.parametrize("control", ["100%", "10", "0.1", "-5%"])
def test_a_control_group_is_a_share(control: str) -> None:
    with pytest.raises(FormatInvalid, match="control"):
        plan(["50%", "100%"], control=control)


def test_a_stage_that_leaves_no_control_group_is_refused() -> None:
    with pytest.raises(FormatInvalid, match="stage 95% leaves no control group of 10%"):
        plan(["95%", "100%"], control="10%")
    assert plan(["90%", "100%"], control="10%").control == "10%"
