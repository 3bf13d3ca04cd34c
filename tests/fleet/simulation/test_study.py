"""Many runs: the figures of a dry run, and that false halts are as rare as the plan says."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from edge_contracts.errors import FormatInvalid
from edge_fleet.rollouts.plan import RolloutPlan, parse_plan
from edge_fleet.simulation.defects import Kind
from edge_fleet.simulation.description import FleetDescription, parse_fleet
from edge_fleet.simulation.plot import svg
from edge_fleet.simulation.report import as_dict, lines
from edge_fleet.simulation.study import CannotReplay, simulated, study, upper_share

FLEET = {
    "format": "edgefleet.fleet/1",
    "classes": [
        {"profile": "arm-cpu", "devices": 60, "labels": {"site": "lab"}},
        {"profile": "coral-usb", "devices": 40, "labels": {"site": "yard"}},
    ],
}


def plan(**changes: Any) -> RolloutPlan:
    return parse_plan(
        {
            "format": "edgefleet.rollout/1",
            "release": "digits@2",
            "stages": ["10%", "100%"],
            "gates": {"error_rate": 0.02},
            **changes,
        }
    )


def test_a_study_tells_of_exposure_by_the_size_of_a_defect() -> None:
    found = study(plan(), parse_fleet(FLEET), sizes=(0.2, 1.0), runs=8)
    good, small, large = found.rows
    assert found.devices == 100
    assert good.completed > 0.5 and good.halted == 0
    assert good.exposed > 90
    assert large.halted > 0.5 and large.exposed_most <= 10
    assert small.exposed_most <= 10


@pytest.mark.parametrize("within", [0.0, 0.5])
@pytest.mark.parametrize("between", [0.02, 0.5])
def test_a_release_at_its_limit_is_halted_no_more_often_than_the_plan_says(
    between: float, within: float
) -> None:
    """Correlated errors: devices differ, and errors come in bursts; 60 rollouts of 40 devices each."""
    at_limit = {"errors": 0.02, "between": between, "within": within, "install_failures": 0, "silent": 0}
    fleet = parse_fleet({**FLEET, "classes": [{"profile": "arm-cpu", "devices": 40, **at_limit}]})
    found = study(plan(false_halt=0.05, stages=["100%"]), fleet, sizes=(1.0,), runs=60, workers=1)
    # 5 % of 60 are 3; 8 or more have a chance of 1 in 80 even then
    assert found.rows[0].halted * 60 < 8


def test_gates_that_cannot_be_simulated_are_named_and_keep_their_part_of_alpha() -> None:
    kept, left_out = simulated(plan(gates={"error_rate": 0.02, "drift": 0.2}, false_halt=0.01))
    assert left_out == ("drift",)
    assert kept.false_halt == pytest.approx(0.005)
    assert list(kept.gates) == ["error_rate"]


def test_a_selector_leaves_classes_out() -> None:
    assert study(plan(select="site=yard"), parse_fleet(FLEET), sizes=(1.0,), runs=1).devices == 40
    with pytest.raises(CannotReplay, match="names no class of the fleet; it has arm-cpu, coral-usb"):
        study(plan(select="site=moon"), parse_fleet(FLEET), runs=1)


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        ([{"profile": "arm-cpu"}], "devices"),
        ([{"profile": "arm-cpu", "devices": 0}], "devices"),
        ([{"profile": "arm-cpu", "devices": 5, "errors": 1.5}], "errors"),
        ([{"profile": "arm-cpu", "devices": 5, "eror": 0.5}], "eror"),
        ([], "classes"),
    ],
)
def test_a_description_with_a_fault_is_refused_by_its_name(classes: Any, told: str) -> None:
    with pytest.raises(FormatInvalid, match=told):
        parse_fleet({"format": "edgefleet.fleet/1", "classes": classes})


def test_a_selector_names_what_a_profile_builds_on_and_devices_that_are_well() -> None:
    fleet = parse_fleet({**FLEET, "classes": [{"profile": "raspberry-pi-5", "devices": 7}]})
    for select in ("profile=arm-cpu", "health=ok", "device!=cam-1"):
        assert study(plan(select=select), fleet, sizes=(1.0,), runs=1).devices == 7
    with pytest.raises(CannotReplay, match="names no class"):
        study(plan(select="device=cam-1"), fleet, runs=1)


def test_a_stage_that_names_nobody_is_told_and_holds() -> None:
    found = study(plan(stages=["device=cam-1", "100%"]), parse_fleet(FLEET), sizes=(1.0,), runs=2)
    assert found.empty == ("stage 1 (device=cam-1)",) and found.rows[0].waits == 1.0
    assert "stage 1 (device=cam-1) names no device of this fleet: it adds nobody" in lines(found)
    assert study(plan(stages=["site=lab", "100%"]), parse_fleet(FLEET), sizes=(1.0,), runs=1).empty == ()


def test_what_no_run_does_is_told() -> None:
    asked = plan(retries={"crash": 2}, priority=3, deadline="2030-01-01T00:00:00Z", join="until-deadline")
    found = study(asked, parse_fleet(FLEET), sizes=(1.0,), runs=1, now_s=1_795_780_800.0)
    assert "each run starts at 2026-11-27 12:00 UTC: windows and deadline are kept" in lines(found)
    told = "retries of what failed; devices that join; rollouts that come before or after it by priority"
    assert f"not simulated: {told}" in lines(found)
    assert study(plan(), parse_fleet(FLEET), sizes=(1.0,), runs=1).unlike == ()
    later = plan(start_at="2026-12-24T18:00:00Z", deadline="2026-12-25T18:00:00Z")
    begun = study(later, parse_fleet(FLEET), sizes=(1.0,), runs=1, now_s=1_795_780_800.0)
    assert begun.starts_s == 1_798_135_200.0


def test_an_experiment_reaches_its_arm_and_a_rehearsal_is_refused() -> None:
    arm = plan(kind="ab", experiment={"name": "t", "share": 0.1}, stages=["100%"])
    assert study(arm, parse_fleet(FLEET), sizes=(1.0,), runs=1).devices == 10
    with pytest.raises(CannotReplay, match="a rehearsal always goes back"):
        study(plan(kind="rehearsal", stages=["100%"]), parse_fleet(FLEET), runs=1)


def test_a_label_that_is_no_time_zone_is_refused_where_windows_ask_for_it() -> None:
    moon = {"profile": "arm-cpu", "devices": 7, "labels": {"tz": "Moon/Tycho"}}
    fleet = parse_fleet({**FLEET, "classes": [moon]})
    with pytest.raises(CannotReplay, match="class arm-cpu, label tz: 'Moon/Tycho' is no time zone"):
        study(plan(windows=[{"begin": "02:00", "end": "04:00"}]), fleet, runs=1)
    assert study(plan(), fleet, sizes=(1.0,), runs=1).devices == 7


def test_runs_that_a_deadline_ends_have_a_column_and_a_colour() -> None:
    asked = plan(deadline="2026-11-27T12:05:00Z")
    found = study(asked, parse_fleet(FLEET), sizes=(0.01,), runs=2, now_s=1_795_780_800.0)
    assert found.rows[0].expired == 1.0
    assert "100 % ended by the deadline" in lines(found)[1]
    assert any("expired" in line for line in lines(found))
    assert ">deadline<" in svg(found, "x")
    assert ">deadline<" not in svg(study(plan(), parse_fleet(FLEET), sizes=(1.0,), runs=1), "x")


def test_after_is_the_time_until_the_halt_and_not_that_of_runs_that_saw_nothing() -> None:
    """The defect is on some devices: some runs meet it, and are halted long before the others are through."""
    fleet = parse_fleet({**FLEET, "classes": [{"profile": "arm-cpu", "devices": 4, "silent": 0}]})
    asked = plan(stages=["1", "100%"], bake_s=7200)
    found = study(asked, fleet, sizes=(1.0,), on=0.15, runs=20, workers=1).rows[1]
    assert 0 < found.halted < 0.5 < found.completed
    assert found.ended_s is not None and found.ended_s < 2 * 7200


def test_the_upper_bound_of_a_share_is_that_of_clopper_and_pearson() -> None:
    assert upper_share(0, 100) == pytest.approx(1 - 0.05 ** (1 / 100), rel=1e-6)  # 2.95 %
    assert upper_share(1, 1) == 1.0
    assert upper_share(5, 50) == pytest.approx(0.1988, abs=2e-3)  # tabulated


def test_a_study_is_a_table_a_document_and_a_picture() -> None:
    found = study(plan(), parse_fleet(FLEET), Kind.LATENCY, (0.5, 4.0), on=0.5, runs=2)
    told = lines(found)
    assert told[1].startswith("a good release:")
    assert any(line.startswith("+400% latency on 50%") for line in told)
    assert [row["defect"]["size"] for row in as_dict(found)["rows"]] == [0.0, 0.5, 4.0]
    picture = ElementTree.fromstring(svg(found, "digits@2 <in two stages>"))
    texts = [element.text for element in picture.iter() if element.tag.endswith("text")]
    assert "digits@2 <in two stages>" in texts
    assert "+400% latency on 50%" in texts


def test_a_fleet_needs_its_format() -> None:
    assert FleetDescription(classes=parse_fleet(FLEET).classes).devices == 100
    with pytest.raises(FormatInvalid, match="format"):
        parse_fleet({"classes": FLEET["classes"]})
