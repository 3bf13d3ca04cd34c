"""How often somebody may ask, and the headers that every answer carries.

A credential that has proven good has a budget of its own; everything else is charged to the address that
it comes from, so that inventing credentials gains nothing. This machine's own programs are not limited: a
proxy on it must say whom it speaks for (X-Forwarded-For, which uvicorn believes from 127.0.0.1).
"""

from __future__ import annotations

import hashlib
import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_fleet.auth import charged_to
from edge_fleet.errors import TooManyAttempts

PER_S = 50.0
BURST = 500
_KEYS = 50_000  # the least recent are forgotten beyond; memory stays bounded
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
HSTS = "max-age=31536000"


class Budget:
    """A token bucket for each key: `burst` at once, `per_s` again each second."""

    def __init__(self, per_s: float = PER_S, burst: float = BURST) -> None:
        """Start with full buckets."""
        self._per_s, self._burst = per_s, burst
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, now_s: float) -> float:
        """Take one; 0 when there was one, else the seconds until there will be."""
        left, at_s = self._left.pop(key, (self._burst, now_s))
        left = min(self._burst, left + max(0.0, now_s - at_s) * self._per_s)
        taken = left >= 1
        self._left[key] = (left - 1 if taken else left, now_s)
        if len(self._left) > _KEYS:
            self._left.popitem(last=False)
        return 0.0 if taken else (1 - left) / self._per_s


def _told(_scope: Scope, error: TooManyAttempts) -> Response:
    return JSONResponse({"code": error.code, "message": str(error)}, error.status)


class RateLimit:
    """Answers 429 with Retry-After to those who ask too often."""

    def __init__(
        self,
        app: ASGIApp,
        cookie: str,
        budget: Budget,
        clock: Callable[[], float] = time.monotonic,
        refuse: Callable[[Scope, TooManyAttempts], Response] = _told,
    ) -> None:
        """Wrap an application.

        Args:
            cookie: Name of the one that may hold a credential.
            refuse: Makes the answer to one who asks too often.
        """
        self._app, self._cookie, self._budget, self._clock = app, cookie, budget, clock
        self._refuse = refuse
        self._proven: OrderedDict[str, None] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        address = scope["client"][0] if scope["type"] == "http" and scope.get("client") else ""
        if scope["type"] != "http" or _is_own(address):
            await self._app(scope, receive, send)
            return
        credential = self._credential(Headers(scope=scope))
        key = credential if credential in self._proven else f"address {charged_to(address)}"
        wait_s = self._budget.take(key, self._clock())
        if wait_s:
            error = TooManyAttempts("too many requests; see Retry-After", math.ceil(wait_s))
            answer = self._refuse(scope, error)
            answer.headers["Retry-After"] = str(error.retry_s)
            await answer(scope, receive, send)
            return
        scope.setdefault("state", {})["proven"] = False
        await self._app(scope, receive, send)
        if credential and scope["state"]["proven"]:
            self._proven.pop(credential, None)
            self._proven[credential] = None
            if len(self._proven) > _KEYS:
                self._proven.popitem(last=False)

    def _credential(self, headers: Headers) -> str:
        stated = headers.get("authorization", "")
        if not stated:
            try:
                morsel = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
            except CookieError:
                morsel = None
            stated = morsel.value if morsel else ""
        return hashlib.sha256(stated.encode()).hexdigest() if stated else ""


def secure(headers: MutableHeaders, scheme: str) -> None:
    """Add to an answer's headers what they do not say."""
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    if scheme == "https":
        headers.setdefault("Strict-Transport-Security", HSTS)


class SecureHeaders:
    """Adds to every answer what it does not say for itself."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                secure(MutableHeaders(scope=message), scope["scheme"])
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)


def _is_own(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
