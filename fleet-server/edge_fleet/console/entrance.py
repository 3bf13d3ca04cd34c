"""Into the console and out of it: login, logout, and the files that every page has."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated

from fastapi import Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from edge_fleet.console import oidc, rendering, session
from edge_fleet.console.page import Text, Visitor, login_page, make_router
from edge_fleet.console.way import HOME, safe_next
from edge_fleet.errors import NotFound, TooManyAttempts, Unauthorized

router = make_router()
NextPage = Annotated[str, Query(alias="next", max_length=2000)]


@router.get("/")
def root() -> Response:
    """Lead to the console."""
    return RedirectResponse(HOME, 303)


@router.get("/console/static/{name}")
def static(name: str) -> Response:
    """A file of the console; its address changes with its content, so it may be kept for ever."""
    if name not in rendering.ASSETS:
        raise NotFound(f"no file {name!r:.80}")
    media_type = rendering.MEDIA_TYPES[PurePosixPath(name).suffix]
    headers = {**rendering.HEADERS, "Cache-Control": "public, max-age=31536000, immutable"}
    return Response(rendering.ASSETS[name], media_type=media_type, headers=headers)


@router.get("/console/login")
def login_form(request: Request, next_page: NextPage = "") -> Response:
    """Ask for a name and password, or for a token."""
    return login_page(request, next_page)


@router.post("/console/login")
def login(
    request: Request,
    token: Text = "",
    name: Text = "",
    password: Text = "",
    next_page: Annotated[str, Form(alias="next", max_length=2000)] = "",
) -> Response:
    """Open a session, by name and password or by a token, and lead to the page that was asked for."""
    answer = RedirectResponse(safe_next(next_page), 303)
    try:
        session.log_in(request, answer, name, password if name else token)
    except (Unauthorized, TooManyAttempts) as error:
        again = login_page(request, next_page, error.status, str(error), name)
        if isinstance(error, TooManyAttempts):
            again.headers["Retry-After"] = str(error.retry_s)
        return again
    return answer


@router.post("/console/logout")
def logout(request: Request, visitor: Visitor, csrf: Text = "") -> Response:
    """End the session; who came from an identity provider is shown how to leave there too."""
    session.require_form(request, visitor, csrf)
    answer = oidc.logged_out(request, visitor) or RedirectResponse(f"{HOME}/login", 303)
    session.log_out(request, answer)
    return answer
