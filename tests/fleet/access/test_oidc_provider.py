"""A provider that does not answer as one: a plain word, no redirect followed, and no thread held."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fleet_device import eventually

from edge_fleet.access.oidc_provider import AWAY_MS, DISCOVERY, KEPT_MS, MAX_BYTES, Provider
from edge_fleet.access.oidc_settings import Client, OidcSettings
from edge_fleet.auth import Role
from edge_fleet.errors import LoginRefused, ProviderUnreachable, TooManyAttempts


@dataclass
class Answers:
    """What a server answers by path, and what it was asked."""

    url: str = ""
    by_path: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    held: threading.Event = field(default_factory=threading.Event)

    def discover(self, **changes: object) -> None:
        said = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
        }
        self.by_path[DISCOVERY] = 200, json.dumps({**said, **changes}).encode()


@pytest.fixture
def answers() -> Iterator[Answers]:
    found = Answers()
    found.held.set()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            found.asked.append((self.path, self.headers.get("Authorization", ""), body))
            found.held.wait(30)
            status, content = found.by_path.get(self.path, (404, b"{}"))
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", "/moved")
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _answer

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    found.url = f"http://127.0.0.1:{server.server_address[1]}"
    found.discover()
    yield found
    found.held.set()
    server.shutdown()
    server.server_close()
    thread.join()


def _provider(answers: Answers, secret: str = "") -> Provider:
    settings = OidcSettings(
        format="edgefleet.oidc/1",
        issuer=answers.url,
        client_id="a b",
        public_url="https://fleet.example",
        roles={"x": Role.VIEWER},
    )
    return Provider(Client(settings, secret))


def _claims(provider: Provider) -> object:
    return provider.claims("code", "nonce", "verifier", 0)


@pytest.mark.parametrize(
    ("status", "content", "says"),
    [
        (500, b"{}", "answers 500"),
        (302, b"", "answers 302"),
        (200, b"<html>", "expected a JSON object"),
        (200, b"[]", "expected a JSON object"),
        (200, b"[" * 100_000, "expected a JSON object"),
        (200, b"{}", "issuer: Field required"),
        (200, b" " * (MAX_BYTES + 1), "more than"),
    ],
)
def test_a_document_that_is_none_is_told_in_a_line(
    answers: Answers, status: int, content: bytes, says: str
) -> None:
    answers.by_path[DISCOVERY] = status, content
    with pytest.raises(ProviderUnreachable, match=says) as refusal:
        _provider(answers).metadata(0)
    assert "\n" not in str(refusal.value) and refusal.value.status == 503
    assert [path for path, _, _ in answers.asked] == [DISCOVERY], "no redirect is followed"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"issuer": "https://elsewhere.example"}, "is of the issuer 'https://elsewhere.example'"),
        ({"token_endpoint": "http://elsewhere.example/token"}, "token_endpoint: .*expected an https URL"),
        ({"jwks_uri": "file:///etc/keys"}, "jwks_uri: .*expected an https URL"),
        ({"authorization_endpoint": 1}, "authorization_endpoint"),
    ],
)
def test_a_document_of_another_or_with_ways_that_others_read_is_refused(
    answers: Answers, changes: dict[str, object], says: str
) -> None:
    answers.discover(**changes)
    with pytest.raises(ProviderUnreachable, match=says):
        _provider(answers).metadata(0)


def test_the_document_is_kept_for_a_while_and_a_failure_for_a_moment(answers: Answers) -> None:
    provider = _provider(answers)
    for now_ms in (0, KEPT_MS - 1, KEPT_MS):
        provider.metadata(now_ms)
    assert len(answers.asked) == 2
    answers.by_path.clear()
    now_ms = 2 * KEPT_MS
    for later in (0, AWAY_MS - 1, AWAY_MS):
        with pytest.raises(ProviderUnreachable):
            provider.metadata(now_ms + later)
    assert len(answers.asked) == 4, "strangers who ask again and again do not make us ask"
    answers.discover()
    assert provider.metadata(now_ms + 2 * AWAY_MS).issuer == answers.url


def test_nobody_waits_for_the_one_who_asks(answers: Answers) -> None:
    provider = _provider(answers)
    answers.held.clear()
    asking = threading.Thread(target=provider.metadata, args=(0,))
    asking.start()
    eventually(lambda: answers.asked, "the first to ask")
    with pytest.raises(ProviderUnreachable, match="just now"):
        provider.metadata(0)
    with pytest.raises(TooManyAttempts, match="being asked"):
        provider.metadata(AWAY_MS)
    answers.held.set()
    asking.join()
    assert provider.metadata(0)


def test_the_secret_goes_to_the_token_endpoint_as_the_provider_wants_it(answers: Answers) -> None:
    import base64

    answers.by_path["/token"] = 400, b'{"error": "invalid_grant"}'
    for secret, methods in (("s:c%", None), ("s:c%", ["client_secret_post"]), ("", None)):
        answers.discover(**({"token_endpoint_auth_methods_supported": methods} if methods else {}))
        with pytest.raises(LoginRefused, match="refuses the code: invalid_grant"):
            _claims(_provider(answers, secret))
    basic, posted, public = (asked for asked in answers.asked if asked[0] == "/token")
    assert base64.b64decode(basic[1].removeprefix("Basic ")) == b"a+b:s%3Ac%25", "RFC 6749 section 2.3.1"
    assert "client_secret" not in basic[2] and "code_verifier=verifier" in basic[2]
    assert posted[1] == "" and "client_secret=s%3Ac%25" in posted[2]
    assert public[1] == "" and "client_secret" not in public[2] and "client_id=a+b" in public[2]


@pytest.mark.parametrize(
    ("token", "keys", "says"),
    [
        ({"access_token": "x"}, {"keys": []}, "no ID token"),
        ({"id_token": 1}, {"keys": []}, "no ID token"),
        ({"id_token": "x.y"}, {"keys": []}, "signature"),
        ({"id_token": "x.y.z"}, {"keys": "none"}, "has no keys"),
        ({"id_token": "x.y.z"}, {}, "has no keys"),
        ({"id_token": "x" * 100_000}, {"keys": []}, "at most"),
        ({"id_token": "e30.e30.e30.e30.e30"}, {"keys": [{"kty": "oct", "k": "AAAA"}]}, "signature"),
    ],
)
def test_an_answer_without_a_good_token_lets_nobody_in(
    answers: Answers, token: dict[str, object], keys: dict[str, object], says: str
) -> None:
    answers.by_path["/token"] = 200, json.dumps(token).encode()
    answers.by_path["/keys"] = 200, json.dumps(keys).encode()
    with pytest.raises(LoginRefused, match=says):
        _claims(_provider(answers))


def test_a_provider_that_is_away_says_so_and_is_named(answers: Answers) -> None:
    provider = _provider(answers)
    provider.metadata(0)
    answers.by_path["/token"] = 503, b"busy"
    with pytest.raises(ProviderUnreachable, match="/token answers 503"):
        _claims(provider)


def test_an_issuer_that_is_promised_must_be_stated(answers: Answers) -> None:
    """RFC 9207 section 2.4."""
    _provider(answers).require_issuer(None, 0)
    answers.discover(authorization_response_iss_parameter_supported=True)
    provider = _provider(answers)
    for stated in (None, "", "https://elsewhere.example", answers.url + "/"):
        with pytest.raises(LoginRefused, match="another issuer"):
            provider.require_issuer(stated, 0)
    provider.require_issuer(answers.url, 0)


def test_a_provider_without_a_way_out_has_none(answers: Answers) -> None:
    assert _provider(answers).logout(0) is None
