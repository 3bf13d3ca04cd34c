from __future__ import annotations

import asyncio

import httpx
import pytest
from fleet_server import Running
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from edge_fleet.access.limits import HEADERS, Budget, RateLimit, SecureHeaders
from edge_fleet.app import create_app


def test_a_bucket_empties_and_fills_again_and_never_overflows() -> None:
    budget = Budget(per_s=2, burst=3)
    assert [budget.take("a", 0) for _ in range(4)] == [0, 0, 0, 0.5]
    assert budget.take("b", 0) == 0
    assert budget.take("a", 0.25) == 0.25
    assert budget.take("a", 0.5) == 0
    assert [budget.take("a", 1000) for _ in range(4)] == [0, 0, 0, 0.5]
    assert budget.take("a", 0) == 0.5, "a clock that goes back gives nothing"


def test_addresses_without_end_do_not_fill_the_memory() -> None:
    budget = Budget()
    for n in range(51_000):
        budget.take(str(n), 0)
    assert len(budget._left) == 50_000


async def _inner(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        scope["state"] = scope.get("state", {})
        secret = Request(scope).headers.get("authorization") or Request(scope).cookies.get("c")
        scope["state"]["proven"] = secret in ("Bearer good", "good")
        await PlainTextResponse("ok")(scope, receive, send)


def _ask(app: RateLimit, times: int, address: str = "192.0.2.1", **headers: str) -> list[int]:
    async def ask() -> list[int]:
        transport = httpx.ASGITransport(app=app, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://x", headers=headers) as client:
            return [(await client.get("/")).status_code for _ in range(times)]

    return asyncio.run(ask())


@pytest.fixture
def limited() -> RateLimit:
    return RateLimit(_inner, "c", Budget(per_s=1, burst=3), clock=lambda: 0.0)


def test_who_asks_too_often_is_told_when_to_ask_again(limited: RateLimit) -> None:
    assert _ask(limited, 4) == [200, 200, 200, 429]
    assert _ask(limited, 1, address="192.0.2.2") == [200]


def test_a_network_of_ipv6_is_one_host(limited: RateLimit) -> None:
    answers = [_ask(limited, 1, address=f"2001:db8::{n:x}:1")[0] for n in range(1, 6)]
    assert answers == [200, 200, 200, 429, 429]
    assert _ask(limited, 1, address="2001:db8:0:1::1") == [200]


def test_an_ipv4_address_is_the_same_however_it_is_written(limited: RateLimit) -> None:
    addresses = ["192.0.2.1", "::ffff:192.0.2.1", "::ffff:c000:201", "192.0.2.1"]
    assert [_ask(limited, 1, address=one)[0] for one in addresses] == [200, 200, 200, 429]
    assert _ask(limited, 1, address="::ffff:192.0.2.2") == [200]


def test_invented_credentials_gain_nothing(limited: RateLimit) -> None:
    answers = [_ask(limited, 1, authorization=f"Bearer {n}")[0] for n in range(5)]
    assert answers == [200, 200, 200, 429, 429]


def test_a_wrong_credential_gains_nothing_by_being_shown_again(limited: RateLimit) -> None:
    assert _ask(limited, 5, authorization="Bearer bad") == [200, 200, 200, 429, 429]


@pytest.mark.parametrize("headers", [{"authorization": "Bearer good"}, {"cookie": "a=b; c=good"}])
def test_a_good_credential_has_a_budget_of_its_own(limited: RateLimit, headers: dict[str, str]) -> None:
    assert _ask(limited, 5, **headers) == [200] * 4 + [429], "the first is charged to the address"
    assert _ask(limited, 3) == [200, 200, 429]
    assert _ask(limited, 1, address="192.0.2.9", **headers) == [429]


def test_a_cookie_that_is_none_is_no_failure(limited: RateLimit) -> None:
    assert _ask(limited, 1, cookie="=;[]\\,;;c") == [200]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_this_machines_own_programs_are_not_limited(limited: RateLimit, address: str) -> None:
    assert _ask(limited, 10, address=address) == [200] * 10


def test_the_server_limits_who_comes_from_elsewhere(fleet: Running) -> None:
    app = create_app(fleet.server, Budget(per_s=0.1, burst=4))
    token = {"Authorization": f"Bearer {fleet.token('viewer')}"}

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=app, client=("192.0.2.77", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            good = [await client.get("/api/v1/devices", headers=token) for _ in range(2)]
            return good + [await client.get("/healthz") for _ in range(4)]

    answers = asyncio.run(ask())
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 200, 429]
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 10
    assert answers[-1].headers["X-Content-Type-Options"] == "nosniff"


def test_every_answer_has_the_headers(fleet: Running) -> None:
    for path in ("/healthz", "/api/v1/devices", "/api/v1/nothing", "/openapi.json", "/console/login"):
        headers = fleet.http.get(path).headers
        for name in HEADERS:
            assert name in headers, f"{path} {name}"
        assert "'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert "Strict-Transport-Security" not in headers
    static = fleet.http.get("/console/login").text.split('href="/console/static/')[1].split('"')[0]
    assert "immutable" in fleet.http.get(f"/console/static/{static}").headers["Cache-Control"]


def test_over_https_the_browser_is_told_to_stay_there() -> None:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=SecureHeaders(_inner))
        async with httpx.AsyncClient(transport=transport, base_url="https://x") as client:
            return await client.get("/")

    assert "max-age" in asyncio.run(ask()).headers["Strict-Transport-Security"]
