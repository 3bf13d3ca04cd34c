from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
from click.testing import CliRunner
from fleet_rows import FleetRows
from fleet_server import Running, client

from edge_fleet.access import two_people_cli
from edge_fleet.access.two_people import refusal
from edge_fleet.rollouts.cli import rollout as commands

GOOD = "correct horse battery"


@pytest.mark.parametrize(
    ("above", "reaches", "approvers", "refused"),
    [
        (None, 10, [], False),
        (50, 5, [], False),
        (50, 6, [], True),
        (50, 6, ["maker"], True),
        (50, 6, ["maker", "other"], False),
        (50, 6, ["other"], False),
        (0, 1, [], True),
        (0, 0, [], False),
        (100, 10, [], False),
    ],
)
def test_the_rule(above: float | None, reaches: int, approvers: list[str], refused: bool) -> None:
    assert bool(refusal(above, reaches, 10, "maker", approvers)) == refused


@pytest.fixture(scope="module")
def people(fleet: Running) -> Iterator[dict[str, httpx.Client]]:
    """A client of a user of each role, under the role's name."""
    found = {}
    for name, role in (("operator", "operator"), ("approver", "approver"), ("admin", "admin")):
        body = {"name": name, "role": role, "password": GOOD}
        assert fleet.admin.post("/api/v1/users", json=body).status_code == 201
        answer = fleet.http.post("/api/v1/login", json={"name": name, "password": GOOD})
        found[name] = client(fleet.url, answer.json()["token"])
    yield found
    for one in found.values():
        one.close()


@pytest.fixture
def rule(fleet: Running) -> Iterator[None]:
    """Two for more than half of the fleet."""
    assert fleet.admin.post("/api/v1/rollout-policy", json={"two_above_percent": 50}).status_code == 200
    yield
    fleet.admin.post("/api/v1/rollout-policy", json={"two_above_percent": None})


def _made(who: httpx.Client, *stages: str) -> str:
    plan = {"format": "edgefleet.rollout/1", "release": "digits@1", "stages": list(stages)}
    answer = who.post("/api/v1/rollouts", json={"plan": plan})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


@pytest.fixture(scope="module")
def rows(fleet: Running) -> FleetRows:
    """Four devices and a release."""
    made = FleetRows(fleet.server.store, fleet.server.now_ms)
    made.publish("1")
    made.enrol("d1", "d2", "d3", "d4")
    return made


@pytest.mark.usefixtures("rule", "rows")
def test_a_rollout_to_many_begins_when_somebody_else_has_approved_it(
    fleet: Running, people: dict[str, httpx.Client]
) -> None:
    rollout = _made(people["operator"], "1", "100%")
    path = f"/api/v1/rollouts/{rollout}"
    refused = people["operator"].post(f"{path}/start")
    assert refused.status_code == 409
    assert "it reaches 4 of 4 devices, over 50 %, and operator made it" in refused.json()["message"]
    assert people["operator"].post(f"{path}/approve").status_code == 403, "no right"
    assert people["approver"].post(f"{path}/start").status_code == 403, "who approves does not start"
    approved = people["approver"].post(f"{path}/approve", json={"why": "seen"})
    assert approved.status_code == 200
    assert [a["actor"] for a in approved.json()["approvals"]] == ["approver"]
    again = people["approver"].post(f"{path}/approve", json={"why": "seen twice"})
    assert again.json()["approvals"] == approved.json()["approvals"], "one person is one, however often"
    assert people["operator"].post(f"{path}/start").status_code == 200
    assert people["admin"].post(f"{path}/approve").status_code == 409, "it has begun"
    log = [row for row in fleet.admin.get("/api/v1/audit").json() if row["subject"] == rollout]
    deeds = [(row["actor"], row["action"]) for row in reversed(log)]
    assert deeds[:3] == [
        ("operator", "rollout created"),
        ("approver", "rollout approved"),
        ("operator", "rollout started"),
    ]
    people["operator"].post(f"{path}/abort")


@pytest.mark.usefixtures("rule", "rows")
def test_nobody_approves_their_own_by_whatever_way_they_come(
    fleet: Running, people: dict[str, httpx.Client]
) -> None:
    rollout = _made(people["admin"], "100%")
    own = fleet.token("admin", user="admin")
    again = fleet.http.post("/api/v1/login", json={"name": "admin", "password": GOOD}).json()["token"]
    for secret in (own, again):
        with client(fleet.url, secret) as who:
            answer = who.post(f"/api/v1/rollouts/{rollout}/approve")
            assert answer.status_code == 403 and "somebody else" in answer.json()["message"]
    token = fleet.token("admin", label="robot")
    with client(fleet.url, token) as robot:
        made = _made(robot, "100%")
    with httpx.Client(base_url=fleet.url, trust_env=False) as browser:
        browser.post("/console/login", data={"token": token})
        session = browser.cookies["edgefleet_token"]
    with client(fleet.url, session) as who:
        assert who.post(f"/api/v1/rollouts/{made}/approve").status_code == 403
    assert people["admin"].post(f"/api/v1/rollouts/{made}/approve").status_code == 200


