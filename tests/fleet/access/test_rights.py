"""Every route of the API against every role: who may not is refused, whatever is asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI
from fleet_server import Running, client

from edge_fleet.access.table import roles
from edge_fleet.api.access import PUBLIC, Reader, every, require_rights, stated_right
from edge_fleet.app import create_app, routers
from edge_fleet.auth import PERSONAL, RIGHTS, Right, Role
from edge_fleet.console.routes import PAGES

ROUTES = sorted(
    (method, route.path, right)
    for router in routers()
    for route in every(router.routes)
    for method in route.methods or ()
    if (right := stated_right(route)) is not None
)


def _status(who: httpx.Client, method: str, path: str) -> int:
    """Of an empty request for things that are not there: rights come before everything else."""
    url = path.replace("{counter}", "1")
    while "{" in url:
        url = url[: url.index("{")] + "nothing" + url[url.index("}") + 1 :]
    if url.endswith("/telemetry"):
        url += "?follow=false"
    with who.stream(method, url) as answer:  # an event stream never ends
        return answer.status_code


def test_there_are_routes_for_each_right_that_a_role_can_have() -> None:
    assert {right for _, _, right in ROUTES} >= {Right.READ, Right.OPERATE, Right.PUBLISH, Right.ADMIN}
    assert len(ROUTES) > 25


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.SUBSCRIBER])
def test_a_role_reaches_the_routes_of_its_rights_and_no_other(fleet: Running, role: Role) -> None:
    with fleet.as_role(role) as who:
        for method, path, right in ROUTES:
            refused = _status(who, method, path) in (401, 403)
            assert refused == (right not in RIGHTS[role]), f"{role} {method} {path}"


@pytest.mark.parametrize("token", [None, "admin-nothing"])
def test_nobody_reaches_a_route_without_a_token(fleet: Running, token: str | None) -> None:
    with client(fleet.url, token) as who:
        for method, path, _ in ROUTES:
            assert _status(who, method, path) in (401, 429), f"{method} {path}"


def test_the_console_does_nothing_for_a_viewer(fleet: Running) -> None:
    deeds = [
        path
        for router in PAGES
        for route in router.routes
        if "POST" in getattr(route, "methods", ())
        and (path := str(getattr(route, "path", "")))
        not in ("/console/login", "/console/logout", "/console/settings")  # one's own password
    ]
    assert deeds
    with httpx.Client(base_url=fleet.url, trust_env=False) as browser:
        browser.post("/console/login", data={"token": fleet.token("viewer")})
        page = browser.get("/console").text
        csrf = page.split('name="csrf" value="')[1].split('"')[0]
        for path in deeds:
            url = path.replace("{order}", "start").replace("{rollout}", "x").replace("{device}", "x")
            answer = browser.post(url, data={"csrf": csrf})
            assert answer.status_code in (403, 422), path


def _app(router: APIRouter) -> FastAPI:
    app = FastAPI()
    app.include_router(router)
    return app


def test_a_route_that_does_not_say_who_may_use_it_stops_the_server_from_starting(fleet: Running) -> None:
    app = create_app(fleet.server)

    @app.get("/api/v1/secrets", tags=["devices"])
    def secrets(other: Annotated[None, Depends(lambda: None)]) -> None:
        """Say nothing of rights."""

    with pytest.raises(RuntimeError, match="the route /api/v1/secrets does not say who may use it"):
        require_rights(app.routes)


def test_a_route_without_an_area_is_refused_too() -> None:
    router = APIRouter()

    @router.get("/api/v1/nowhere")
    def nowhere(who: Reader) -> None:
        """Have a right and no tag."""

    with pytest.raises(RuntimeError, match="/api/v1/nowhere"):
        require_rights(router.routes)


def test_a_folder_of_files_cannot_be_mounted_past_the_rights(tmp_path: Path) -> None:
    from starlette.routing import Mount

    with pytest.raises(RuntimeError, match="/files"):
        require_rights([Mount("/files", app=FastAPI())])


def test_what_is_open_to_everybody_is_a_short_list() -> None:
    assert len(PUBLIC) < 10


def test_the_documentation_has_the_table() -> None:
    text = (Path(__file__).parents[3] / "docs/access.md").read_text()
    assert roles() in text
    assert all(f"| `{role}` |" in roles() for role in PERSONAL)


def test_the_right_of_every_route_can_be_printed() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "edge_fleet.access.table", "--routes"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert any(
        line.split()[1:] == ["/api/v1/audit", "admin", "administration"] for line in run.stdout.splitlines()
    )


def test_a_token_with_scopes_does_only_what_they_say(fleet: Running) -> None:
    token = fleet.token("operator", scopes=["rollouts:write", "releases:read"])
    with client(fleet.url, token) as who:
        assert who.get("/api/v1/rollouts").status_code == 200
        assert who.post("/api/v1/rollouts/none/start").status_code == 404
        assert who.get("/api/v1/releases").status_code == 200
        assert who.get("/api/v1/devices").status_code == 403
        assert who.post("/api/v1/tokens", json={}).status_code == 403
        login = who.post("/console/login", data={"token": token})
        assert login.status_code == 403
    with client(fleet.url, fleet.token("viewer", scopes=["rollouts:write"])) as who:
        assert who.post("/api/v1/rollouts/none/start").status_code == 403, (
            "narrower than the role, never wider"
        )


def test_a_narrow_token_cannot_make_a_wider_one(fleet: Running) -> None:
    with client(fleet.url, fleet.token("admin", scopes=["tokens:write", "devices:read"])) as who:
        for body in (
            {"role": "admin"},
            {"role": "viewer"},
            {"role": "viewer", "scopes": ["rollouts:read"]},
            {"role": "subscriber"},
        ):
            assert who.post("/api/v1/tokens", json=body).status_code == 403, body
        assert (
            who.post("/api/v1/tokens", json={"role": "viewer", "scopes": ["devices:read"]}).status_code == 201
        )
        assert who.post("/api/v1/tokens", json={"role": "enrol"}).status_code == 201


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"role": "viewer", "scopes": ["cows:read"]}, 400),
        ({"role": "viewer", "scopes": ["devices:own"]}, 422),
        ({"role": "viewer", "scopes": []}, 422),
        ({"role": "enrol", "scopes": ["devices:read"]}, 422),
        ({"role": "viewer", "user": "nobody"}, 404),
    ],
)
def test_a_token_that_makes_no_sense_is_refused(fleet: Running, body: dict[str, object], status: int) -> None:
    assert fleet.admin.post("/api/v1/tokens", json=body).status_code == status
