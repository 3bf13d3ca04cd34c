"""Rollout plans and selectors: what they read, and what they refuse on one line."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from edge_contracts.errors import FormatInvalid, FormatTooNew
from edge_fleet.gates import GATES
from edge_fleet.rollouts import selector
from edge_fleet.rollouts.plan import default_gates, parse_plan
from edge_fleet.rollouts.stages import Stage

MINIMAL: dict[str, Any] = {
    "format": "edgefleet.rollout/1",
    "release": "digits@2.0.0",
    "stages": ["1", "50%", "100%"],
}


def test_a_plan_reads_stages_as_people_write_them() -> None:
    plan = parse_plan(MINIMAL)
    assert [str(stage) for stage in plan.stages] == ["1", "50%", "100%"]
    assert (plan.model, plan.version, plan.select) == ("digits", "2.0.0", "all")


def test_a_plan_without_gates_has_those_that_the_product_promises() -> None:
    assert set(parse_plan(MINIMAL).gates) == {
        "install_success",
        "error_rate",
        "latency_p95",
        "golden_agreement",
        "drift",
    }


def test_every_default_limit_is_within_its_gate() -> None:
    for name, limit in default_gates().items():
        assert GATES[name].lowest <= limit.limit <= GATES[name].highest


def test_a_plan_survives_its_own_json() -> None:
    plan = parse_plan({**MINIMAL, "gates": {"error_rate": 0.1, "drift": {"limit": 0.2, "min_inferences": 7}}})
    assert parse_plan(plan.model_dump(mode="json")) == plan


def test_a_plan_file_is_toml() -> None:
    text = (
        'format = "edgefleet.rollout/1"\nrelease = "digits@2.0.0"\nselect = "site=lab"\n'
        'stages = [1, "100%"]\nbake_s = 30\n[gates]\nlatency_p95 = { limit = 2, min_inferences = 50 }\n'
    )
    plan = parse_plan(tomllib.loads(text), "plan.toml")
    assert (plan.bake_s, plan.gates["latency_p95"].min_inferences) == (30, 50)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stagez": []}, "unknown key 'stagez'; did you mean 'stages'"),
        ({"gates": {"eror_rate": 0.1}}, "unknown gate 'eror_rate'; did you mean 'error_rate'"),
        ({"gates": {"error_rate": 1.5}}, "gate error_rate has limit 1.5, expected 0 to 1"),
        ({"gates": {"error_rate": {"limit": 0.1, "min": 3}}}, "unknown key 'gates.error_rate.min'"),
        ({"gates": {"error_rate": "low"}}, "gates.error_rate"),
        ({"gates": {"error_rate": float("nan")}}, "gates.error_rate.limit"),
        ({"release": "digits"}, "release: .*found 'digits'"),
        ({"release": "digits@../1"}, "release"),
        ({"stages": []}, "stages"),
        ({"stages": ["0"]}, "stages.0"),
        ({"stages": ["0%"]}, "stages.0"),
        ({"stages": ["101%"]}, "stages.0"),
        ({"stages": ["\N{ARABIC-INDIC DIGIT THREE}%"]}, "stages.0"),
        ({"control": "\N{ARABIC-INDIC DIGIT THREE}%"}, "control"),
        ({"stages": ["many"]}, "stage 'many' is neither a count such as 3 nor a share such as 50%"),
        ({"stages": [True]}, "stages.0"),
        ({"stages": [{"count": 1, "percent": 5}]}, "either a count or a percent"),
        ({"stages": ["5", "2"]}, "stage 2 comes after 5"),
        ({"stages": ["50%", "1", "50%"]}, "stage 50% comes after 50%"),
        ({"select": "site"}, "selector term 'site' is not KEY=VALUE"),
        ({"quorum": 0}, "quorum"),
        ({"quorum": 1.1}, "quorum"),
        ({"bake_s": -1}, "bake_s"),
        ({"silence_s": 0}, "silence_s"),
        ({"format": "edgefleet.manifest/1"}, "expected 'edgefleet.rollout/1'"),
    ],
)
def test_a_wrong_plan_is_refused_where_it_is_wrong(change: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatInvalid, match=message) as refusal:
        parse_plan({**MINIMAL, **change})
    assert "\n" not in str(refusal.value)


def test_a_later_format_asks_for_an_update() -> None:
    with pytest.raises(FormatTooNew, match="update edgefleet"):
        parse_plan({**MINIMAL, "format": "edgefleet.rollout/2"})


@pytest.mark.parametrize(
    ("stage", "selected", "reached"),
    [
        ("1", 6, 1),
        ("10", 6, 6),
        ("50%", 6, 3),
        ("50%", 7, 4),  # rounded up
        ("1%", 6, 1),
        ("100%", 6, 6),
        ("7%", 100, 7),  # 0.07 * 100 is a little over 7 in binary
        ("100%", 0, 0),
    ],
)
def test_a_stage_reaches_a_rounded_up_share(stage: str, selected: int, reached: int) -> None:
    assert Stage.model_validate(stage).target(selected) == reached


LABELS = {"site": "lab", "line": "3"}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("all", True),
        ("site=lab", True),
        ("site=yard", False),
        ("site=yard|lab", True),
        ("site!=lab", False),
        ("site!=yard", True),
        ("floor=1", False),
        ("floor!=1", True),
        ("site=lab,line=3", True),
        ("site=lab,line=4", False),
        ("profile=raspberry-pi-4", True),
        ("profile=arm-cpu", True),  # what its own profile extends
        ("profile=intel-npu", False),
        ("profile!=arm-cpu", False),
        ("device=cam-1", True),
        ("device=cam-2|cam-3", False),
    ],
)
def test_a_selector_names_devices(text: str, matches: bool) -> None:
    chosen = selector.parse(text)
    assert chosen.matches("cam-1", ["raspberry-pi-4", "arm-cpu"], LABELS) is matches


@pytest.mark.parametrize(
    "text", ["", "site", "=lab", "site=", "site=lab,", "a=b=c", "site=lab|", "site = lab"]
)
def test_a_selector_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(selector.SelectorInvalid):
        selector.parse(text)
