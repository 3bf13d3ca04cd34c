"""Whatever is refused below /console is a page in its look; the way in keeps where somebody wanted to go."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from console_client import PASSWORD, browser, person, words
from fleet_server import Running, fleet_server

import edge_fleet
from edge_fleet import store
from edge_fleet.access.limits import Budget
from edge_fleet.app import MAX_BODY_BYTES, create_app


@pytest.fixture
def viewer(fleet: Running) -> Iterator[httpx.Client]:
    with browser(fleet, fleet.token("viewer")) as found:
        yield found


def is_page(answer: httpx.Response) -> bool:
    return answer.headers["content-type"].startswith("text/html") and "<h1>" in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status", "head"),
    [
        ("GET", "/console/nothing-like-it", 404, "There is nothing here"),
        ("GET", "/console/devices/nobody", 404, "There is nothing here"),
        ("GET", "/console/devices/nobody/retry", 405, "This address takes a form"),
        ("DELETE", "/console/fleet", 405, "This address takes a form"),
        ("GET", "/console/fleet?page=x", 422, "That was refused"),
    ],
)
def test_an_address_that_is_none_is_told_on_a_page_with_the_navigation(
    viewer: httpx.Client, method: str, path: str, status: int, head: str
) -> None:
    answer = viewer.request(method, path)
    assert answer.status_code == status and is_page(answer)
    assert f"<h1>{head}</h1>" in answer.text and f"<title>{head} - edge-fleet</title>" in answer.text
    assert 'href="/console/rollouts"' in answer.text and "Log out" in answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_who_is_not_logged_in_sees_no_navigation_there(fleet: Running) -> None:
    answer = fleet.http.get("/console/nothing-like-it")
    assert answer.status_code == 404 and is_page(answer) and "Log out" not in answer.text


def test_programs_are_answered_in_json_as_before(fleet: Running) -> None:
    for path in ("/api/v1/nothing-like-it", "/consoles"):
        answer = fleet.admin.get(path)
        assert (answer.status_code, answer.json()["code"]) == (404, "http")


def test_a_form_that_is_too_large_is_refused_on_a_page(viewer: httpx.Client) -> None:
    answer = viewer.post("/console/approvals", data={"why": "x" * (MAX_BODY_BYTES + 1)})
    assert answer.status_code == 413 and is_page(answer) and "That is too much at once" in answer.text


def test_who_asks_too_often_is_told_so_on_a_page(fleet: Running) -> None:
    app = create_app(fleet.server, Budget(per_s=0.1, burst=1))

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=app, client=("192.0.2.78", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return [await client.get("/console/login") for _ in range(2)]

    first, second = asyncio.run(ask())
    assert (first.status_code, second.status_code) == (200, 429)
    assert is_page(second) and "Too often" in second.text
    assert 1 <= int(second.headers["Retry-After"]) <= 10


def test_a_database_that_is_away_is_told_on_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BUSY_TIMEOUT_MS", 50)
    with fleet_server(tmp_path / "home", database="") as local:
        held = sqlite3.connect(tmp_path / "home" / "fleet.db", isolation_level=None)
        with browser(local, local.token("operator")) as operator:
            page = operator.get("/console/settings").text
            secret = page.split('name="csrf" value="')[1].split('"')[0]
            held.execute("BEGIN IMMEDIATE")  # somebody else writes, and does not end
            try:
                answer = operator.post(
                    "/console/settings/tokens", data={"csrf": secret, "role": "enrol", "label": "x"}
                )
            finally:
                held.execute("ROLLBACK")
                held.close()
    assert answer.status_code == 503 and is_page(answer)
    assert "<h1>Not now</h1>" in answer.text and "database does not answer" in answer.text


def test_a_fault_of_ours_is_told_on_a_page_without_a_word_of_it(
    fleet: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge_fleet.console import overview

    def broken(*_: object) -> None:
        raise RuntimeError("secret thing")

    monkeypatch.setattr(overview, "overview_page", broken)
    app = create_app(fleet.server)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=fleet.url) as client:
            await client.post("/console/login", data={"token": fleet.token("viewer")})
            return await client.get("/console")

    answer = asyncio.run(ask())
    assert answer.status_code == 500 and is_page(answer)
    assert "<h1>The server failed</h1>" in answer.text and "secret thing" not in answer.text


def test_a_wrong_password_costs_neither_the_name_nor_the_way(fleet: Running) -> None:
    name = person(fleet, "wanda", "viewer")
    form = {"name": name, "password": "not hers at all", "next": "/console/fleet?q=a"}
    answer = fleet.http.post("/console/login", data=form)
    assert answer.status_code == 401
    assert 'name="next" value="/console/fleet?q=a"' in answer.text and 'value="wanda"' in answer.text
    assert "not hers at all" not in answer.text
    good = httpx.post(f"{fleet.url}/console/login", data={**form, "password": PASSWORD}, trust_env=False)
    assert good.headers["location"] == "/console/fleet?q=a"


def test_who_guessed_too_often_still_has_the_form_and_the_time_to_wait(fleet: Running) -> None:
    form = {"name": "guessed", "password": "wrong again", "next": "/console/models"}
    answers = [fleet.http.post("/console/login", data=form) for _ in range(7)]
    assert answers[-1].status_code == 429 and int(answers[-1].headers["Retry-After"]) >= 1
    assert 'value="guessed"' in answers[-1].text and 'value="/console/models"' in answers[-1].text


def test_after_a_form_without_a_session_the_login_leads_back_to_its_page(fleet: Running) -> None:
    def sent(referer: str) -> str:
        answer = fleet.http.post(
            "/console/devices/cam-0/retry", data={"why": "x"}, headers={"Referer": referer}
        )
        assert answer.status_code == 401 and "nothing was done" in words(answer.text)
        return answer.text

    assert 'name="next" value="/console/devices/cam-0?span=day"' in sent(
        f"{fleet.url}/console/devices/cam-0?span=day"
    )
    for elsewhere in (
        "https://evil.example/console/fleet",
        f"{fleet.url}/api/v1/devices",
        "",
        "//x",
        "http://[",
    ):
        assert 'name="next"' not in sent(elsewhere), elsewhere


def test_a_refusal_leads_back_to_the_page_that_it_came_from(fleet: Running, viewer: httpx.Client) -> None:
    here = f"{fleet.url}/console/fleet?q=cam"
    page = viewer.get("/console/devices/nobody", headers={"Referer": here}).text
    assert 'href="/console/fleet?q=cam">Back to where you were' in page
    assert "Back to where you were" not in viewer.get("/console/devices/nobody").text


UPGRADED = """
import pathlib
from edge_fleet.console import rendering

def told(template):
    asked = dict(who=None, csrf="", error="away", navigation=(), head="Not now", back="")
    return rendering.page(template, 0, **asked, provider="", next_page="", name="").body.decode()

assert "Not now" in told("refused.html")
for file in pathlib.Path(rendering.__file__).with_name("templates").iterdir():
    file.write_text("{{ what_the_next_release_knows }}")
assert "Not now" in told("refused.html")  # shown before
assert "Log in" in told("login.html")  # not shown before
"""


def test_an_upgrade_beside_a_running_server_changes_no_page_of_it(tmp_path: Path) -> None:
    shutil.copytree(Path(edge_fleet.__file__).parent, tmp_path / "edge_fleet")
    done = subprocess.run(
        [sys.executable, "-c", UPGRADED],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
