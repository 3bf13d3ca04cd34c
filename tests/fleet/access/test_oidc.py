"""Logging in at a real identity provider, and what one that lies, or somebody in between, could try."""

from __future__ import annotations

import base64
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from cryptography.fernet import Fernet
from fleet_server import Running, client, fleet_server
from oidc_provider import IdentityProvider, identity_provider, way_back

from edge_fleet.access.oidc_provider import Once, challenge
from edge_fleet.api.access import COOKIE
from edge_fleet.brokers.child import free_loopback_port
from edge_fleet.console import oidc

GOOD = "correct horse battery"
SETTINGS = """\
format: edgefleet.oidc/1
issuer: {issuer}
client_id: fleet
client_secret_file: secret
public_url: {url}
label: the example company
role_claim: realm.roles
roles:
  fleet-admins: admin
  fleet-operators: operator
  everybody: viewer
"""
BEGIN = "/console/oidc/login"


@dataclass(frozen=True)
class World:
    """A server and the provider that it asks."""

    fleet: Running
    idp: IdentityProvider

    @contextmanager
    def browser(self) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=self.fleet.url, trust_env=False, timeout=30) as found:
            yield found

    def users(self) -> dict[str, dict[str, object]]:
        return {user["name"]: user for user in self.fleet.admin.get("/api/v1/users").json()}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with socket.socket() as held:  # the provider is told the address long before the server takes it
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", free_loopback_port()))
        yield from _at(tmp_path_factory.mktemp("oidc"), f"http://127.0.0.1:{held.getsockname()[1]}")


def _at(root: Path, url: str) -> Iterator[World]:
    people = {
        "ada": ["everybody", "fleet-admins"],
        "bob": ["fleet-operators"],
        "cat": ["everybody"],
        "dan": ["gardeners"],
        "eve": ["everybody"],
        "fay@example": ["everybody"],
        "gil": ["everybody"],
        "conductor": ["everybody"],
        "mal": ["fleet-operators"],
    }
    with identity_provider(root / "idp", {"fleet": ("s3cr+t &%", url)}, people) as idp:
        (root / "secret").write_text("s3cr+t &%\n")
        (root / "oidc.yaml").write_text(SETTINGS.format(issuer=idp.issuer, url=url))
        address = url.removeprefix("http://")
        with fleet_server(root / "home", http=address, oidc=str(root / "oidc.yaml")) as fleet:
            yield World(fleet, idp)


@pytest.fixture(autouse=True)
def _many_failures_from_one_address_are_what_is_tested_here(world: World) -> None:
    world.fleet.server.attempts._failures.clear()


def _enter(browser: httpx.Client, name: str, begin: str = BEGIN) -> httpx.Response:
    return browser.get(way_back(browser, begin, name))


def _said(answer: httpx.Response) -> str:
    found = re.search(r'role="alert"[^>]*>([^<]*)<', answer.text)
    assert found, answer.text
    return found.group(1).replace("&#39;", "'")


def test_somebody_logs_in_there_and_is_a_user_here_with_the_first_role_that_fits(world: World) -> None:
    with world.browser() as browser:
        assert "Log in with the example company" in browser.get("/console/login").text
        answer = _enter(browser, "ada")
        assert answer.status_code == 200, answer.text
        assert 'content="0; url=/console"' in answer.text
        flags = next(h for h in answer.headers.get_list("set-cookie") if h.startswith(COOKIE)).lower()
        assert "httponly" in flags and "samesite=strict" in flags
        assert "ada (admin)" in browser.get("/console").text
        assert oidc.COOKIE not in browser.cookies, "it has served"
    user = world.users()["ada"]
    assert (user["role"], user["issuer"], user["disabled_ms"]) == ("admin", world.idp.issuer, None)
    deeds = [(row["actor"], row["action"]) for row in world.fleet.admin.get("/api/v1/audit").json()]
    assert ("identity provider", "user added") in deeds and ("ada", "login by provider") in deeds


