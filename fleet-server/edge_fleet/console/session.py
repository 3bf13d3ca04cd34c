"""Who sits at the console: a login with an API token becomes a short-lived session.

The session is itself a token, in a cookie that scripts cannot read and other sites cannot send. It is
worth nothing once the token that it was opened with is revoked. Forms carry a second secret that is
derived from it, so that a page elsewhere cannot fill one in.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from urllib.parse import urlsplit

from fastapi import Request, Response
from sqlalchemy import update

from edge_fleet.api.access import COOKIE, refused, shared
from edge_fleet.audit import record
from edge_fleet.auth import Principal, Right, authenticate, find_token, make_token
from edge_fleet.errors import Forbidden, Unauthorized
from edge_fleet.schema import tokens

SESSION_S = 12 * 3600  # a working day


@dataclass(frozen=True)
class Session:
    """Somebody who is logged in.

    Args:
        csrf: What every form must bring back.
    """

    who: Principal
    csrf: str


def log_in(request: Request, response: Response, secret: str) -> None:
    """Open a session for the holder of an API token and set its cookie.

    Raises:
        Unauthorized: The token is not known, has expired or was revoked.
        Forbidden: The form came from another site, or the token may not read.
    """
    require_same_origin(request)
    services = shared(request)
    now_ms = services.now_ms()
    try:
        with services.store.write() as connection:
            who = authenticate(connection, secret.strip(), now_ms)
            if not who.may(Right.READ):
                raise Forbidden(f"a token of role {who.role} cannot use the console; ask for a viewer's")
            row = find_token(connection, secret.strip(), now_ms)
            expires_ms = min(now_ms + 1000 * SESSION_S, row.expires_ms or now_ms + 1000 * SESSION_S)
            session = make_token(
                connection, who.role, row.label, now_ms, expires_ms, parent=row.parent or row.id
            )
            record(connection, who.name, "console login", session.id, now_ms)
    except Unauthorized as error:
        raise refused(request, services, error) from None
    response.set_cookie(
        COOKIE,
        session.secret,
        max_age=SESSION_S,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )


def log_out(request: Request, response: Response) -> None:
    """End the session, here and in the browser."""
    services = shared(request)
    now_ms = services.now_ms()
    with services.store.write() as connection:
        row = find_token(connection, request.cookies[COOKIE], now_ms)
        if row.parent is not None:  # only a session ends; a token that was put into the cookie does not
            connection.execute(update(tokens).where(tokens.c.id == row.id).values(revoked_ms=now_ms))
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")


def current(request: Request) -> Session:
    """The session of a request.

    Raises:
        Unauthorized: There is none, or it has ended.
    """
    secret = request.cookies.get(COOKIE)
    if not secret:
        raise Unauthorized("log in to see this page")
    services = shared(request)
    with services.store.read() as connection:
        who = authenticate(connection, secret, services.now_ms())
    return Session(who, hmac.digest(secret.encode(), b"edge-fleet console form", hashlib.sha256).hex())


def require_form(request: Request, session: Session, csrf: str) -> None:
    """Make sure that a form was ours and its sender may do what it asks for.

    Raises:
        Forbidden: It came from elsewhere, or the role does not allow it.
    """
    require_same_origin(request)
    if not hmac.compare_digest(session.csrf.encode(), csrf.encode()):
        raise Forbidden("this form is not of this session; load the page again")


def require_same_origin(request: Request) -> None:
    """Refuse what another site's page sends; browsers state where a form came from.

    Raises:
        Forbidden: It came from elsewhere.
    """
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("Host"):
        raise Forbidden("this form came from another site")
