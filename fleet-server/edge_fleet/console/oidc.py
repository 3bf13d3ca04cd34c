"""Logging in at an identity provider: out to it, and back with a code.

What belongs to one login (state, nonce, PKCE's verifier, the page that was wanted) travels in a cookie that
only this server can read or make, for ten minutes and for one use: a code that comes back to another
browser, or a second time, opens nothing. The cookie is `SameSite=Lax`, since it must come along when the
provider sends the browser back; the session's own is `Strict`, so the answer is a page of ours that goes
on by itself: a redirect would still count as the provider's, and would go without the session.
"""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

from cryptography.fernet import Fernet, InvalidToken
from fastapi import Query, Request, Response
from fastapi.responses import RedirectResponse

from edge_fleet.access import users
from edge_fleet.api.access import client_of, refused, shared
from edge_fleet.console import rendering, session
from edge_fleet.console.page import make_router
from edge_fleet.console.session import Session
from edge_fleet.console.way import safe_next
from edge_fleet.errors import LoginRefused, NotFound, ProviderUnreachable, TooManyAttempts
from edge_fleet.services import Server

if TYPE_CHECKING:
    from edge_fleet.access.oidc_provider import Provider

router = make_router()

COOKIE = "edgefleet_login"
PATH = "/console/oidc"
LIFE_S = 600
Word = Annotated[str, Query(max_length=4000)]


@dataclass(frozen=True)
class Login:
    """One that is under way."""

    state: str
    nonce: str
    verifier: str
    next_page: str


@router.get(f"{PATH}/login")
def begin(request: Request, next_page: Annotated[str, Query(alias="next", max_length=2000)] = "") -> Response:
    """Send a browser to the identity provider."""
    services, provider = shared(request), _provider(request)
    # RFC 7636 section 4.1: a verifier has 43 characters or more, which 32 bytes give
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    login = Login(state, nonce, verifier, safe_next(next_page))
    answer = RedirectResponse(provider.authorization(state, nonce, verifier, services.now_ms()), 303)
    answer.set_cookie(
        COOKIE,
        _sealed(services, login),
        max_age=LIFE_S,
        path=PATH,
        httponly=True,
        samesite="lax",
        secure=provider.settings.public_url.startswith("https:"),
    )
    return answer


@router.get(f"{PATH}/callback")
def finish(
    request: Request,
    state: Word = "",
    code: Word = "",
    error: Word = "",
    iss: Annotated[str | None, Query(max_length=500)] = None,
) -> Response:
    """Take somebody in whom the identity provider sends back."""
    from edge_fleet.access import oidc_people
    from edge_fleet.access.oidc_provider import printable

    services, provider = shared(request), _provider(request)
    try:
        login = _opened(request, state)
        provider.require_issuer(iss, services.now_ms())
        if error or not code:
            raise LoginRefused(f"the identity provider lets you not in: {printable(error or 'no code')}")
        claims = provider.claims(code, login.nonce, login.verifier, services.now_ms())
        opened = oidc_people.log_in(services, provider.settings, claims, client_of(request))
    except LoginRefused as fault:
        raise refused(request, services, fault) from None
    answer = rendering.page("entering.html", services.now_ms(), who=None, next_page=login.next_page)
    session.begin(request, answer, opened.secret)
    answer.delete_cookie(COOKIE, path=PATH, httponly=True, samesite="lax")
    return answer


def _provider(request: Request) -> Provider:
    provider = shared(request).provider
    if provider is None:
        raise NotFound("this server has no identity provider; see edge-fleet serve --oidc")
    return provider


def _seal(services: Server) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(services.keys.login_key()))


def _sealed(services: Server, login: Login) -> str:
    text = json.dumps(asdict(login)).encode()
    return _seal(services).encrypt_at_time(text, services.now_ms() // 1000).decode()


def _opened(request: Request, state: str) -> Login:
    """The login that a browser began and has not finished; now it has.

    Raises:
        LoginRefused: It began none, or another one, or too long ago, or has finished it.
    """
    services, cookie = shared(request), request.cookies.get(COOKIE, "")
    try:
        text = _seal(services).decrypt_at_time(cookie.encode(), LIFE_S, services.now_ms() // 1000)
    except (InvalidToken, UnicodeError):
        raise LoginRefused("this browser has begun no login in the last ten minutes; begin again") from None
    login = Login(**json.loads(text))
    if not secrets.compare_digest(login.state.encode(), state.encode()):
        raise LoginRefused("the answer is to another login than this browser began; begin again")
    if not _provider(request).finished.first(login.state):
        raise LoginRefused("this login is finished; begin again")
    return login


def logged_out(request: Request, visitor: Session) -> Response | None:
    """The page for somebody who is logged in at the provider still; None for everybody else.

    A page and a link: a form of ours may lead nowhere else, which the policy of our pages says.
    """
    services = shared(request)
    provider = services.provider
    if provider is None or not visitor.who.user:
        return None
    with services.store.read() as connection:
        issuer = users.require(connection, visitor.who.user).issuer
    if issuer != provider.settings.issuer:
        return None
    try:
        elsewhere = provider.logout(services.now_ms())
    except (ProviderUnreachable, TooManyAttempts):
        return None
    if elsewhere is None:
        return None
    label = provider.settings.label
    return rendering.page("left.html", services.now_ms(), who=None, provider=label, elsewhere=elsewhere)
