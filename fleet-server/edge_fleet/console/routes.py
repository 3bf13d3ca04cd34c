"""The console's addresses. Pages only show; forms do what the API does, with the same rights."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Form, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute

from edge_contracts.errors import ContractError
from edge_fleet.api.access import Shared, shared
from edge_fleet.api.devices import show_device
from edge_fleet.auth import Right
from edge_fleet.console import pages, rendering, session
from edge_fleet.console.session import Session
from edge_fleet.errors import FleetError, Forbidden, NotFound, RequestInvalid, Unauthorized
from edge_fleet.gates import GATES
from edge_fleet.registry import listed as release_rows
from edge_fleet.rollouts.operator import Operator
from edge_fleet.rollouts.phases import TRANSITIONS, WATCHED, Event
from edge_fleet.rollouts.plan import FORMAT, parse_plan
from edge_fleet.rollouts.view import listed, shown

HOME = "/console"
# what an operator may order, the event that it is, and what carries it out
ORDERS: dict[str, tuple[Event, Callable[[Operator, str, str], None]]] = {
    "start": (Event.STARTED, Operator.start),
    "pause": (Event.PAUSED, Operator.pause),
    "resume": (Event.RESUMED, Operator.resume),
    "advance": (Event.ADVANCED, Operator.advance),
    "abort": (Event.ABORTED, Operator.abort),
    "rollback": (Event.RECALLED, Operator.recall),
}


class Page(APIRoute):
    """A route whose refusals are pages too; who is not logged in is asked to."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the route's own handler."""
        inner = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await inner(request)
            except Unauthorized as error:
                if request.method == "GET":
                    return RedirectResponse(f"{HOME}/login", 303)
                return rendering.page("login.html", shared(request).now_ms(), 401, who=None, error=str(error))
            except RequestValidationError as error:
                fault = error.errors()[0]
                return _refused(request, 422, f"{fault['loc'][-1]}: {fault['msg']}")
            except (FleetError, ContractError) as error:
                return _refused(request, error.status if isinstance(error, FleetError) else 400, str(error))

        return handler


router = APIRouter(include_in_schema=False, route_class=Page)
Visitor = Annotated[Session, Depends(session.current)]
Text = Annotated[str, Form(max_length=2000)]


def install(app: FastAPI) -> None:
    """Add the console to an application."""
    app.include_router(router)


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
def login_form(services: Shared) -> Response:
    """Ask for a token."""
    return rendering.page("login.html", services.now_ms(), who=None, error="")


@router.post("/console/login")
def login(request: Request, token: Text = "", name: Text = "", password: Text = "") -> Response:
    """Open a session, by name and password or by a token."""
    answer = RedirectResponse(HOME, 303)
    session.log_in(request, answer, name, password if name else token)
    return answer


@router.post("/console/logout")
def logout(request: Request, visitor: Visitor, csrf: Text = "") -> Response:
    """End the session."""
    session.require_form(request, visitor, csrf)
    answer = RedirectResponse(f"{HOME}/login", 303)
    session.log_out(request, answer)
    return answer


@router.get("/console")
def fleet(
    services: Shared,
    visitor: Visitor,
    q: str = Query("", max_length=200),
    health: str = Query("", max_length=20),
    profile: str = Query("", max_length=64),
    page: int = Query(1, ge=1, le=10**6),
) -> Response:
    """The fleet."""
    now_ms = services.now_ms()
    with services.store.read() as connection:
        found = pages.fleet_page(connection, pages.Filter(q, health, profile, page), now_ms)
        rollouts = [row for row in listed(connection) if row["phase"] in WATCHED]
    broker_up = services.link.is_up
    return _page(visitor, "fleet.html", now_ms, **found, rollouts=rollouts, broker_up=broker_up)


@router.get("/console/devices/{device}")
def device(device: str, services: Shared, visitor: Visitor) -> Response:
    """One device."""
    now_ms = services.now_ms()
    found = show_device(device, services, visitor.who)
    with services.store.read() as connection:
        values = pages.device_page(connection, found, now_ms)
    return _page(visitor, "device.html", now_ms, **values)


