"""What every page of the console is made of: its route, who looks at it, and how it is answered.

A page is a module with a `router` (of `make_router`) that stands in `routes.PAGES`; its place in the
navigation is a line of `navigation.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute

from edge_contracts.errors import ContractError
from edge_fleet.api.access import shared
from edge_fleet.auth import Right
from edge_fleet.console import rendering, session
from edge_fleet.console.refusal import came_from, told
from edge_fleet.console.session import Session
from edge_fleet.console.way import HOME, login_at, safe_next
from edge_fleet.errors import FleetError, Forbidden, RequestInvalid, Unauthorized

NOT_ANY_MORE = "you are not logged in any more: nothing was done"


class Page(APIRoute):
    """A route whose refusals are pages too; who is not logged in is asked to."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the route's own handler."""
        inner = super().get_route_handler()

        async def handler(request: Request) -> Response:
            found = await answered(request)
            session.renew(request, found)
            return found

        async def answered(request: Request) -> Response:
            try:
                return await inner(request)
            except Unauthorized:
                if request.method == "GET":
                    return RedirectResponse(login_at(str(request.url.path), request.url.query), 303)
                return login_page(
                    request, came_from(request), 401, "you are not logged in any more: nothing was done"
                )
            except RequestValidationError as error:
                fault = error.errors()[0]
                return told(request, 422, f"{fault['loc'][-1]}: {fault['msg']}")
            except (FleetError, ContractError) as error:
                return told(request, error.status if isinstance(error, FleetError) else 400, str(error))

        return handler


Visitor = Annotated[Session, Depends(session.current)]
Text = Annotated[str, Form(max_length=2000)]


def make_router() -> APIRouter:
    """A router for pages: not part of the API's description."""
    return APIRouter(include_in_schema=False, route_class=Page)


def answer(visitor: Session, template: str, now_ms: int, **values: Any) -> Response:
    """A page for somebody who is logged in."""
    return rendering.page(template, now_ms, who=visitor.who, csrf=visitor.csrf, error="", **values)


def login_page(
    request: Request, next_page: str = "", status: int = 200, error: str = "", name: str = ""
) -> Response:
    """Asks for a name and password, for a token, or to go to the identity provider.

    Args:
        name: What was typed; a wrong password need not cost it.
    """
    services = shared(request)
    label = services.provider.settings.label if services.provider else ""
    now_ms = services.now_ms()
    return rendering.page(
        "login.html",
        now_ms,
        status,
        who=None,
        error=error,
        provider=label,
        next_page=safe_next(next_page, ""),
        name=name,
    )


def go(path: str) -> Response:
    """After a form: lead on to a page of the console."""
    return RedirectResponse(f"{HOME}{path}", 303)


def require(visitor: Session, right: Right) -> None:
    """Make sure that somebody may do what a form asks for.

    Raises:
        Forbidden: The role does not allow it.
    """
    if not visitor.who.may(right):
        raise Forbidden(f"a token of role {visitor.who.role} may look, not {right}; log in with one that may")


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form whose names are not known beforehand."""
    return {name: str(value) for name, value in (await request.form()).items()}


def number(text: str, what: str) -> float | None:
    """A number of a form; None when the field was left empty.

    Raises:
        RequestInvalid: It is not one.
    """
    if not text.strip():
        return None
    try:
        return float(text)
    except ValueError:
        raise RequestInvalid(f"{what}: {text!r:.40} is not a number") from None
