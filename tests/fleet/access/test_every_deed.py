"""Every call that changes something leaves a line in the audit log, with who did it.

Each route that is not a GET is either done here, or named with the reason and the test that does it.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fleet_rows import FleetRows, digest
from fleet_server import Running, client
from sqlalchemy import insert

from edge_contracts.enrolment import EnrolRequest, enrol_proof
from edge_contracts.keys import PrivateKey
from edge_fleet.api.access import COOKIE, every
from edge_fleet.app import routers
from edge_fleet.schema import alerts, review_samples, webhook_deliveries

GOOD = "correct horse battery"
PLAN = {"format": "edgefleet.rollout/1", "release": "digits@1", "stages": ["1", "100%"], "bake_s": 3600}
ELSEWHERE = {
    "/api/v1/certificate": "of devices, a line for each that is issued: test_certificates.py",
    "/api/v1/releases": "wants a signed bundle: registry.publish writes it, test_server.py",
    "/api/v1/review": "what a device says of itself is telemetry, not a deed of somebody's",
    "/api/v1/devices/{device}/rotate-key": "wants an agent that knows how: test_device_keys.py",
    "/api/v1/devices/{device}/keys/{key_id}/revoke": "wants a key of before: test_device_keys.py",
    "/api/v1/fleet/description": "stores nothing: it says whom a plan would reach",
    "/api/v1/dry-runs": "changes nothing: what comes of it is forgotten",
    "/api/v1/key-statements": "wants a publisher's signature: test_key_statements.py",
}


@pytest.fixture(scope="module")
def rows(fleet: Running) -> FleetRows:
    built = FleetRows(fleet.server.store, fleet.server.now_ms)
    for version in ("1", "2"):
        built.publish(version)
    built.enrol("cam-1", "cam-2", "cam-3", "cam-4")
    return built


class Deeds:
    """Does one thing after another and looks for its line."""

    def __init__(self, fleet: Running, who: httpx.Client) -> None:
        self.fleet, self.who, self.done = fleet, who, set[str]()

    def _log(self) -> list[dict[str, Any]]:
        return list(self.fleet.admin.get("/api/v1/audit", params={"most": 5}).json())

    def __call__(
        self, route: str, body: dict[str, Any] | None = None, upload: Any = None, **parts: object
    ) -> Any:
        before = self._log()[0]["id"]
        path = route.format(**parts)
        if upload is None:
            answer = self.who.post(path, json=body or {})
        else:
            answer = self.who.post(path, params=body, files=upload)
        assert answer.status_code in (200, 201, 204), f"{route}: {answer.text}"
        lines = [line for line in self._log() if line["id"] > before]
        assert lines, f"POST {route} left no line in the audit log"
        assert all(line["actor"] for line in lines), route
        self.done.add(route)
        return answer.json()


@pytest.fixture(scope="module")
def deeds(fleet: Running) -> Iterator[Deeds]:
    with client(fleet.url, fleet.token("admin", label="doer")) as who:
        yield Deeds(fleet, who)


def _alert(fleet: Running) -> int:
    now_ms = fleet.server.now_ms()
    row = {
        "rule": "silence", "subject": "cam-4", "level": "warning", "phase": "firing", "value": 1, "why": "w",
        "evidence": {}, "since_ms": now_ms, "fired_ms": now_ms, "changed_ms": now_ms,
    }  # fmt: skip
    with fleet.server.store.write() as connection:
        return int(connection.execute(insert(alerts).values(**row).returning(alerts.c.id)).scalar_one())


def _sample(fleet: Running) -> int:
    row = {
        "digest": digest("9"), "device": "cam-1", "number": 1, "received_ms": 1, "time_ms": 1,
        "bundle": digest("1"), "artifact": "a", "reason": "r", "answer_name": "", "label_name": "",
        "labelled_by": "", "raw": b"",
    }  # fmt: skip
    with fleet.server.store.write() as connection:
        return int(
            connection.execute(
                insert(review_samples).values(**row).returning(review_samples.c.id)
            ).scalar_one()
        )


def _dead(fleet: Running, webhook: str) -> int:
    row = {
        "webhook": webhook, "message": "m", "kind": "test", "body": "{}", "created_ms": 1, "next_ms": 1,
        "attempts": 9, "answer": "x", "dead_ms": 2,
    }  # fmt: skip
    with fleet.server.store.write() as connection:
        return int(
            connection.execute(
                insert(webhook_deliveries).values(**row).returning(webhook_deliveries.c.id)
            ).scalar_one()
        )


def _rollouts(fleet: Running, deeds: Deeds) -> None:
    base = "/api/v1/rollouts"
    with fleet.as_role("operator") as maker:
        first, second, third = (maker.post(base, json={"plan": PLAN}).json()["id"] for _ in range(3))
    deeds(base, {"plan": PLAN})
    deeds(base + "/{rollout}/approve", rollout=first)
    deeds(base + "/{rollout}/reject", {"why": "w"}, rollout=third)
    for order in ("start", "pause", "resume"):
        deeds(base + "/{rollout}/" + order, rollout=first)
    deeds(base + "/{rollout}/devices/{device}/{order}", rollout=first, device="cam-2", order="skip")
    deeds(base + "/{rollout}/advance", rollout=first)
    deeds(base + "/{rollout}/abort", rollout=first)
    with fleet.as_role("operator") as maker:
        assert maker.post(f"{base}/{second}/start").status_code == 200
    deeds(base + "/{rollout}/rollback", rollout=second)
    deeds("/api/v1/rollout-policy", {"two_above_percent": 50})


def _releases_alerts_and_data(fleet: Running, deeds: Deeds) -> None:
    for step in ("approve", "retire", "reopen", "withdraw"):
        deeds(f"/api/v1/lineage/{step}", {"release": "digits@2", "why": "w"})
    page = {"report": ("report.html", b"<!doctype html><html><body>x</body></html>", "text/html")}
    deeds("/api/v1/lineage/report", {"release": "digits@2"}, upload=page)
    deeds("/api/v1/lineage/policy", {"policy": "second-person"})
    deeds("/api/v1/lineage/needs", {"needs": []})
    alert = _alert(fleet)
    deeds("/api/v1/alerts/{alert}/ack", alert=alert)
    deeds("/api/v1/alerts/{alert}/silence", {"seconds": 60}, alert=alert)
    deeds("/api/v1/alert-rules/{rule}", {"enabled": False}, rule="silence")
    deeds("/api/v1/datasets/samples/{sample}/label", {"label": "1"}, sample=_sample(fleet))
    deeds("/api/v1/webhooks", {"url": "http://127.0.0.1:9/y"})  # without a receiver nobody is asked
    deeds("/api/v1/datasets/retraining", {"what": "digits@1"})


def _people_tokens_and_devices(fleet: Running, deeds: Deeds) -> None:
    key, token = PrivateKey.generate(), fleet.token()
    asked = EnrolRequest(
        token=token,
        public_key=key.public.base64,
        proof=base64.b64encode(key.sign(enrol_proof(token, "new"))).decode(),
        profile=("arm-cpu",),
        name="new",
    )
    deeds("/api/v1/enrol", asked.model_dump(mode="json"))
    deeds("/api/v1/devices/{device}/revoke", device="cam-3")
    made = deeds("/api/v1/tokens", {"role": "viewer"})
    deeds("/api/v1/tokens/{token_id}/revoke", token_id=made["id"])
    deeds("/api/v1/users", {"name": "pat", "role": "viewer", "password": GOOD})
    deeds("/api/v1/users/{name}", {"role": "operator"}, name="pat")
    opened = [deeds("/api/v1/login", {"name": "pat", "password": GOOD})["token"] for _ in range(2)]
    with client(fleet.url, opened[0]) as pat:
        (other,) = (one["id"] for one in pat.get("/api/v1/sessions").json() if not one["mine"])
        deeds("/api/v1/sessions/{session}/end", session=other)
        own = Deeds(fleet, pat)
        own("/api/v1/password", {"before": GOOD, "after": GOOD + " 2"})
        deeds.done |= own.done
    fleet.http.post("/api/v1/login", json={"name": "pat", "password": GOOD + " 2"}).raise_for_status()
    deeds("/api/v1/users/{name}/logout", name="pat")


def _keys_webhooks_and_the_broker(fleet: Running, deeds: Deeds) -> None:
    deeds("/api/v1/publishers", {"public_key": PrivateKey.generate().public.base64})
    key = PrivateKey.generate()
    deeds("/api/v1/publishers", {"public_key": key.public.base64})
    deeds("/api/v1/publishers/{key_id}/{change}", key_id=key.public.key_id, change="retire")
    deeds("/api/v1/directors/{key_id}/retire", key_id=deeds("/api/v1/directors")["key_id"])
    made = fleet.admin.post("/api/v1/directors").json()  # two people are wanted by now
    deeds("/api/v1/directors/{key_id}/rotate", {"reason": "every year"}, key_id=made["key_id"])
    hook = deeds("/api/v1/webhooks", {"url": "http://127.0.0.1:9/x"})["id"]
    deeds("/api/v1/webhooks/{webhook}/test", webhook=hook)
    deeds("/api/v1/webhooks/deliveries/{delivery}/retry", delivery=_dead(fleet, hook))
    deeds("/api/v1/webhooks/{webhook}/remove", webhook=hook)
    deeds("/api/v1/broker/outage", {"seconds": 0})


def test_logging_in_and_out_at_the_console(fleet: Running) -> None:
    with httpx.Client(base_url=fleet.url, trust_env=False) as browser:
        browser.post("/console/login", data={"token": fleet.token("viewer", label="desk")})
        assert COOKIE in browser.cookies
        csrf = browser.get("/console").text.split('name="csrf" value="')[1].split('"')[0]
        browser.post("/console/logout", data={"csrf": csrf})
    lines = [(line["action"], line["actor"][:5]) for line in fleet.admin.get("/api/v1/audit").json()[:2]]
    assert lines == [("logout", "desk/"), ("console login", "desk/")]


def test_every_deed_leaves_a_line_and_no_route_is_left_out(
    fleet: Running, rows: FleetRows, deeds: Deeds
) -> None:
    _rollouts(fleet, deeds)
    _releases_alerts_and_data(fleet, deeds)
    _people_tokens_and_devices(fleet, deeds)
    _keys_webhooks_and_the_broker(fleet, deeds)
    changing = {route.path for part in routers() for route in every(part.routes) if route.methods != {"GET"}}
    assert changing - deeds.done - set(ELSEWHERE) == set(), "do it here, or name the test that does it"
    assert set(ELSEWHERE) <= changing and deeds.done <= changing


def test_a_deed_without_a_line_is_noticed(fleet: Running) -> None:
    class Silent:
        def post(self, *_: object, **__: object) -> httpx.Response:
            return httpx.Response(200, json={})

    with pytest.raises(AssertionError, match="left no line"):
        Deeds(fleet, Silent())("/api/v1/tokens")  # type: ignore[arg-type]
