"""Settings and approvals: each form does what the API does, secrets are shown once, refusals say why."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest
from console_client import PASSWORD, browser, person, send, words
from fleet_device import enrol, eventually
from fleet_rows import FleetRows
from fleet_server import Running, client
from sqlalchemy import update
from webhook_receiver import receiver

from edge_contracts.keys import PrivateKey
from edge_contracts.trust import KeyStatement, sign_keys
from edge_fleet.auth import Role, make_token
from edge_fleet.console.forms import PAGE
from edge_fleet.schema import devices, tokens

SETTINGS = "/console/settings"
OTHER = "another long word 8"


@pytest.fixture(scope="module")
def people(fleet: Running) -> None:
    for name, role in (("ada", "admin"), ("anna", "operator"), ("bert", "approver")):
        person(fleet, name, role)


@pytest.fixture
def ada(fleet: Running, people: None) -> Iterator[httpx.Client]:
    with browser(fleet, name="ada") as found:
        yield found


def secret_in(page: str) -> str:
    found = re.search(r'id="secret"[^>]*>([^<]+)<', page)
    assert found is not None
    return found[1]


def test_somebody_is_added_given_a_role_a_password_and_put_out(fleet: Running, ada: httpx.Client) -> None:
    here = f"{SETTINGS}/users"

    def users() -> dict[str, dict[str, object]]:
        return {one["name"]: one for one in fleet.admin.get("/api/v1/users").json()}

    weak = send(ada, here, here, do="add", name="carl", role="viewer", password="short")
    assert weak.status_code == 400 and "carl" not in users()
    assert send(ada, here, here, do="add", name="carl", role="viewer", password=PASSWORD).status_code == 303
    assert send(ada, here, here, do="role", name="carl", role="operator").status_code == 303
    assert users()["carl"]["role"] == "operator"
    with browser(fleet, name="carl") as carl:
        assert send(ada, here, here, do="password", name="carl", password=OTHER).status_code == 303
        assert carl.get("/console").status_code == 303  # logged out
    assert fleet.http.post("/console/login", data={"name": "carl", "password": OTHER}).status_code == 303
    assert send(ada, here, here, do="logout", name="carl").status_code == 303
    assert send(ada, here, here, do="disable", name="carl").status_code == 303
    assert users()["carl"]["disabled_ms"] is not None and "disabled" in words(ada.get(here).text)
    assert send(ada, here, here, do="enable", name="carl").status_code == 303
    assert users()["carl"]["disabled_ms"] is None
    twice = send(ada, here, here, do="add", name="carl", role="viewer", password=PASSWORD)
    assert twice.status_code == 409 and "there is a user 'carl' already" in words(twice.text)
    mine = send(ada, here, here, do="disable", name="ada")
    assert mine.status_code == 409 and "lock yourself out" in words(mine.text)
    assert send(ada, here, here, do="erase", name="carl").status_code == 404
    assert PASSWORD not in weak.text + twice.text


def test_ones_own_password_and_sessions(fleet: Running, people: None) -> None:
    person(fleet, "dora", "viewer")
    with browser(fleet, name="dora") as dora, browser(fleet, name="dora") as elsewhere:
        page = dora.get(SETTINGS).text
        assert page.count('name="session"') == 2 and "Where you are logged in" in page
        rows = re.findall(r"<tr>.*?</tr>", page, re.S)
        other = next(row for row in rows if 'name="session"' in row and "this one" not in row)
        session = re.search(r'name="session" value="([^"]+)"', other)
        assert session is not None
        assert send(dora, SETTINGS, SETTINGS, do="end", session=session[1]).status_code == 303
        assert elsewhere.get(SETTINGS).status_code == 303
        form = {"do": "password", "before": PASSWORD, "after": OTHER}
        differ = send(dora, SETTINGS, SETTINGS, **form, again="x")
        assert differ.status_code == 400 and "differ" in words(differ.text)
        wrong = send(dora, SETTINGS, SETTINGS, **{**form, "before": "no"}, again=OTHER)
        assert wrong.status_code == 403 and "is another one" in words(wrong.text)
        assert send(dora, SETTINGS, SETTINGS, **form, again=OTHER).status_code == 303
        assert dora.get(SETTINGS).status_code == 303  # to the login


def test_a_token_is_shown_once_is_as_narrow_as_asked_and_is_revoked(
    fleet: Running, ada: httpx.Client
) -> None:
    here = f"{SETTINGS}/tokens"
    made = send(
        ada, here, here, role="operator", label="ci", expires_s="3600", scopes="rollouts:write, devices:read"
    )
    assert made.status_code == 200 and "no-store" in made.headers["cache-control"]
    secret = secret_in(made.text)
    with client(fleet.url, secret) as program:
        assert program.get("/api/v1/devices").status_code == 200
        assert program.get("/api/v1/releases").status_code == 403
    page = ada.get(here).text
    assert secret not in page and "devices:read, rollouts:write" in words(page)
    (row,) = [one for one in fleet.admin.get("/api/v1/tokens").json() if one["label"] == "ci"]
    assert row["expires_ms"] - row["created_ms"] == 3_600_000
    assert send(ada, here, f"{here}/revoke", token=row["id"]).status_code == 303
    with client(fleet.url, secret) as program:
        assert program.get("/api/v1/devices").status_code == 401
    assert row["id"] not in ada.get(here).text and row["id"] in ada.get(f"{here}?all=true").text


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"role": "operator", "scopes": "moon:write"}, "is of no area"),
        ({"role": "operator", "scopes": "rollouts"}, "scopes"),
        ({"role": "viewer", "user": "nobody"}, "no user 'nobody'"),
        ({"role": "enrol", "labels": "lab"}, "is not KEY=VALUE"),
        ({"role": "viewer", "expires_s": "9"}, "expected one of"),
        ({"role": "king"}, "role"),
    ],
)
def test_a_token_that_cannot_be_is_told_and_what_was_typed_stays(
    ada: httpx.Client, form: dict[str, str], told: str
) -> None:
    here = f"{SETTINGS}/tokens"
    answer = send(ada, here, here, label="my label", **form)
    assert answer.status_code in (400, 404) and told in words(answer.text)
    assert 'value="my label"' in answer.text and 'id="secret"' not in answer.text


def test_tokens_come_a_page_at_a_time_newest_first_and_are_found(fleet: Running, ada: httpx.Client) -> None:
    here = f"{SETTINGS}/tokens"
    with fleet.server.store.write() as connection:  # a factory's, each for one device
        many = [make_token(connection, Role.ENROL, f"shelf_{n}", 10**13 + n, None) for n in range(120)]
    first = ada.get(here)
    assert first.text.count("Revoke token") == 2 * PAGE  # a button's name and question
    assert many[119].id in first.text and many[69].id not in first.text
    assert "1 to 50 of" in words(first.text)
    assert many[69].id in ada.get(f"{here}?page=2").text
    found = ada.get(here, params={"q": "SHELF_7"}).text
    assert many[7].id in found and many[79].id in found and many[80].id not in found
    assert "1 to 11 of 11 tokens" in words(found)
    assert "None fits" in ada.get(here, params={"q": "shelf%"}).text
    with fleet.server.store.write() as connection:
        used = {"used_ms": 1, "used_by": "cam-77"}
        connection.execute(update(tokens).where(tokens.c.label.startswith("shelf")).values(**used))
    assert many[3].id not in ada.get(here, params={"q": "cam-77"}).text
    assert "1 to 50 of 120" in words(ada.get(here, params={"q": "cam-77", "all": "true"}).text)


def test_an_operator_makes_enrolment_tokens_and_no_others(fleet: Running, people: None) -> None:
    here = f"{SETTINGS}/tokens"
    with browser(fleet, name="anna") as anna:
        made = send(anna, here, here, role="enrol", labels="site=lab ring=canary")
        assert secret_in(made.text).startswith("enrol-")
        assert send(anna, here, here, role="viewer").status_code == 403
        page = anna.get(here).text
        assert "Revoke" not in page and "subscriber" not in page
    (row,) = [t for t in fleet.admin.get("/api/v1/tokens").json() if t["device_labels"]]
    assert row["device_labels"] == {"site": "lab", "ring": "canary"}


def test_a_webhook_is_added_tried_and_tried_again_when_it_was_given_up(
    fleet: Running, ada: httpx.Client
) -> None:
    here = f"{SETTINGS}/webhooks"
    bad = send(ada, here, here, do="add", url="ftp://x/y")
    assert bad.status_code == 400 and "is not a URL of a receiver" in words(bad.text)
    with receiver() as found:
        made = send(ada, here, here, do="add", url=f"{found.url}/hook", kinds="alert.firing")
        assert secret_in(made.text).startswith("whsec_") and secret_in(made.text) not in ada.get(here).text
        (hook,) = fleet.admin.get("/api/v1/webhooks").json()
        assert hook["kinds"] == ["alert.firing"]
        assert send(ada, here, here, do="test", webhook=hook["id"]).status_code == 303
        eventually(lambda: bool(found.got), "delivered")
        assert b'"type":"test"' in found.got[0][1]
        assert send(ada, here, here, do="remove", webhook=hook["id"]).status_code == 303
    assert fleet.admin.get("/api/v1/webhooks").json() == []
    refused = send(ada, f"{here}", here, do="retry", delivery="1")
    assert refused.status_code == 404 and "that was given up" in words(refused.text)
    assert send(ada, here, here, do="retry", delivery="one").status_code == 400
    assert send(ada, here, here, do="shout").status_code == 404
    assert ada.get(f"{here}?show=dead").status_code == 200


def test_a_publisher_is_trusted_retired_and_revoked_and_statements_are_followed(
    fleet: Running, ada: httpx.Client
) -> None:
    here = f"{SETTINGS}/keys"
    first, second, third = PrivateKey.generate(), PrivateKey.generate(), PrivateKey.generate()

    def states() -> dict[str, str]:
        return {one["key_id"]: one["state"] for one in fleet.admin.get("/api/v1/publishers").json()}

    # as keygen writes it, sent as browsers send lines; and as the API has it
    for typed in (first.public.pem.decode().replace("\n", "\r\n"), f" {second.public.base64}\n"):
        assert send(ada, here, here, do="add", public_key=typed, label="ci").status_code == 303
    assert set(states()) == {first.public.key_id, second.public.key_id}
    secret = send(ada, here, here, do="add", public_key=third.pem.decode())
    assert secret.status_code == 400 and "the text holds a private key" in words(secret.text)
    wrong = send(ada, here, here, do="add", public_key="AAAA")
    assert wrong.status_code == 400 and "That was refused" in words(wrong.text)
    last = {"do": "retire", "key_id": second.public.key_id, "reason": "moved"}
    assert send(ada, here, here, **last).status_code == 303
    assert states() == {first.public.key_id: "trusted", second.public.key_id: "retired"}
    lonely = send(ada, here, here, do="revoke", key_id=first.public.key_id)
    assert lonely.status_code == 409 and "would leave no publisher" in words(lonely.text)
    statement = sign_keys(KeyStatement(fleet="f", counter=7, add=(third.public.base64,)), first)
    hidden = {"csrf": re.findall(r'name="csrf" value="(\w+)"', ada.get(here).text)[0], "do": "statement"}
    answer = ada.post(here, data=hidden, files={"statement": ("keys.bin", statement)})
    assert answer.status_code == 303, words(answer.text)
    assert states()[third.public.key_id] == "trusted"
    again = ada.post(here, data=hidden, files={"statement": ("keys.bin", statement)})
    assert again.status_code == 409 and "give a larger" in words(again.text)
    nothing = ada.post(here, data=hidden, files={"statement": ("keys.bin", b"")})
    assert nothing.status_code == 400 and "no file was sent" in words(nothing.text)
    assert send(ada, here, here, do="revoke", key_id=first.public.key_id, stop="on").status_code == 303
    told = words(ada.get(here).text)
    assert "moved" in told and "and stop" in told


def test_the_server_shows_its_broker_and_its_database(fleet: Running, ada: httpx.Client) -> None:
    here = f"{SETTINGS}/system"
    told = words(ada.get(here).text)
    assert "Broker up" in told and "Database up" in told and "this release's" in told
    wrong = send(ada, here, here, seconds="900")
    assert wrong.status_code == 400 and "300" in words(wrong.text)
    assert send(ada, here, here, seconds="0").status_code == 303
    log = fleet.admin.get("/api/v1/audit", params={"action": "broker outage"}).json()
    assert log[0]["actor"] == "ada"


def test_both_rules_are_shown_beside_each_other_and_changed(fleet: Running, ada: httpx.Client) -> None:
    here = "/console/approvals"
    rows = FleetRows(fleet.server.store, fleet.server.now_ms)
    rows.publish("1")
    rows.enrol("cam-0")
    plan = {"format": "edgefleet.rollout/1", "release": "digits@1", "stages": ["100%"]}
    with fleet.as_role("operator") as anybody:
        made = anybody.post("/api/v1/rollouts", json={"plan": plan}).json()["id"]
    form = {"policy": "second-person", "above": "0"}
    assert send(ada, here, f"{here}/rules", **form).status_code == 303
    told = words(ada.get(here).text)
    assert "a release must be approved by somebody who published none of it" in told
    assert "every rollout must be approved by somebody who did not make it" in told
    assert "release digits@1 is not approved" in told and "it reaches 1 of 1 devices" in told
    with browser(fleet, name="bert") as bert:
        assert send(bert, here, here, do="approve", release="digits@1", why="tried it").status_code == 303
        reason = f"/console/rollouts/{made}/approve"
        assert send(bert, reason, reason, why="fine").status_code == 303
        told = words(bert.get(here).text)
        assert "approved by bert" in told and "missing" not in told
        twice = send(bert, here, here, do="approve", release="digits@1")
        assert twice.status_code == 409 and "cannot be approved" in words(twice.text)
        assert send(bert, here, here, do="retire", release="digits@1", why="old").status_code == 303
        assert "is retired: old" in words(bert.get(here).text)
        assert bert.post(f"{here}/rules", data={}).status_code == 403
    assert send(ada, here, f"{here}/rules", policy="none", above="").status_code == 303
    assert fleet.admin.get("/api/v1/rollout-policy").json() == {"two_above_percent": None}
    wrong = send(ada, here, f"{here}/rules", policy="none", above="many")
    assert wrong.status_code == 400 and "is not a number" in words(wrong.text)


def test_the_directors_key_is_made_put_in_force_and_retired(fleet: Running, ada: httpx.Client) -> None:
    here = f"{SETTINGS}/keys"

    def states() -> dict[str, str]:
        return {one["key_id"]: one["state"] for one in fleet.admin.get("/api/v1/directors").json()}

    (first,) = states()
    assert "Put in force" not in words(ada.get(here).text)
    assert send(ada, here, here, do="make-director").status_code == 303
    (second,) = states().keys() - {first}
    shown = words(ada.get(here).text)
    assert second in shown and "Put in force" in shown and "Make the next key" not in shown
    refused = send(ada, here, here, do="retire-director", key_id=first)
    assert refused.status_code == 409 and "is in force" in words(refused.text)
    assert send(ada, here, here, do="rotate-director", key_id=second, reason="due").status_code == 303
    assert states() == {first: "former", second: "in force"}
    assert f"director {second}" in words(ada.get(here).text)
    astray = enrol(fleet.http, fleet.token()).id
    with fleet.server.store.write() as connection:
        strange = {"director": "f" * 32, "tells_director": True}
        connection.execute(update(devices).where(devices.c.id == astray).values(**strange))
    assert "not this server's" in words(ada.get(here).text)
    assert send(ada, here, here, do="retire-director", key_id=first, force="on").status_code == 303
    assert (states()[first], states()[second]) == ("retired", "in force")
