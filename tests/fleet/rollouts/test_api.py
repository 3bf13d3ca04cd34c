"""Rollouts over HTTP and on the command line, on a server at work."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from fleet_device import eventually
from fleet_rows import WRONG, FleetRows, digest
from fleet_server import Running

from edge_fleet.rollouts.cli import rollout as command
from edge_fleet.rollouts.seen import Seen

PLAN = {
    "format": "edgefleet.rollout/1",
    "release": "digits@1",
    "stages": ["1", "100%"],
    "bake_s": 0,
}


@pytest.fixture(scope="module")
def rows(fleet: Running) -> FleetRows:
    built = FleetRows(fleet.server.store, fleet.server.now_ms)
    for version in ("1", "2"):
        built.publish(version)
    return built


@pytest.fixture
def devices(rows: FleetRows, request: pytest.FixtureRequest) -> list[str]:
    """Three devices of this test's own; `site` is the test's name."""
    site = str(request.node.name)[:60]
    names = [f"{site[5:40]}-{i}" for i in range(3)]
    rows.enrol(*names, site=site)
    return names


@pytest.fixture
def select(devices: list[str], request: pytest.FixtureRequest) -> str:
    return f"site={str(request.node.name)[:60]}"


@pytest.fixture
def operator(fleet: Running) -> Iterator[httpx.Client]:
    with fleet.as_role("operator") as found:
        yield found


def created(who: httpx.Client, select: str, start: bool = True, **changes: Any) -> dict[str, Any]:
    answer = who.post(
        "/api/v1/rollouts", json={"plan": {**PLAN, "select": select, **changes}, "start": start}
    )
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def shown(who: httpx.Client, rollout: str) -> dict[str, Any]:
    found: dict[str, Any] = who.get(f"/api/v1/rollouts/{rollout}").json()
    return found


def reached(who: httpx.Client, rollout: str) -> list[str]:
    return [one["device"] for stage in shown(who, rollout)["stages"] for one in stage["devices"]]


def test_a_rollout_is_a_draft_until_it_is_started(operator: httpx.Client, select: str) -> None:
    draft = created(operator, select, start=False)
    assert (draft["phase"], draft["stage"], draft["waiting"]) == ("draft", -1, 3)
    assert [stage["target"] for stage in draft["stages"]] == [1, 3]
    started = operator.post(f"/api/v1/rollouts/{draft['id']}/start").json()
    assert started["phase"] == "running"
    assert draft["id"] in [row["id"] for row in operator.get("/api/v1/rollouts").json()]


def test_a_rollout_that_could_not_be_started_is_named_with_the_reason(operator: httpx.Client) -> None:
    plan = {**PLAN, "select": "site=nowhere"}
    answer = operator.post("/api/v1/rollouts", json={"plan": plan, "start": True})
    assert answer.status_code == 409
    newest = operator.get("/api/v1/rollouts").json()[0]
    assert newest["phase"] == "draft"
    assert answer.json()["message"].startswith(f"{newest['id']} was made, but not started: ")


def test_the_conductor_of_a_server_at_work_carries_it_to_the_end(
    operator: httpx.Client, rows: FleetRows, select: str
) -> None:
    rollout = created(operator, select)["id"]
    for count in (1, 3):
        eventually(lambda: len(reached(operator, rollout)) >= count, f"{count} reached")  # noqa: B023
        for device in reached(operator, rollout):
            if rows.assigned(device).phase != "confirmed":
                rows.say(device)
                rows.report(device, digest("1"))
    last = eventually(lambda: (r := shown(operator, rollout))["phase"] == "completed" and r, "completed")
    assert {verdict["outcome"] for stage in last["stages"] for verdict in stage["verdicts"]} == {"pass"}
    assert [step["event"] for step in last["history"]] == [
        "started",
        "settled",
        "advanced",
        "settled",
        "finished",
    ]


def test_a_failing_gate_is_shown_with_its_reason(
    operator: httpx.Client, rows: FleetRows, select: str
) -> None:
    rollout = created(operator, select)["id"]
    (canary,) = eventually(lambda: reached(operator, rollout), "reached")
    rows.say(canary)
    rows.report(canary, digest("1"), scalars={"input:x:mean": WRONG})
    last = eventually(lambda: (r := shown(operator, rollout))["phase"] == "rolled-back" and r, "back")
    assert "input:x:mean is 0.72 from its baseline" in last["why"]
    assert [v["gate"] for v in last["stages"][0]["verdicts"] if v["outcome"] == "fail"] == ["drift"]
    assert last["stages"][1]["devices"] == []


def test_devices_without_a_fitting_bundle_are_shown_with_the_reason(
    operator: httpx.Client, rows: FleetRows, select: str
) -> None:
    rows.enrol("odd-one", profile=("intel-npu",), site=select.removeprefix("site="))
    draft = created(operator, select, start=False)
    assert draft["skipped"] == [
        {"device": "odd-one", "reason": "no bundle for intel-npu; the release has arm-cpu"}
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gates": {"drfit": 0.2}}, "unknown gate 'drfit'; did you mean 'drift'?"),
        ({"stages": ["0"]}, "stages"),
        ({"bake": 3}, "unknown key 'bake'; did you mean 'bake_s'?"),
        ({"format": "edgefleet.rollout/9"}, "update edgefleet"),
    ],
)
def test_a_wrong_plan_is_refused_on_one_line(
    operator: httpx.Client, change: dict[str, Any], message: str
) -> None:
    answer = operator.post("/api/v1/rollouts", json={"plan": {**PLAN, **change}})
    assert answer.status_code == 400
    assert message in answer.json()["message"]
    assert "\n" not in answer.json()["message"]


def test_an_unpublished_release_is_not_found(operator: httpx.Client) -> None:
    answer = operator.post("/api/v1/rollouts", json={"plan": {**PLAN, "release": "digits@7"}})
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


def test_an_order_at_the_wrong_time_is_a_conflict(operator: httpx.Client, select: str) -> None:
    draft = created(operator, select, start=False)
    answer = operator.post(f"/api/v1/rollouts/{draft['id']}/resume")
    assert answer.status_code == 409
    assert "a rollout that is draft cannot be resumed" in answer.json()["message"]


@pytest.mark.parametrize("role", ["viewer", "publisher"])
def test_only_operators_may_act(fleet: Running, operator: httpx.Client, select: str, role: str) -> None:
    draft = created(operator, select, start=False)
    with fleet.as_role(role) as other:
        assert other.get(f"/api/v1/rollouts/{draft['id']}").status_code == 200
        for path in ("", f"/{draft['id']}/start", f"/{draft['id']}/rollback"):
            assert other.post(f"/api/v1/rollouts{path}", json={"plan": PLAN}).status_code == 403
    assert fleet.http.get("/api/v1/rollouts").status_code == 401


def test_what_an_operator_does_is_in_the_audit_log(
    fleet: Running, operator: httpx.Client, select: str
) -> None:
    rollout = created(operator, select)["id"]
    operator.post(f"/api/v1/rollouts/{rollout}/abort")
    deeds = [row["action"] for row in fleet.admin.get("/api/v1/audit").json() if row["subject"] == rollout]
    assert deeds[::-1] == ["rollout created", "rollout started", "rollout aborted"]


def run(fleet: Running, *words: str) -> tuple[int, str]:
    token = str(fleet.admin.headers["Authorization"]).removeprefix("Bearer ")
    result = CliRunner().invoke(command, [*words, "--server", fleet.url, "--token", token])
    return result.exit_code, result.output + str(result.exception or "")


def test_the_command_line_plans_shows_and_stops(fleet: Running, rows: FleetRows, select: str) -> None:
    words = ["create", "--release", "digits@1", "--stages", "1,100%", "--select", select]
    code, output = run(fleet, *words, "--gate", "latency_p95=2/50", "--bake", "30", "--start", "--json")
    assert code == 0, output
    made = json.loads(output)
    (gate,) = made["plan"]["gates"].items()
    assert (gate[0], gate[1]["limit"], gate[1]["min_inferences"]) == ("latency_p95", 2.0, 50)
    rollout = made["id"]
    (canary,) = eventually(lambda: reached(fleet.admin, rollout), "reached")
    rows.say(canary)
    wait = "WAIT latency_p95: arm-cpu: 0 inferences reported, 50 needed"
    output = eventually(lambda: wait in (text := run(fleet, "show", rollout)[1]) and text, "the gate")
    assert "stage 1 (1, 1 in all)" in output and "stage 2 (100%, 3 in all): not begun" in output
    assert canary in output
    assert run(fleet, "pause", rollout) == (0, f"{rollout}: paused\n")
    assert run(fleet, "resume", rollout)[1].startswith(f"{rollout}: ")
    code, output = run(fleet, "rollback", rollout, "--why", "a drill")
    assert code == 0
    assert "a drill" in shown(fleet.admin, rollout)["why"]
    assert rollout in run(fleet, "list")[1]


def test_a_rollout_is_shown_a_page_of_devices_at_a_time(
    fleet: Running, rows: FleetRows, select: str, devices: list[str]
) -> None:
    rows.enrol("stranger-1", "stranger-2", profile=("coral-tpu",), site=select.removeprefix("site="))
    rollout = created(fleet.admin, select, stages=["100%"])["id"]
    eventually(lambda: len(reached(fleet.admin, rollout)) == 3, "all are reached")
    names = reached(fleet.admin, rollout)
    shown_on = []
    for page in ("1", "2"):
        code, output = run(fleet, "show", rollout, "--limit", "2", "--page", page)
        assert code == 0, output
        shown_on.append([name for name in names if name in output])
    assert shown_on == [names[:2], names[2:]]
    code, first = run(fleet, "show", rollout, "--limit", "1")
    assert "devices 1 to 1 of 3 shown; --page 2 shows the next" in first
    assert "left out: stranger-1: no bundle" in first and "left out: 1 more: no bundle" in first
    code, whole = run(fleet, "show", rollout)
    assert "--page" not in whole and all(name in whole for name in names)
    path, told, after = f"/api/v1/rollouts/{rollout}/devices?limit=2", [], ""
    while after is not None:
        answer = fleet.admin.get(f"{path}&after={after}").json()
        told += [one["device"] for one in answer["devices"]]
        after = answer["next"]
    assert told == names
    refused = fleet.admin.get(f"{path}&after=nonsense")
    assert (refused.status_code, "no cursor" in refused.json()["message"]) == (400, True)
    code, output = run(fleet, "show", rollout, "--limit", "1", "--json")
    assert len([one for stage in json.loads(output)["stages"] for one in stage["devices"]]) == 1


def test_who_is_left_out_is_said_when_the_rollout_is_made(
    fleet: Running, rows: FleetRows, select: str
) -> None:
    rows.enrol("odd", profile=("coral-usb", "coral-tpu"), site=select.removeprefix("site="))
    code, output = run(fleet, "create", "--release", "digits@1", "--stages", "1", "--select", select)
    assert (code, "left out: odd: no bundle for coral-usb" in output) == (0, True), output


def test_the_command_line_reads_a_plan_file(fleet: Running, select: str, tmp_path: Any) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text('format = "edgefleet.rollout/1"\nrelease = "digits@1"\nstages = ["100%"]\nbake_s = 9\n')
    code, output = run(fleet, "create", "--plan", str(plan), "--select", select, "--bake", "7", "--json")
    assert code == 0, output
    assert json.loads(output)["plan"]["bake_s"] == 7  # an option is stronger than the file


def test_a_plan_file_that_is_not_toml_is_refused(fleet: Running, tmp_path: Any) -> None:
    plan = tmp_path / "plan.toml"
    for content, what in ((b"stages = [", "TOML"), (b"\xff", "UTF-8")):
        plan.write_bytes(content)
        code, output = run(fleet, "create", "--plan", str(plan))
        assert (code, f"plan.toml is not {what}" in output) == (1, True), output


def test_watching_tells_what_changes_and_nothing_twice(fleet: Running, rows: FleetRows, select: str) -> None:
    rollout = created(fleet.admin, select)["id"]
    (canary,) = eventually(lambda: reached(fleet.admin, rollout), "reached")
    words = [
        sys.executable,
        "-c",
        "from edge_fleet.cli import main; main()",
        "rollout",
        "show",
        rollout,
        "--watch",
    ]
    token = str(fleet.admin.headers["Authorization"]).removeprefix("Bearer ")
    with subprocess.Popen(
        [*words, "--server", fleet.url, "--token", token], stdout=subprocess.PIPE, text=True
    ) as watch:
        assert watch.stdout is not None
        told = [watch.stdout.readline()]
        for order, phase in (("pause", "paused"), ("resume", "running"), ("abort", "aborted")):
            fleet.admin.post(f"/api/v1/rollouts/{rollout}/{order}", json={}).raise_for_status()
            while f" {phase}, stage" not in told[-1]:
                told.append(watch.stdout.readline())
                assert told[-1], told
        told += watch.stdout.readlines()
    assert watch.returncode == 0
    device = [line for line in told if line.startswith(f"    {canary} ")]
    assert len(device) == len(set(device)) > 0
    steps = [line for line in told if re.match("  20[0-9]{2}-", line)]
    assert [step.split()[2] for step in steps] == ["started", "paused", "resumed", "aborted"], told


def test_a_stage_that_names_nobody_is_told_when_the_rollout_is_made(
    fleet: Running, rows: FleetRows, select: str
) -> None:
    words = ["create", "--release", "digits@1", "--select", select, "--stages"]
    code, output = run(fleet, *words, "ring=nowhere,100%")
    assert (
        code == 0 and "stage 1 (ring=nowhere) names no device now: the rollout waits there for one" in output
    )
    assert "names no device" not in run(fleet, *words, "1,100%")[1]


def test_watching_ends_when_the_rollout_has_ended(fleet: Running, select: str) -> None:
    rollout = created(fleet.admin, select)["id"]
    fleet.admin.post(f"/api/v1/rollouts/{rollout}/abort")
    code, output = run(fleet, "show", rollout, "--watch")
    assert code == 0
    assert "aborted by local/" in output


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["create", "--stages", "1"], 2, "give --release"),
        (["create", "--release", "digits@1", "--stages", "1", "--gate", "drift"], 2, "is not NAME=LIMIT"),
        (
            ["create", "--release", "digits@1", "--stages", "1", "--gate", "drfit=1"],
            1,
            "did you mean 'drift'",
        ),
        (["create", "--plan", "/nowhere.toml"], 1, "cannot read /nowhere.toml"),
        (["show", "r999"], 1, "no rollout 'r999'"),
    ],
)
def test_wrong_usage_is_one_line(fleet: Running, words: list[str], code: int, message: str) -> None:
    found, output = run(fleet, *words)
    assert found == code
    assert message in output


def test_an_advance_says_where_it_saw_the_rollout(fleet: Running) -> None:
    assert str(Seen.told({"phase": "baking", "stage": 1, "part": "shadow"})) == "baking.1.shadow"
    for place in ("nowhere", "running.x", "running.0.sideways"):
        answer = fleet.admin.post(f"/api/v1/rollouts/r1/advance?seen={place}")
        assert answer.status_code == 400 and "is no place of a rollout" in answer.text
