"""What is refused below /console is told as a page, whoever refuses it: a route, the limits, a fault of ours.

Programs ask elsewhere and are answered in JSON (`app.py`).
"""

from __future__ import annotations

from contextlib import suppress

from fastapi import Request, Response
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import Scope

from edge_fleet.api.access import shared
from edge_fleet.console import rendering, session
from edge_fleet.console.way import HOME, parted, safe_next
from edge_fleet.errors import FleetError

# what a page is headed with; a status without a line here was refused
HEADS = {
    403: "You may not do this",
    404: "There is nothing here",
    405: "This address takes a form",
    413: "That is too much at once",
    429: "Too often",
    500: "The server failed",
    503: "Not now",
}
_REFUSED = "That was refused"


def is_asked_by_a_person(scope: Scope) -> bool:
    """Whether a request is of the console."""
    path = str(scope["path"])
    return path == HOME or path.startswith(f"{HOME}/")


def told(request: Request, status: int, error: str) -> Response:
    """The page of a refusal, with the navigation where somebody is logged in."""
    with suppress(FleetError, SQLAlchemyError):
        return _page(request, status, error, session.current(request))
    return plain(request, status, error)


def plain(request: Request, status: int, error: str) -> Response:
    """The page for everybody: it asks the database for nothing."""
    return _page(request, status, error, None)


def came_from(request: Request) -> str:
    """The page of the console on which a form was sent or a link followed; "" when that is not known."""
    host, page = parted(request.headers.get("Referer", ""))
    return safe_next(page, "") if host == request.headers.get("Host") else ""


def _page(request: Request, status: int, error: str, visitor: session.Session | None) -> Response:
    back = came_from(request)
    return rendering.page(
        "refused.html",
        shared(request).now_ms(),
        status,
        who=visitor.who if visitor else None,
        csrf=visitor.csrf if visitor else "",
        head=_REFUSED if status == 403 and visitor is None else HEADS.get(status, _REFUSED),
        error=error,
        back="" if back == str(request.url.path) else back,
    )