@pytest.mark.usefixtures("rule", "rows")
def test_the_word_of_somebody_who_was_disabled_since_does_not_count(
    fleet: Running, people: dict[str, httpx.Client]
) -> None:
    body = {"name": "taken-over", "role": "approver", "password": GOOD}
    assert fleet.admin.post("/api/v1/users", json=body).status_code == 201
    rollout = _made(people["operator"], "100%")
    path = f"/api/v1/rollouts/{rollout}"
    with client(fleet.url, fleet.token("approver", user="taken-over")) as who:
        assert who.post(f"{path}/approve").status_code == 200
    fleet.admin.post("/api/v1/users/taken-over", json={"disabled": True}).raise_for_status()
    refused = people["operator"].post(f"{path}/start")
    assert refused.status_code == 409 and "somebody else must approve it" in refused.json()["message"]
    assert people["approver"].post(f"{path}/approve").status_code == 200
    assert people["operator"].post(f"{path}/start").status_code == 200
    people["operator"].post(f"{path}/abort")


@pytest.mark.usefixtures("rule", "rows")
def test_the_word_of_a_token_that_was_revoked_since_does_not_count(
    fleet: Running, people: dict[str, httpx.Client]
) -> None:
    rollout = _made(people["operator"], "100%")
    path = f"/api/v1/rollouts/{rollout}"
    made = fleet.admin.post("/api/v1/tokens", json={"role": "approver", "label": "a/stolen one"}).json()
    with client(fleet.url, made["token"]) as who:
        assert who.post(f"{path}/approve").status_code == 200
    fleet.admin.post(f"/api/v1/tokens/{made['id']}/revoke").raise_for_status()
    refused = people["operator"].post(f"{path}/start")
    assert refused.status_code == 409 and "somebody else must approve it" in refused.json()["message"]
    with client(fleet.url, fleet.token("approver", label="another")) as who:
        assert who.post(f"{path}/approve").status_code == 200
    assert people["operator"].post(f"{path}/start").status_code == 200
    people["operator"].post(f"{path}/abort")


@pytest.mark.parametrize("length", [20, 58, 64, 128])
@pytest.mark.usefixtures("rule", "rows")
def test_a_long_label_is_no_second_person(
    fleet: Running, people: dict[str, httpx.Client], length: int
) -> None:
    with client(fleet.url, fleet.token("admin", label="m" * length)) as maker:
        path = f"/api/v1/rollouts/{_made(maker, '100%')}"
        assert maker.post(f"{path}/approve").status_code == 403
        assert maker.post(f"{path}/start").status_code == 409
        maker.post(f"{path}/abort")
    path = f"/api/v1/rollouts/{_made(people['operator'], '100%')}"
    made = fleet.admin.post("/api/v1/tokens", json={"role": "approver", "label": "s" * length}).json()
    with client(fleet.url, made["token"]) as who:
        assert who.post(f"{path}/approve").status_code == 200
    fleet.admin.post(f"/api/v1/tokens/{made['id']}/revoke").raise_for_status()
    assert people["operator"].post(f"{path}/start").status_code == 409
    people["operator"].post(f"{path}/abort")


@pytest.mark.usefixtures("rule", "rows")
def test_a_rollout_to_few_needs_one(people: dict[str, httpx.Client]) -> None:
    rollout = _made(people["operator"], "50%")
    path = f"/api/v1/rollouts/{rollout}"
    assert people["operator"].post(f"{path}/start").status_code == 200
    people["operator"].post(f"{path}/abort")


@pytest.mark.usefixtures("rows")
def test_the_rule_and_approvals_from_the_command_line(
    fleet: Running, people: dict[str, httpx.Client]
) -> None:
    assert two_people_cli.approve.name == "approve"
    token = fleet.server.home.admin_token.read_text().strip()
    where = ["--server", fleet.url, "--token", token]

    def run(*words: str) -> str:
        found = CliRunner().invoke(commands, [*words, *where])
        assert found.exit_code == 0, found.output
        return found.output.strip()

    assert run("two-person") == "off"
    assert run("two-person", "12.5%") == "above 12.5 % of the fleet"
    rollout = _made(people["operator"], "100%")
    assert run("approve", rollout, "--why", "checked").endswith("checked")
    assert run("two-person", "off") == "off"
    assert CliRunner().invoke(commands, ["two-person", "most", *where]).exit_code == 2
    assert people["operator"].post("/api/v1/rollout-policy", json={"two_above_percent": 1}).status_code == 403
