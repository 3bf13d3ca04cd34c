"""The HTTP API of a whole server: who may, what is refused, what an enrolled device is given."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import sqlite3
import threading
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from fleet_device import FleetDevice, enrol, enrol_request, eventually
from fleet_server import Running, client, fleet_server
from samples import KEY
from samples import archive as bundle_bytes
from sqlalchemy import select

from edge_contracts.bundle import open_bundle
from edge_contracts.digest import digest_of
from edge_contracts.enrolment import EnrolAnswer
from edge_contracts.keys import PrivateKey
from edge_contracts.topics import Channel
from edge_fleet import orders
from edge_fleet.auth import Attempts
from edge_fleet.schema import metadata

READS = [
    "/api/v1/devices",
    "/api/v1/releases",
    "/api/v1/publishers",
    "/api/v1/metrics",
    "/api/v1/refusals",
    "/api/v1/broker",
    "/api/v1/telemetry?follow=false",
]
ADMIN_READS = ["/api/v1/tokens", "/api/v1/audit", "/api/v1/broker/accounts"]


def said(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal; its message must be one line."""
    body = answer.json()
    assert body.keys() == {"code", "message"} and "\n" not in body["message"], body
    return answer.status_code, body["code"]


@pytest.fixture(autouse=True)
def patient(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of these tests fail from one address; only the one about that is to see the limit."""
    if "429" not in request.node.name:
        monkeypatch.setattr(Attempts, "PER_MINUTE", 1_000_000)


def publish(http: httpx.Client, *bundles: bytes) -> httpx.Response:
    files = [("bundles", (f"{n}.bundle", content)) for n, content in enumerate(bundles)]
    return http.post("/api/v1/releases", files=files)


@pytest.fixture(scope="module")
def trusting(fleet: Running) -> Running:
    """The server, which trusts the sample publisher."""
    answer = fleet.admin.post("/api/v1/publishers", json={"public_key": KEY.public.base64, "label": "ci"})
    assert answer.status_code == 201
    return fleet


# who may


@pytest.mark.parametrize("path", [*READS, *ADMIN_READS, "/api/v1/events", "/api/v1/devices/x"])
def test_nobody_reads_without_a_token(fleet: Running, path: str) -> None:
    assert said(fleet.http.get(path)) == (401, "unauthorized")


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", "Basic YTpi", "bearer\tx"])
def test_a_wrong_token_is_refused(fleet: Running, header: str) -> None:
    answer = fleet.http.get("/api/v1/devices", headers={"Authorization": header})
    assert said(answer) == (401, "unauthorized")


def test_an_enrolment_token_reads_nothing(fleet: Running) -> None:
    with fleet.as_role("enrol") as http:
        assert said(http.get("/api/v1/devices")) == (403, "forbidden")


@pytest.mark.parametrize("role", ["viewer", "operator", "publisher", "admin"])
def test_every_role_reads_and_only_an_admin_sees_secrets(fleet: Running, role: str) -> None:
    with fleet.as_role(role) as http:
        assert {http.get(path).status_code for path in READS} == {200}
        expected = {200} if role == "admin" else {403}
        assert {http.get(path).status_code for path in ADMIN_READS} == expected


@pytest.mark.parametrize(
    ("method", "path", "body", "allowed"),
    [
        ("POST", "/api/v1/tokens", {"role": "enrol"}, {"operator", "admin"}),
        ("POST", "/api/v1/tokens", {"role": "viewer"}, {"admin"}),
        ("POST", "/api/v1/tokens", {"role": "subscriber"}, {"admin"}),
        ("POST", "/api/v1/tokens/none/revoke", {}, {"admin"}),
        ("POST", "/api/v1/publishers", {"public_key": "x"}, {"admin"}),
        ("POST", "/api/v1/devices/none/revoke", {}, {"operator", "admin"}),
        ("POST", "/api/v1/broker/outage", {"seconds": -1}, {"admin"}),
        ("POST", "/api/v1/releases", None, {"publisher", "admin"}),
    ],
)
@pytest.mark.parametrize("role", ["viewer", "operator", "publisher", "admin"])
def test_a_role_does_what_it_is_for_and_no_more(
    fleet: Running, role: str, method: str, path: str, body: Any, allowed: set[str]
) -> None:
    with fleet.as_role(role) as http:
        answer = http.request(method, path, json=body)
    assert (answer.status_code != 403) == (role in allowed), answer.text


def test_a_database_that_fails_is_said_and_is_worth_another_try(tmp_path: Path) -> None:
    with (
        fleet_server(tmp_path / "own", database="") as own,
        closing(sqlite3.connect(tmp_path / "own/fleet.db")) as beside,
    ):
        beside.execute("ALTER TABLE publishers RENAME TO elsewhere")
        answer = own.admin.get("/api/v1/publishers")
        assert (answer.status_code, said(answer)[1]) == (503, "database-unreachable")
        beside.execute("ALTER TABLE elsewhere RENAME TO publishers")
        assert own.admin.get("/api/v1/publishers").status_code == 200


def test_a_revoked_token_is_worthless(fleet: Running) -> None:
    made = fleet.admin.post("/api/v1/tokens", json={"role": "viewer"}).json()
    with client(fleet.url, made["token"]) as http:
        assert http.get("/api/v1/devices").status_code == 200
        fleet.admin.post(f"/api/v1/tokens/{made['id']}/revoke")
        assert said(http.get("/api/v1/devices")) == (401, "unauthorized")


def test_tokens_are_stored_as_hashes(fleet: Running) -> None:
    secret = fleet.token("viewer")
    with fleet.server.store.read() as connection:
        database = repr([connection.execute(select(t)).all() for t in metadata.tables.values()])
    assert secret not in database
    assert hashlib.sha256(secret.encode()).hexdigest() in database


def test_failures_are_answered_with_429_and_a_good_token_still_enters(tmp_path: Path) -> None:
    from fleet_server import fleet_server

    with fleet_server(tmp_path / "home") as fleet:
        answers = [fleet.http.get("/api/v1/devices").status_code for _ in range(80)]
        assert answers[0] == 401 and 429 in answers
        assert fleet.admin.get("/api/v1/devices").status_code == 200


# enrolment


def test_an_enrolled_device_is_told_all_that_it_needs(trusting: Running) -> None:
    device = enrol(trusting.http, trusting.token(device_labels={"site": "lab"}), "cam-1", ("raspberry-pi-5",))
    told = device.enrolled
    assert (told.device, told.fleet, told.mqtt_user, told.mqtt_host) == ("cam-1", "f", "cam-1", "")
    assert f"127.0.0.1:{told.mqtt_port}" == trusting.server.config.mqtt
    assert told.director_key == trusting.server.directors.current.public.base64
    assert told.publisher_keys == (KEY.public.base64,)
    shown = trusting.admin.get("/api/v1/devices/cam-1").json()
    assert shown["public_key"] == device.key.public.base64
    assert (shown["labels"], shown["profile"]) == ({"site": "lab"}, ["raspberry-pi-5"])


def test_a_device_without_a_name_is_given_one(fleet: Running) -> None:
    first, second = enrol(fleet.http, fleet.token()).id, enrol(fleet.http, fleet.token()).id
    assert first != second


def test_the_operators_labels_are_stronger_than_the_devices(fleet: Running) -> None:
    token = fleet.token(device_labels={"site": "lab"})
    body = enrol_request(token, PrivateKey.generate()) | {"labels": {"site": "mine", "line": "3"}}
    device = fleet.http.post("/api/v1/enrol", json=body).json()["device"]
    labels = fleet.admin.get(f"/api/v1/devices/{device}").json()["labels"]
    assert labels == {"site": "lab", "line": "3"}


def test_asking_again_with_the_same_key_gives_the_same_answer(fleet: Running) -> None:
    body = enrol_request(fleet.token(), PrivateKey.generate())
    first, second = (fleet.http.post("/api/v1/enrol", json=body) for _ in range(2))
    assert first.status_code == second.status_code == 200
    assert first.json() == second.json()


def test_a_token_serves_one_device(fleet: Running) -> None:
    token = fleet.token()
    enrol(fleet.http, token)
    answer = fleet.http.post("/api/v1/enrol", json=enrol_request(token, PrivateKey.generate()))
    assert said(answer) == (409, "conflict")


def test_of_many_who_race_with_one_token_one_wins(fleet: Running) -> None:
    token = fleet.token()
    codes: list[int] = []

    def attempt() -> None:
        answer = httpx.post(
            f"{fleet.url}/api/v1/enrol", json=enrol_request(token, PrivateKey.generate()), trust_env=False
        )
        codes.append(answer.status_code)

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [200] + [409] * 7


def test_a_name_is_not_used_twice(fleet: Running) -> None:
    enrol(fleet.http, fleet.token(), "twice")
    token = fleet.token()
    body = enrol_request(token, PrivateKey.generate(), "twice")
    assert said(fleet.http.post("/api/v1/enrol", json=body)) == (409, "conflict")
    enrol(fleet.http, token, "thrice")  # the refusal did not use the token up


def test_a_key_is_not_used_twice(fleet: Running) -> None:
    key = PrivateKey.generate()
    for expected in (200, 409):
        answer = fleet.http.post("/api/v1/enrol", json=enrol_request(fleet.token(), key))
        assert answer.status_code == expected


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"proof": base64.b64encode(bytes(64)).decode()}, 400),
        ({"proof": "not base64!"}, 400),
        ({"name": "other"}, 400),  # the proof speaks for another name
        ({"public_key": base64.b64encode(bytes(31)).decode()}, 400),
        ({"token": "enrol-" + "x" * 43}, 400),  # and for another token
        ({"name": "a/b"}, 422),
        ({"name": "d" * 65}, 422),
        ({"profile": []}, 422),
        ({"unknown": 1}, 422),
        ({"labels": {"a b": "c"}}, 422),
    ],
)
def test_a_faulty_request_enrols_nobody(fleet: Running, changes: dict[str, Any], status: int) -> None:
    token = fleet.token()
    body = enrol_request(token, PrivateKey.generate(), "honest") | changes
    assert said(fleet.http.post("/api/v1/enrol", json=body))[0] == status
    names = [device["id"] for device in fleet.admin.get("/api/v1/devices").json()]
    assert "honest" not in names and "other" not in names


def test_a_refusal_is_one_line_whatever_was_asked_with(fleet: Running) -> None:
    asked = {"role": "enrol", "device_labels": {"site\n\x1b[31m\u2028yard": "a"}}
    answer = fleet.admin.post("/api/v1/tokens", json=asked)
    assert said(answer) == (422, "request-invalid")
    message = answer.json()["message"]
    assert message.startswith("body.device_labels.site??[31m?yard")
    assert message.isprintable()


def test_a_token_of_another_role_enrols_nobody(fleet: Running) -> None:
    body = enrol_request(fleet.token("viewer"), PrivateKey.generate())
    assert said(fleet.http.post("/api/v1/enrol", json=body)) == (403, "forbidden")


def test_an_expired_token_enrols_nobody(fleet: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_fleet.auth import Role, make_token

    with fleet.server.store.write() as connection:
        token = make_token(connection, Role.ENROL, "", 1, expires_ms=2)
    body = enrol_request(token.secret, PrivateKey.generate())
    answer = fleet.http.post("/api/v1/enrol", json=body)
    assert said(answer) == (401, "unauthorized") and "expired" in answer.text


# releases


def test_a_release_has_a_counter_that_grows(trusting: Running) -> None:
    first = publish(trusting.admin, bundle_bytes(name="grows", version="1"))
    second = publish(trusting.admin, bundle_bytes(name="other", version="1"))
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.json()["counter"] == first.json()["counter"] + 1
    listed = trusting.admin.get("/api/v1/releases").json()
    assert [r["name"] for r in listed[:2]] == ["other", "grows"]


def test_several_profiles_make_one_release(trusting: Running) -> None:
    bundles = [bundle_bytes(name="many", profile=profile) for profile in ("arm-cpu", "x86-cpu")]
    release = publish(trusting.admin, *bundles).json()
    assert [b["profile"] for b in release["bundles"]] == ["arm-cpu", "x86-cpu"]
    for content, bundle in zip(bundles, release["bundles"], strict=True):
        assert bundle["archive"] == digest_of(content)
        assert bundle["digest"] == open_bundle(content).digest
        path = trusting.server.home.archives / (digest_of(content)[7:] + ".bundle")
        assert path.read_bytes() == content


def test_publishing_the_same_again_changes_nothing(trusting: Running) -> None:
    content = bundle_bytes(name="again")
    first, second = publish(trusting.admin, content), publish(trusting.admin, content)
    assert first.json() == second.json()


def test_a_profile_can_be_added_to_a_release(trusting: Running) -> None:
    first = publish(trusting.admin, bundle_bytes(name="more", profile="arm-cpu")).json()
    second = publish(trusting.admin, bundle_bytes(name="more", profile="x86-cpu")).json()
    assert first["counter"] == second["counter"]
    assert [b["profile"] for b in second["bundles"]] == ["arm-cpu", "x86-cpu"]


def test_a_published_version_is_not_changed(trusting: Running) -> None:
    publish(trusting.admin, bundle_bytes(name="fixed"))
    answer = publish(trusting.admin, bundle_bytes(name="fixed", labels=["a", "b"]))
    assert said(answer) == (400, "release-invalid")
    assert "another bundle for arm-cpu already" in answer.json()["message"]


@pytest.mark.parametrize(
    ("bundles", "code"),
    [
        ([b"not a zip"], "bundle-invalid"),
        ([bundle_bytes(name="cut")[:-40]], "bundle-invalid"),
        ([bundle_bytes(key=PrivateKey.generate(), name="stranger")], "key-unknown"),
        ([bundle_bytes(name="two", version="1"), bundle_bytes(name="two", version="2")], "release-invalid"),
        ([bundle_bytes(name="a1"), bundle_bytes(name="b1")], "release-invalid"),
        ([bundle_bytes(name="one"), bundle_bytes(name="one", labels=["x"])], "release-invalid"),
        ([bundle_bytes(name="half"), b"not a zip"], "bundle-invalid"),
    ],
)
def test_a_faulty_release_is_refused_and_leaves_nothing(
    trusting: Running, bundles: list[bytes], code: str
) -> None:
    releases = trusting.admin.get("/api/v1/releases").json()
    files = sorted(trusting.server.home.archives.iterdir())
    assert said(publish(trusting.admin, *bundles)) == (400, code)
    assert trusting.admin.get("/api/v1/releases").json() == releases
    assert sorted(trusting.server.home.archives.iterdir()) == files


def test_a_faulty_bundle_among_several_is_named(trusting: Running) -> None:
    whole, other = bundle_bytes(name="named"), bundle_bytes(name="named", version="9")
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    faulty = io.BytesIO()
    with zipfile.ZipFile(faulty, "w") as archive:
        for name, what in content.items():
            archive.writestr(name, b"{" if name == "manifest.json" else what)
    for bad in (b"not a zip", faulty.getvalue()):
        uploads = [("bundles", ("good.bundle", other)), ("bundles", ("bad.bundle", bad))]
        answer = trusting.admin.post("/api/v1/releases", files=uploads)
        assert answer.status_code == 400
        assert answer.json()["message"].startswith("bad.bundle"), answer.text


def test_a_bundle_of_a_stranger_says_how_to_trust_it(trusting: Running) -> None:
    answer = publish(trusting.admin, bundle_bytes(key=PrivateKey.generate()))
    assert "edge-fleet trust add" in answer.json()["message"]


def test_a_full_disk_is_told_and_nothing_of_the_release_is_left(
    trusting: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def onto_a_full_disk(source: Any, _target: Any, size: int) -> None:
        with open("/dev/full", "wb", buffering=0) as full:
            full.write(source.read(size))

    files = sorted(trusting.server.home.archives.iterdir())
    with monkeypatch.context() as one:
        one.setattr("edge_fleet.api.releases.shutil.copyfileobj", onto_a_full_disk)
        answer = publish(trusting.admin, bundle_bytes(name="large"))
    assert said(answer) == (503, "disk-full")
    assert sorted(trusting.server.home.archives.iterdir()) == files
    assert publish(trusting.admin, bundle_bytes(name="large")).status_code == 201


def test_a_release_without_bundles_is_refused(trusting: Running) -> None:
    assert said(trusting.admin.post("/api/v1/releases", data={"x": "y"}))[0] == 422


# downloads


@pytest.fixture(scope="module")
def archive(trusting: Running) -> bytes:
    """A published archive."""
    content = bundle_bytes(name="download")
    assert publish(trusting.admin, content).status_code == 201
    return content


def assigned(fleet: Running, content: bytes) -> FleetDevice:
    """A device that is assigned an archive."""
    device = enrol(fleet.http, fleet.token())
    with fleet.server.store.write() as connection:
        orders.issue(connection, device.id, open_bundle(content).digest, 1)
    return device


def download(
    fleet: Running, device: FleetDevice, content: bytes, secret: str | None = None, **headers: str
) -> httpx.Response:
    stated = {
        "Authorization": f"Bearer {device.enrolled.mqtt_password if secret is None else secret}",
        "X-Edge-Device": device.id,
    }
    return fleet.http.get(f"/api/v1/archives/{digest_of(content)}", headers=stated | headers)


def test_a_device_downloads_what_it_was_assigned(trusting: Running, archive: bytes) -> None:
    answer = download(trusting, assigned(trusting, archive), archive)
    assert (answer.status_code, answer.content) == (200, archive)
    assert answer.headers["ETag"] == f'"{digest_of(archive)}"'


def test_an_interrupted_download_goes_on(trusting: Running, archive: bytes) -> None:
    device = assigned(trusting, archive)
    tag = f'"{digest_of(archive)}"'
    rest = download(trusting, device, archive, Range="bytes=100-", **{"If-Range": tag})
    assert (rest.status_code, rest.content) == (206, archive[100:])
    assert rest.headers["Content-Range"] == f"bytes 100-{len(archive) - 1}/{len(archive)}"
    whole = download(trusting, device, archive, Range="bytes=100-", **{"If-Range": '"another"'})
    assert (whole.status_code, whole.content) == (200, archive)
    beyond = download(trusting, device, archive, Range=f"bytes={len(archive)}-")
    assert beyond.status_code == 416


def test_a_device_downloads_nothing_else(trusting: Running, archive: bytes) -> None:
    device = enrol(trusting.http, trusting.token())
    assert said(download(trusting, device, archive)) == (404, "not-found")
    assert said(download(trusting, assigned(trusting, archive), b"nothing")) == (404, "not-found")


def test_a_device_needs_its_own_secret(trusting: Running, archive: bytes) -> None:
    device, other = assigned(trusting, archive), enrol(trusting.http, trusting.token())
    for secret in (other.enrolled.mqtt_password, "wrong", trusting.token("admin")):
        assert said(download(trusting, device, archive, secret)) == (401, "unauthorized")
    for name in ("", "nobody", other.id):
        assert said(download(trusting, device, archive, **{"X-Edge-Device": name})) == (401, "unauthorized")


def test_a_revoked_device_downloads_nothing(trusting: Running, archive: bytes) -> None:
    device = assigned(trusting, archive)
    trusting.admin.post(f"/api/v1/devices/{device.id}/revoke")
    assert said(download(trusting, device, archive)) == (401, "unauthorized")


def test_an_admin_token_is_not_a_devices_secret(trusting: Running, archive: bytes) -> None:
    assert said(trusting.admin.get(f"/api/v1/archives/{digest_of(archive)}")) == (401, "unauthorized")


# streams


def test_telemetry_streams_stored_envelopes_first_and_then_new_ones(fleet: Running) -> None:
    device = enrol(fleet.http, fleet.token())
    device.connect()
    device.hello()
    device.send(Channel.TELEMETRY, device.outbox.add())
    device.wait_ack(0)
    with fleet.admin.stream("GET", "/api/v1/telemetry", params={"device": device.id}) as answer:
        assert answer.headers["content-type"].startswith("application/x-ndjson")
        lines = answer.iter_lines()
        assert json.loads(next(lines))["seq"] == 0
        device.send(Channel.TELEMETRY, device.outbox.add())
        assert json.loads(next(lines))["seq"] == 1
    device.close()


def test_news_come_as_server_sent_events(fleet: Running) -> None:
    with fleet.admin.stream("GET", "/api/v1/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        assert next(lines) == "retry: 1000"
        eventually(lambda: fleet.server.bus._listeners, "the listener")
        name = enrol(fleet.http, fleet.token()).id
        # what else happens meanwhile is news too
        ours = next(
            event for event, line in itertools.pairwise(lines) if line == f'data: {{"device":"{name}"}}'
        )
    assert ours == "event: device"


# the rest


def test_health_needs_no_token_and_the_api_describes_itself(fleet: Running) -> None:
    assert fleet.http.get("/healthz").json() == {"status": "ok", "broker": "up"}
    paths = fleet.http.get("/openapi.json").json()["paths"]
    assert {"/api/v1/enrol", "/api/v1/devices", "/api/v1/releases", "/healthz"} <= paths.keys()


def test_what_is_not_there_is_one_line(fleet: Running) -> None:
    assert said(fleet.admin.get("/api/v1/nothing"))[0] == 404
    assert said(fleet.admin.get("/api/v1/devices/none")) == (404, "not-found")
    assert said(fleet.admin.get("/api/v1/releases/999999")) == (404, "not-found")
    assert said(fleet.admin.post("/api/v1/tokens/none/revoke")) == (404, "not-found")


def test_a_body_over_the_limit_is_not_read(fleet: Running) -> None:
    huge = b'{"token": "' + b"x" * (2 << 20) + b'"}'
    assert said(fleet.http.post("/api/v1/enrol", content=huge)) == (413, "too-large")
    pieces = (huge[start : start + 65536] for start in range(0, len(huge), 65536))
    assert said(fleet.http.post("/api/v1/enrol", content=pieces))[0] in (400, 413)


def test_deeds_are_written_down(fleet: Running) -> None:
    name = enrol(fleet.http, fleet.token()).id
    fleet.admin.post(f"/api/v1/devices/{name}/revoke")
    deeds = [(row["action"], row["subject"]) for row in fleet.admin.get("/api/v1/audit").json()]
    assert deeds[:2] == [("device revoked", name), ("device enrolled", name)]


def test_an_answer_of_enrolment_is_the_contracts(fleet: Running) -> None:
    body = enrol_request(fleet.token(), PrivateKey.generate())
    EnrolAnswer.model_validate(fleet.http.post("/api/v1/enrol", json=body).json())
