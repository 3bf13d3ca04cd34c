"""Every address of the server against every kind of caller, compared with a table that people read.

`rights.txt` beside this file has a line for each route. A route that is not there fails: decide who may use
it, write the line (`python -m edge_fleet.access.table --routes` prints it), and let somebody see it.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fleet_server import Running, client
from sqlalchemy import update

from edge_contracts.enrolment import EnrolRequest, enrol_proof
from edge_contracts.keys import PrivateKey
from edge_fleet.access import users
from edge_fleet.access.limits import HEADERS
from edge_fleet.access.table import rights
from edge_fleet.api.access import PUBLIC, area_of, every, stated_right
from edge_fleet.app import create_app, routers
from edge_fleet.auth import IDLE_MS, RIGHTS, Right, Role, make_token
from edge_fleet.console.routes import PAGES
from edge_fleet.schema import tokens

TABLE = Path(__file__).with_name("rights.txt")
API = [route for router in routers() for route in every(router.routes)]
CONSOLE = [route for router in PAGES for route in router.routes if isinstance(route, APIRoute)]
AREAS = sorted({area_of(route) for route in API} - {""})


def _lines() -> set[str]:
    api = {
        " ".join(line.split()) for line in rights(route for router in routers() for route in router.routes)
    }
    pages = {f"{method} {route.path} a page" for route in CONSOLE for method in route.methods or ()}
    return api | pages


def test_every_route_has_its_line_in_the_table_and_every_line_its_route() -> None:
    stated = {line for line in TABLE.read_text().splitlines() if line and not line.startswith("#")}
    found = _lines()
    assert sorted(found - stated) == [], "routes without a line: decide who may use them"
    assert sorted(stated - found) == [], "lines without a route, or whose right has changed"


@dataclass(frozen=True)
class Caller:
    """Somebody, with what they show; `rights` is None where nobody knows them."""

    name: str
    headers: dict[str, str]
    rights: frozenset[Right] | None


@pytest.fixture(scope="module")
def callers(fleet: Running) -> list[Caller]:
    store, now_ms = fleet.server.store, fleet.server.now_ms()
    found = [
        Caller("nobody", {}, None),
        Caller("an invented token", {"Authorization": "Bearer admin-x"}, None),
        Caller("no scheme that we know", {"Authorization": "Basic YTpi"}, None),
        Caller("a device", _device(fleet), None),
    ]

    def shows(name: str, secret: str, held: frozenset[Right] | None) -> None:
        found.append(Caller(name, {"Authorization": f"Bearer {secret}"}, held))

    with store.write() as connection:
        for role in Role:
            shows(str(role), make_token(connection, role, "", now_ms).secret, RIGHTS[role])
        shows("expired", make_token(connection, Role.ADMIN, "", now_ms - 9, now_ms - 1).secret, None)
        revoked = make_token(connection, Role.ADMIN, "", now_ms)
        connection.execute(update(tokens).where(tokens.c.id == revoked.id).values(revoked_ms=now_ms))
        shows("revoked", revoked.secret, None)
        child = make_token(connection, Role.ADMIN, "", now_ms, parent=revoked.id)
        shows("of a revoked parent", child.secret, None)
        for name, role in (("walk-gone", Role.ADMIN), ("walk-low", Role.VIEWER), ("walk-idle", Role.ADMIN)):
            users.add(connection, name, role, "", "x", now_ms)
        shows("disabled", make_token(connection, Role.ADMIN, "", now_ms, owner="walk-gone").secret, None)
        users.change(connection, "walk-gone", "x", now_ms, disabled=True)
        lowered = make_token(connection, Role.ADMIN, "", now_ms, owner="walk-low")
        shows("more than its user", lowered.secret, RIGHTS[Role.VIEWER])
        idle = make_token(
            connection, Role.ADMIN, "", now_ms - IDLE_MS - 1, owner="walk-idle", is_session=True
        )
        shows("a session that nobody used", idle.secret, None)
        for area in AREAS:
            elsewhere = [f"{other}:write" for other in AREAS if other != area]
            shows(
                f"not {area}", make_token(connection, Role.ADMIN, "", now_ms, scopes=elsewhere).secret, None
            )
            read = make_token(connection, Role.ADMIN, "", now_ms, scopes=[f"{area}:read"])
            shows(f"only {area}", read.secret, frozenset({Right.READ}))
    return found


def _device(fleet: Running) -> dict[str, str]:
    key, token = PrivateKey.generate(), fleet.token()
    asked = EnrolRequest(
        token=token,
        public_key=key.public.base64,
        proof=base64.b64encode(key.sign(enrol_proof(token, "walker"))).decode(),
        profile=("arm-cpu",),
        name="walker",
    )
    answer = fleet.http.post("/api/v1/enrol", json=asked.model_dump(mode="json"))
    assert answer.status_code == 200, answer.text
    secret = answer.json()["mqtt_password"]
    return {"X-Edge-Device": "walker", "Authorization": f"Bearer {secret}"}


def _path(route: APIRoute) -> str:
    """For things that are not there: rights come before everything else."""
    url = route.path.replace("{counter}", "1")
    while "{" in url:
        url = url[: url.index("{")] + "nothing" + url[url.index("}") + 1 :]
    return url + "?follow=false" if url.endswith("/telemetry") else url


def _status(fleet: Running, http: httpx.Client, method: str, url: str, headers: dict[str, str]) -> int:
    fleet.server.attempts._failures.clear()  # how many failures one address has is tested elsewhere
    with http.stream(method, url, headers=headers) as answer:  # an event stream never ends
        return answer.status_code


def _expected(caller: Caller, right: Right, area: str) -> set[int] | None:
    """What a caller gets who may not; None for one who may."""
    if caller.name.startswith(("not ", "only ")):
        kind, _, named = caller.name.partition(" ")
        if kind == "not":
            return None if named != area else {403}
        return None if named == area and right is Right.READ else {403}
    if caller.rights is None:
        return {401}
    return None if right in caller.rights else {403}


def test_every_caller_gets_what_the_table_says_and_nothing_else(
    fleet: Running, callers: list[Caller]
) -> None:
    wrong, asked = [], 0
    with client(fleet.url) as http:
        for route in API:
            right, area = stated_right(route), area_of(route)
            if right is None:
                continue
            for caller in callers:
                kind, _, named = caller.name.partition(" ")
                if kind in ("not", "only") and named != area:
                    continue  # one of each for each area is enough
                for method in route.methods or ():
                    refused = _expected(caller, right, area)
                    if refused is None and caller.name not in ("admin", f"only {area}"):
                        continue  # that who may is let in is `test_rights.py`
                    status = _status(fleet, http, method, _path(route), caller.headers)
                    asked += 1
                    fits = status in refused if refused else status not in (401, 403)
                    if not fits:
                        wrong.append(f"{caller.name}: {method} {route.path} gave {status}")
    assert wrong == []
    assert asked > 10 * len(API)


def test_what_is_for_devices_is_for_no_token_of_people(fleet: Running, callers: list[Caller]) -> None:
    own = [route for route in API if stated_right(route) is None and route.path not in PUBLIC]
    assert len(own) >= 2
    with client(fleet.url) as http:
        for route in own:
            for caller in callers:
                for headers in (caller.headers, {**caller.headers, "X-Edge-Device": "walker"}):
                    for method in route.methods or ():
                        status = _status(fleet, http, method, _path(route), headers)
                        assert (status == 401) == (caller.name != "a device"), f"{caller.name} {route.path}"


@pytest.fixture
def browser(fleet: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=fleet.url, trust_env=False, timeout=30) as found:
        found.post("/console/login", data={"token": fleet.token("admin")})
        yield found


def test_no_form_is_taken_from_elsewhere(browser: httpx.Client) -> None:
    csrf = browser.get("/console/login").text  # has none: nobody's forms carry one
    assert 'name="csrf"' not in csrf
    own = browser.get("/console").text.split('name="csrf" value="')[1].split('"')[0]
    others = [{"csrf": value} for value in ("", "x", own[:-1], own.upper() if own.upper() != own else "y")]
    for route in CONSOLE:
        if "POST" not in (route.methods or ()) or route.path == "/console/login":
            continue
        url = _path(route)
        fields = {field.alias: "1" for field in route.dependant.body_params}
        for wrong in ({}, *others):
            body = {name: value for name, value in fields.items() if name != "csrf"} | wrong
            answer = browser.post(url, data=body)
            assert answer.status_code == 403 and "not of this session" in answer.text, f"{url} {wrong}"
        foreign = browser.post(url, data={**fields, "csrf": own}, headers={"Origin": "https://evil.example"})
        assert foreign.status_code == 403 and "another site" in foreign.text, url
        assert browser.get(url).status_code < 500, "and a GET is no deed"
    assert browser.get("/console").status_code == 200, "not even logged out"


def test_a_cookie_alone_does_nothing_at_the_api(browser: httpx.Client, fleet: Running) -> None:
    for route in API:
        if stated_right(route) is not None:
            for method in (route.methods or set()) - {"GET"}:
                assert _status(fleet, browser, method, _path(route), {}) == 401, route.path


def test_a_login_from_another_site_is_refused(fleet: Running) -> None:
    with httpx.Client(base_url=fleet.url, trust_env=False) as other:
        answer = other.post(
            "/console/login",
            data={"token": fleet.token("viewer")},
            headers={"Origin": "https://evil.example"},
        )
        assert answer.status_code == 403 and "set-cookie" not in answer.headers


def test_every_page_and_every_error_keeps_to_itself(browser: httpx.Client, fleet: Running) -> None:
    asked = [("GET", _path(route)) for route in CONSOLE if "GET" in (route.methods or ())]
    asked += [("GET", "/nothing"), ("GET", "/console/nothing"), ("DELETE", "/console"), ("GET", "/health")]
    asked += [("POST", "/api/v1/login"), ("GET", "/api/v1/devices"), ("POST", "/console/login")]
    statuses = set()
    for who in (browser, fleet.http):
        for method, url in asked:
            fleet.server.attempts._failures.clear()
            answer = who.request(method, url)
            statuses.add(answer.status_code)
            for name in ("X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy", "Cache-Control"):
                assert name in answer.headers, f"{method} {url} {answer.status_code} has no {name}"
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy, url
            assert "unsafe" not in policy and "*" not in policy and "http:" not in policy, url
    assert statuses >= {200, 303, 401, 404, 405, 422}


def _asgi(app: FastAPI, method: str, url: str, **request: object) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="https://fleet.example") as http:
            return await http.request(method, url, **request)  # type: ignore[arg-type]

    return asyncio.run(ask())


def test_a_fault_of_ours_keeps_to_itself_and_tells_nothing(fleet: Running) -> None:
    app = create_app(fleet.server)

    @app.get("/health/broken", tags=["health"])
    def broken() -> None:
        raise RuntimeError("with a secret")

    answer = _asgi(app, "GET", "/health/broken")
    assert answer.status_code == 500 and "secret" not in answer.text
    for name, value in HEADERS.items():
        assert answer.headers[name] == value


def test_over_https_the_session_travels_over_nothing_else(fleet: Running) -> None:
    app = create_app(fleet.server)
    answer = _asgi(app, "POST", "/console/login", data={"token": fleet.token("viewer")})
    assert answer.status_code == 303, answer.text
    flags = {part.strip().lower() for part in answer.headers["set-cookie"].split(";")[1:]}
    assert {"httponly", "secure", "samesite=strict", "path=/"} <= flags
    assert not any(flag.startswith("domain=") for flag in flags)
    assert "max-age=" in answer.headers["Strict-Transport-Security"]