def test_the_way_out_has_state_nonce_and_a_challenge_and_no_secret(world: World) -> None:
    with world.browser() as browser:
        first, second = (browser.get(BEGIN, follow_redirects=False) for _ in range(2))
        asked = parse_qs(urlsplit(first.headers["location"]).query)
        assert asked["response_type"] == ["code"] and asked["code_challenge_method"] == ["S256"]
        assert asked["scope"] == ["openid profile"]
        assert asked["redirect_uri"] == [f"{world.fleet.url}/console/oidc/callback"]
        again = parse_qs(urlsplit(second.headers["location"]).query)
        assert all(asked[name] != again[name] for name in ("state", "nonce", "code_challenge"))
        cookie = first.headers["set-cookie"].lower()
        assert all(
            flag in cookie for flag in ("httponly", "samesite=lax", "path=/console/oidc", "max-age=600")
        )
        assert asked["state"][0].encode() not in base64.urlsafe_b64decode(browser.cookies[oidc.COOKIE] + "==")


def test_the_challenge_is_that_of_the_specification() -> None:
    """RFC 7636 appendix B."""
    assert challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == (
        "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    )


def test_a_role_that_changes_there_changes_here_at_the_next_login_and_ends_sessions(world: World) -> None:
    with world.browser() as first, world.browser() as second:
        _enter(first, "bob")
        assert "bob (operator)" in first.get("/console").text
        world.idp.regroup("bob", "everybody")
        _enter(second, "bob")
        assert "bob (viewer)" in second.get("/console").text
        assert first.get("/console").status_code == 303, "the session of the former role is over"
        refused = world.fleet.admin.post("/api/v1/users/bob", json={"role": "admin"})
        assert refused.status_code == 409 and "says at each login" in refused.json()["message"]
        world.idp.regroup("bob")
        with world.browser() as third:
            assert _enter(third, "bob").status_code == 403
        assert second.get("/console").status_code == 303, "who has no role any more is out"


def test_who_has_no_role_or_is_disabled_here_stays_out(world: World) -> None:
    with world.browser() as browser:
        answer = _enter(browser, "dan")
        assert answer.status_code == 403 and "gives you no role here" in _said(answer)
        assert "dan" not in world.users()
        _enter(browser, "cat")
        assert "cat (viewer)" in browser.get("/console").text
        assert world.fleet.admin.post("/api/v1/users/cat", json={"disabled": True}).status_code == 200
        assert browser.get("/console").status_code == 303
        answer = _enter(browser, "cat")
        assert answer.status_code == 403 and "cat is disabled here" in _said(answer)
        assert browser.get("/console").status_code == 303
        assert world.fleet.admin.post("/api/v1/users/cat", json={"disabled": False}).status_code == 200
        assert _enter(browser, "cat").status_code == 200


def test_a_name_that_is_taken_is_somebody_elses(world: World) -> None:
    local = {"name": "eve", "role": "admin", "password": GOOD}
    assert world.fleet.admin.post("/api/v1/users", json=local).status_code == 201
    with world.browser() as browser:
        _enter(browser, "eve")
        page = browser.get("/console").text
        assert re.search(r"eve-[0-9a-f]{12} \(viewer\)", page), "not the admin of this name"
        _enter(browser, "conductor")
        assert re.search(r"conductor-[0-9a-f]{12} \(viewer\)", browser.get("/console").text)
        _enter(browser, "fay@example")
        assert "fay (viewer)" in browser.get("/console").text
    login = world.fleet.http.post("/api/v1/login", json={"name": "eve", "password": GOOD})
    assert (login.status_code, login.json()["role"]) == (200, "admin"), "local users remain"
    assert world.fleet.http.post("/api/v1/login", json={"name": "fay", "password": ""}).status_code == 401


def test_an_admin_says_who_a_local_user_is_there(world: World) -> None:
    world.fleet.admin.post("/api/v1/users", json={"name": "gil", "role": "admin", "password": GOOD})
    with world.browser() as browser:
        _enter(browser, "gil")
        (stranger,) = (user for name, user in world.users().items() if name.startswith("gil-"))
        set_subject = {"subject": stranger["subject"]}
        taken = world.fleet.admin.post("/api/v1/users/gil", json=set_subject)
        assert taken.status_code == 409 and "is the user 'gil-" in taken.json()["message"]
        freed = world.fleet.admin.post(f"/api/v1/users/{stranger['name']}", json={"subject": ""})
        assert freed.status_code == 200
        assert browser.get("/console").status_code == 303, "sessions of before end"
        assert world.fleet.admin.post("/api/v1/users/gil", json=set_subject).status_code == 200
        _enter(browser, "gil")
        assert "gil (viewer)" in browser.get("/console").text, "the role is the provider's word"


LIES = {
    "none": "signature",
    "flipped": "signature",
    "unsigned-part": "signature",
    "hmac": "signature",
    "other-key": "signature is of no key that the provider publishes",
    "own-jwk": "signature",
    "audience": "claim aud is 'another-client', expected '",
    "audiences": "another client (azp)",
    "presenter": "another client (azp)",
    "no-audience": "lacks",
    "issuer": "claim iss is 'https://elsewhere.example', expected 'http://localhost:",
    "expired": "s ago by this server's clock",
    "no-expiry": "lacks",
    "future": "s in the future by this server's clock",
    "nonce": "claim nonce is another",
    "no-nonce": "lacks",
    "hash": "at_hash",
    "subject": "claim sub is another",
    "no-subject": "lacks",
    "thin": "gives you no role here",  # its userinfo would give one, and is not signed
}


@pytest.mark.parametrize("lie", LIES)
def test_an_id_token_that_is_not_for_this_login_opens_nothing(world: World, lie: str) -> None:
    with world.browser() as browser:
        back = way_back(browser, BEGIN, "mal")
        with world.idp.lying(lie):
            answer = browser.get(back)
        assert answer.status_code == 403, answer.text
        assert LIES[lie] in _said(answer)
        assert COOKIE not in browser.cookies
    assert "mal" not in world.users()


def test_the_same_provider_without_a_lie_is_believed(world: World) -> None:
    """Else the test before could not tell a lie from a fault of its own."""
    with world.browser() as browser, world.idp.lying("the truth after all"):
        assert _enter(browser, "mal").status_code == 200
    assert "mal" in world.users()


def test_an_answer_that_this_browser_did_not_ask_for_opens_nothing(world: World) -> None:
    with world.browser() as attacker, world.browser() as victim:
        back = way_back(attacker, BEGIN, "ada")
        answer = victim.get(back)
        assert answer.status_code == 403 and "has begun no login" in _said(answer)
        victim.get(BEGIN, follow_redirects=False)
        answer = victim.get(back)
        assert answer.status_code == 403 and "another login than this browser began" in _said(answer)
        # the attacker's code with the victim's own state: PKCE ties a code to who began
        own = way_back(victim, BEGIN, "cat")
        code, state = (
            parse_qs(urlsplit(url).query)[name][0] for url, name in ((back, "code"), (own, "state"))
        )
        answer = victim.get("/console/oidc/callback", params={"code": code, "state": state})
        assert answer.status_code == 403 and "refuses the code: invalid_grant" in _said(answer)
        assert COOKIE not in victim.cookies


def test_an_answer_serves_once(world: World) -> None:
    with world.browser() as browser:
        back = way_back(browser, BEGIN, "ada")
        login = browser.cookies[oidc.COOKIE]
        assert browser.get(back).status_code == 200
        for cookie in (None, login):
            with world.browser() as again:
                if cookie:
                    again.cookies.set(oidc.COOKIE, cookie)
                answer = again.get(back)
                assert answer.status_code == 403 and COOKIE not in again.cookies
                assert ("finished" if cookie else "has begun no login") in _said(answer)
        # and the provider takes no code twice, whoever asks
        with world.browser() as other:
            state = parse_qs(urlsplit(other.get(BEGIN, follow_redirects=False).headers["location"]).query)[
                "state"
            ]
            code = parse_qs(urlsplit(back).query)["code"][0]
            answer = other.get("/console/oidc/callback", params={"code": code, "state": state[0]})
            assert answer.status_code == 403 and "refuses the code" in _said(answer)


def test_states_are_remembered_up_to_a_bound() -> None:
    once = Once()
    assert once.first("a") and not once.first("a")
    for n in range(Once.MOST):
        once.first(str(n))
    assert len(once._seen) == Once.MOST


def test_a_login_is_sealed_by_this_server_and_ends_after_ten_minutes(world: World) -> None:
    server = world.fleet.server
    text = json.dumps(
        {"state": "s", "nonce": "n", "verifier": "v", "next_page": "https://evil.example"}
    ).encode()
    ours = Fernet(base64.urlsafe_b64encode(server.keys.login_key()))
    old = ours.encrypt_at_time(text, server.now_ms() // 1000 - oidc.LIFE_S - 1)
    for cookie in (old, Fernet(Fernet.generate_key()).encrypt(text), b"x", b"", "\u00e9".encode("latin-1")):
        headers = {b"Cookie": b"edgefleet_login=" + cookie}
        answer = httpx.get(
            f"{world.fleet.url}/console/oidc/callback?state=s&code=c", headers=headers, trust_env=False
        )
        assert answer.status_code == 403 and "has begun no login" in _said(answer)


def test_an_answer_of_another_issuer_is_refused(world: World) -> None:
    with world.browser() as browser:
        back = way_back(browser, BEGIN, "ada")
        answer = browser.get(f"{back}&iss=https://elsewhere.example")
        assert answer.status_code == 403 and "another issuer" in _said(answer)
        own = way_back(browser, BEGIN, "ada")
        assert browser.get(own, params={**_query(own), "iss": world.idp.issuer}).status_code == 200


def _query(url: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


def test_what_the_provider_refuses_is_told_plainly(world: World) -> None:
    with world.browser() as browser:
        for error in ("access_denied", "<script>alert(1)</script>"):
            state = _query(browser.get(BEGIN, follow_redirects=False).headers["location"])["state"]
            answer = browser.get("/console/oidc/callback", params={"state": state, "error": error})
            assert answer.status_code == 403 and "<script>alert" not in answer.text
            assert "lets you not in" in _said(answer)


@pytest.mark.parametrize(
    ("wanted", "leads_to"),
    [
        ("/console/releases", "/console/releases"),
        ("/console?q=a%20b&amp;page=2", "/console?q=a%20b&amp;amp;page=2"),
        ("https://evil.example", "/console"),
        ("//evil.example", "/console"),
        ("/console/../../evil", "/console/../../evil"),  # of this server whatever a browser makes of it
    ],
)
def test_a_login_leads_to_a_page_of_the_console_and_nowhere_else(
    world: World, wanted: str, leads_to: str
) -> None:
    with world.browser() as browser:
        url = str(httpx.URL(BEGIN, params={"next": wanted}))
        assert f'content="0; url={leads_to}"' in _enter(browser, "ada", url).text


def test_logging_out_shows_the_way_out_of_the_provider_too(world: World) -> None:
    with world.browser() as browser:
        _enter(browser, "ada")
        session = browser.cookies[COOKIE]
        csrf = browser.get("/console").text.split('name="csrf" value="')[1].split('"')[0]
        page = browser.post("/console/logout", data={"csrf": csrf})
        assert page.status_code == 200 and COOKIE not in browser.cookies
        elsewhere = page.text.split('class="button" href="')[1].split('"')[0].replace("&amp;", "&")
        assert elsewhere.startswith(f"{world.idp.issuer}/logout/?")
        assert _query(elsewhere)["post_logout_redirect_uri"] == f"{world.fleet.url}/console/login"
        assert browser.get(elsewhere).status_code == 200, "the provider knows us, and asks"
    with client(world.fleet.url, session) as who:
        assert who.get("/api/v1/devices").status_code == 401


def test_a_local_user_who_logs_out_is_led_to_the_login(world: World) -> None:
    world.fleet.admin.post("/api/v1/users", json={"name": "ida", "role": "viewer", "password": GOOD})
    with world.browser() as browser:
        browser.post("/console/login", data={"name": "ida", "password": GOOD})
        csrf = browser.get("/console").text.split('name="csrf" value="')[1].split('"')[0]
        answer = browser.post("/console/logout", data={"csrf": csrf})
        assert (answer.status_code, answer.headers["location"]) == (303, "/console/login")


def test_without_a_provider_there_is_no_way_to_one_and_nothing_of_it_is_loaded(fleet: Running) -> None:
    for path in ("login", "callback"):
        answer = fleet.http.get(f"/console/oidc/{path}")
        assert answer.status_code == 404 and "no identity provider" in answer.text
    assert "/console/oidc" not in fleet.http.get("/console/login").text
    assert fleet.admin.post("/api/v1/users/x", json={"subject": "1"}).status_code == 409
    code = "import sys, edge_fleet.serve, edge_fleet.cli; sys.exit('joserfc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