@router.get("/console/releases")
def releases(services: Shared, visitor: Visitor) -> Response:
    """Every release, with where it comes from and how good it is."""
    with services.store.read() as connection:
        found = pages.releases_page(connection)
    return _page(visitor, "releases.html", services.now_ms(), releases=found)


@router.get("/console/rollouts")
def rollouts(services: Shared, visitor: Visitor) -> Response:
    """Every rollout."""
    with services.store.read() as connection:
        found = listed(connection)
    return _page(visitor, "rollouts.html", services.now_ms(), rollouts=found)


@router.get("/console/rollouts/new")
def plan_form(services: Shared, visitor: Visitor, release: str = Query("", max_length=130)) -> Response:
    """A form for a plan."""
    with services.store.read() as connection:
        known = [f"{r['name']}@{r['version']}" for r in release_rows(connection)]
    return _page(visitor, "plan.html", services.now_ms(), release=release, known=known, gates=GATES)


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form whose names are not known beforehand."""
    return {name: str(value) for name, value in (await request.form()).items()}


@router.post("/console/rollouts/new")
def make_plan(
    request: Request,
    services: Shared,
    visitor: Visitor,
    form: Annotated[dict[str, str], Depends(read_form)],
) -> Response:
    """Make a rollout from the form and start it."""
    session.require_form(request, visitor, form.get("csrf", ""))
    _require_operator(visitor)
    gates = {name: _number(form.get(f"gate-{name}", ""), name) for name in GATES}
    numbers = {name: _number(form.get(name, ""), name) for name in ("bake_s", "quorum", "silence_s")}
    plan = parse_plan(
        {
            "format": FORMAT,
            "release": form.get("release", ""),
            "select": form.get("select", ""),
            "stages": [part.strip() for part in form.get("stages", "").split(",")],
            **{name: number for name, number in numbers.items() if number is not None},
            "gates": {name: limit for name, limit in gates.items() if limit is not None},
        },
        "form",
    )
    operator = Operator(services)
    rollout = operator.create(plan, visitor.who.name)
    operator.start(rollout, visitor.who.name)
    return RedirectResponse(f"{HOME}/rollouts/{rollout}", 303)


@router.get("/console/rollouts/{rollout}")
def rollout(rollout: str, services: Shared, visitor: Visitor) -> Response:
    """One rollout."""
    with services.store.read() as connection:
        found = shown(connection, rollout, services.now_ms())
    possible = [name for name, (event, _) in ORDERS.items() if (found["phase"], event) in TRANSITIONS]
    return _page(visitor, "rollout.html", services.now_ms(), rollout=found, possible=possible)


@router.post("/console/rollouts/{rollout}/{order}")
def order(
    rollout: str, order: str, request: Request, services: Shared, visitor: Visitor, csrf: Text = ""
) -> Response:
    """Start, pause, resume, abort or roll back."""
    session.require_form(request, visitor, csrf)
    _require_operator(visitor)
    if order not in ORDERS:
        raise NotFound(f"no such order {order!r:.40}; possible: {', '.join(ORDERS)}")
    ORDERS[order][1](Operator(services), rollout, visitor.who.name)
    return RedirectResponse(f"{HOME}/rollouts/{rollout}", 303)


def _refused(request: Request, status: int, error: str) -> Response:
    now_ms = shared(request).now_ms()
    try:
        visitor = session.current(request)
    except Unauthorized:
        return rendering.page("refused.html", now_ms, status, error=error, who=None)
    return rendering.page("refused.html", now_ms, status, error=error, who=visitor.who, csrf=visitor.csrf)


def _page(visitor: Session, template: str, now_ms: int, **values: Any) -> Response:
    return rendering.page(template, now_ms, who=visitor.who, csrf=visitor.csrf, error="", **values)


def _require_operator(visitor: Session) -> None:
    if not visitor.who.may(Right.OPERATE):
        raise Forbidden(f"a token of role {visitor.who.role} may look, not act; log in with an operator's")


def _number(text: str, what: str) -> float | None:
    """A number of a form; None when the field was left empty."""
    if not text.strip():
        return None
    try:
        return float(text)
    except ValueError:
        raise RequestInvalid(f"{what}: {text!r:.40} is not a number") from None
