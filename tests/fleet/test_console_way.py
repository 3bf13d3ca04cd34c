"""Where a login leads to: the page that was asked for, and never somebody else's."""

from __future__ import annotations

import httpx
import pytest
from fleet_server import Running

from edge_fleet.console.way import login_at, parted, safe_next


@pytest.mark.parametrize(
    "page",
    [
        "/console",
        "/console/",
        "/console?q=lab&page=2",
        "/console/devices/cam-0",
        "/console/rollouts/r1?x=%2F%2Fevil",
        "/console/loginpage",
    ],
)
def test_a_page_of_the_console_is_led_to(page: str) -> None:
    assert safe_next(page, "no") == page


@pytest.mark.parametrize(
    "page",
    [
        "",
        "console",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "/console\\..\\evil",
        "/console//evil.example",
        "https://evil.example/console",
        "/consolevil",
        "/console@evil.example",
        "/console.evil.example",
        "/console/x\r\nSet-Cookie: a=b",
        "/console/x\n",
        "/console/x y",
        "/console/\u2028",
        " /console",
        "\t//evil.example",
        "javascript:alert(1)",
        "/console/login",
        "/console/logout",
        "/console/oidc/login?next=/console",
        "/console/" + "x" * 2000,
    ],
)
def test_anything_else_leads_to_the_first_page(page: str) -> None:
    assert safe_next(page) == "/console"


def test_the_login_knows_the_way_back() -> None:
    assert login_at("/console", "") == "/console/login"
    assert login_at("/console/devices/a", "") == "/console/login?next=%2Fconsole%2Fdevices%2Fa"
    assert login_at("/console", "q=a&page=2") == "/console/login?next=%2Fconsole%3Fq%3Da%26page%3D2"
    assert login_at("/console//evil.example", "") == "/console/login"


def test_who_is_asked_to_log_in_comes_to_the_page_that_was_wanted(fleet: Running) -> None:
    token = fleet.token("viewer")
    with httpx.Client(base_url=fleet.url, trust_env=False) as browser:
        asked = browser.get("/console/rollouts?x=1&y=%22")
        assert asked.headers["location"] == "/console/login?next=%2Fconsole%2Frollouts%3Fx%3D1%26y%3D%2522"
        form = browser.get(asked.headers["location"]).text
        assert 'name="next" value="/console/rollouts?x=1&amp;y=%22"' in form
        sent = {"token": token, "next": "/console/rollouts?x=1&y=%22"}
        assert browser.post("/console/login", data=sent).headers["location"] == sent["next"]
        evil = browser.post("/console/login", data={"token": token, "next": "//evil.example"})
        assert evil.headers["location"] == "/console"
        assert "evil" not in browser.get("/console/login?next=//evil.example").text


@pytest.mark.parametrize(
    ("address", "host", "page"),
    [
        ("https://fleet.example/console?q=a#top", "fleet.example", "/console?q=a"),
        ("http://127.0.0.1:8080", "127.0.0.1:8080", ""),
        ("http://[::1]:8080/console", "[::1]:8080", "/console"),
        ("http://[", "[", ""),  # urllib fails on this one
        ("null", "", ""),
        ("https://fleet.example@evil.example/", "", ""),
        ("javascript:alert(1)", "", ""),
        ("", "", ""),
    ],
)
def test_an_address_is_taken_apart_whatever_it_is(address: str, host: str, page: str) -> None:
    assert parted(address) == (host, page)


@pytest.mark.parametrize("origin", ["http://[", "null", "", "https://evil.example", "http://[]:x"])
def test_a_form_from_elsewhere_is_refused_whatever_it_calls_itself(fleet: Running, origin: str) -> None:
    answer = fleet.http.post("/console/login", data={"token": "x"}, headers={"Origin": origin})
    assert answer.status_code == 403 and "another site" in answer.text
