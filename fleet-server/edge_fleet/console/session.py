"""Who sits at the console: a login by password or API token becomes a session.

The session is itself a token, in a cookie that scripts cannot read and other sites cannot send. It is over
after an hour without use, at the end of a working day, and with the token that it was opened with; its
secret changes as it is used (`access/sessions.py`). Forms carry a second secret, the same while the session
lasts, so that a page elsewhere cannot fill one in.
"""

from __future__ import annotations

import hmac
from contextlib import suppress
from dataclasses import dataclass

from fastapi import Request, Response

from edge_fleet.access import logins, sessions
from edge_fleet.access.logins import SESSION_S
from edge_fleet.api.access import COOKIE, client_of, refused, shared
from edge_fleet.audit import record
from edge_fleet.auth import (
    NewToken,
    Principal,
    Right,
    authenticate,
    find_token,
    is_stale,
    make_token,
    used,
)
from edge_fleet.console.way import parted
from edge_fleet.errors import Forbidden, Unauthorized
from edge_fleet.services import Server


@dataclass(frozen=True)
class Session:
    """Somebody who is logged in.

    Args:
        csrf: What every form must bring back.
    """

    who: Principal
    csrf: str


def log_in(request: Request, response: Response, name: str, secret: str) -> None:
    """Open a session for a user, or for the holder of an API token, and set its cookie.

    It has an identifier of its own, and the one that the browser had is over: nobody can plant one.

    Args:
        name: A user's; "" when `secret` is a token.

    Raises:
        Unauthorized: The token, or name and password, are not known.
        TooManyAttempts: Too many failures.
        Forbidden: The form came from another site, or the token may not read everything.
    """
    require_same_origin(request)
    services = shared(request)
    try:
        if name:
            session = logins.log_in(services, services.patience, name, secret, client_of(request))
        else:
            session = _by_token(services, secret.strip(), client_of(request))
    except Unauthorized as error:
        raise refused(request, services, error) from None
    begin(request, response, session.secret)


def begin(request: Request, response: Response, secret: str) -> None:
    """Give a browser a session that was just opened; the one that it had is over."""
    _end(request)
    set_cookie(request, response, secret)


def set_cookie(request: Request, response: Response, secret: str) -> None:
    """Put a session's secret where scripts cannot read it and other sites cannot send it."""
    response.set_cookie(
        COOKIE,
        secret,
        max_age=SESSION_S,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )


def _by_token(services: Server, secret: str, client: str) -> NewToken:
    now_ms = services.now_ms()
    with services.store.write() as connection:
        who = authenticate(connection, secret, now_ms)
        if not who.may(Right.READ):
            raise Forbidden(
                f"a token of role {who.role} with these scopes cannot use the console; ask for a viewer's"
            )
        row = find_token(connection, secret, now_ms)
        session = make_token(
            connection,
            who.role,
            row.label,
            now_ms,
            min(now_ms + 1000 * SESSION_S, row.expires_ms or now_ms + 1000 * SESSION_S),
            parent=row.parent or row.id,
            owner=row.owner,
            is_session=True,
            client=client,
        )
        record(connection, who.name, "console login", session.id, now_ms, client=client)
    return session


def log_out(request: Request, response: Response) -> None:
    """End the session, here and in the browser."""
    _end(request)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")


def _end(request: Request) -> None:
    """End the session of a browser, if it has one; a token that was put into the cookie stays."""
    services = shared(request)
    now_ms = services.now_ms()
    with suppress(Unauthorized), services.store.write() as connection:
        who = authenticate(connection, request.cookies.get(COOKIE, ""), now_ms)
        if who.session:
            sessions.forget(connection, who.session, now_ms)
            record(connection, who.name, "logout", who.session, now_ms)


def current(request: Request) -> Session:
    """The session of a request.

    Raises:
        Unauthorized: There is none, or it has ended.
    """
    secret = request.cookies.get(COOKIE)
    if not secret:
        raise Unauthorized("log in to see this page")
    services = shared(request)
    now_ms = services.now_ms()
    with services.store.read() as connection:
        who = authenticate(connection, secret, now_ms)
    if not who.may(Right.READ):
        raise Unauthorized("log in to see this page")
    request.state.proven = True
    if is_stale(who, now_ms):
        with services.store.write() as connection:
            used(connection, who, now_ms)
            renewed = sessions.rotate(connection, who, now_ms) if request.method == "GET" else None
        if renewed is not None:
            request.state.renewed = renewed.secret  # `renew` puts it into the answer
    return Session(who, services.keys.form_secret(who.session or who.token))


def renew(request: Request, response: Response) -> None:
    """Give the browser its session's new secret, when it has got one in this request."""
    secret = getattr(request.state, "renewed", None)
    if secret is not None:
        set_cookie(request, response, secret)


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
    if origin is not None and parted(origin)[0] != request.headers.get("Host"):
        raise Forbidden("this form came from another site")
