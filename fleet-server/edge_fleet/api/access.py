"""Who is asking, and whether they may: dependencies for the routes.

@router.get("/devices")
def devices(services: Shared, who: Annotated[Principal, Depends(requires(Right.READ))]) -> ...
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated

from fastapi import Depends, Request
from fastapi.routing import APIRoute
from sqlalchemy import select
from starlette.routing import BaseRoute

from edge_fleet.access.standing import Standing
from edge_fleet.auth import Principal, Right, authenticate, is_stale, used
from edge_fleet.errors import FleetError, Forbidden, TooManyAttempts, Unauthorized
from edge_fleet.schema import devices
from edge_fleet.services import Server

DEVICE_HEADER = "X-Edge-Device"
# open to everybody: each checks for itself who is asking, or has nothing to hide
PUBLIC = frozenset(
    {
        "/",
        "/health",
        "/healthz",
        "/ready",
        "/openapi.json",
        "/api/v1/enrol",
        "/api/v1/review",
        "/api/v1/login",
    }
)
COOKIE = "edgefleet_token"  # a console in a browser cannot set a header on a page or an event stream


def shared(request: Request) -> Server:
    """The server's parts."""
    services = request.app.state.services
    assert isinstance(services, Server)
    return services


Shared = Annotated[Server, Depends(shared)]


def bearer(request: Request) -> str:
    """The secret of `Authorization: Bearer`.

    Raises:
        Unauthorized: There is none.
    """
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise Unauthorized("no token; send it as Authorization: Bearer TOKEN")
    return secret.strip()


def requires(right: Right) -> Callable[[Request], Principal]:
    """A dependency that lets those pass whose token holds a right in the route's area, its first tag."""

    def principal(request: Request) -> Principal:
        services = shared(request)
        now_ms = services.now_ms()
        try:
            if "Authorization" not in request.headers and request.method == "GET":
                secret = request.cookies.get(COOKIE) or bearer(request)
            else:
                secret = bearer(request)
            with services.store.read() as connection:
                who = authenticate(connection, secret, now_ms)
        except Unauthorized as error:
            raise refused(request, services, error) from None
        request.state.proven = True  # `access/limits.py` gives it a budget of its own
        area = area_of(request.scope["route"])
        if not who.may(right, area):
            limits = "" if who.scopes is None else f" with the scopes {', '.join(sorted(who.scopes))}"
            raise Forbidden(
                f"a token of role {who.role}{limits} may not do this; it needs the right to {right} {area}"
            )
        if is_stale(who, now_ms):
            with services.store.write() as connection:
                used(connection, who, now_ms)
        return who

    principal.right = right  # type: ignore[attr-defined]
    return principal


def area_of(route: BaseRoute) -> str:
    """What scopes call the part of the API that a route belongs to."""
    return str(route.tags[0]) if isinstance(route, APIRoute) and route.tags else ""


def stated_right(route: APIRoute) -> Right | None:
    """The right that a route asks for; None when it asks for none."""
    stack = list(route.dependant.dependencies)
    while stack:
        dependant = stack.pop()
        right = getattr(dependant.call, "right", None)
        if isinstance(right, Right):
            return right
        stack += dependant.dependencies
    return None


def require_rights(routes: Iterable[BaseRoute]) -> None:
    """Make sure that every route of the API says who may use it, and in which area.

    Raises:
        RuntimeError: One does not: give it Reader, Operator, Publisher, Approver, Admin or Device, and its
            router a tag; or put it into PUBLIC.
    """
    for route in _flat(routes):
        path = str(getattr(route, "path", route))
        if path in PUBLIC or path.startswith("/console"):
            continue
        if not isinstance(route, APIRoute) or not (_is_for_devices(route) or _is_for_people(route)):
            raise RuntimeError(f"the route {path} does not say who may use it: see api/access.py")


def _is_for_people(route: APIRoute) -> bool:
    return stated_right(route) is not None and area_of(route) != ""


def _is_for_devices(route: APIRoute) -> bool:
    return any(dependant.call is requesting_device for dependant in route.dependant.dependencies)


def every(routes: Iterable[BaseRoute]) -> Iterator[APIRoute]:
    """The routes of the API; the console's pages have sessions and are tested by themselves."""
    for route in _flat(routes):
        if isinstance(route, APIRoute) and not route.path.startswith("/console"):
            yield route


def _flat(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """Newer releases of FastAPI keep an included router as one route."""
    for route in routes:
        router = getattr(route, "original_router", None)
        if router is None:
            yield route
        else:
            yield from _flat(router.routes)


Reader = Annotated[Principal, Depends(requires(Right.READ))]
Operator = Annotated[Principal, Depends(requires(Right.OPERATE))]
Publisher = Annotated[Principal, Depends(requires(Right.PUBLISH))]
Approver = Annotated[Principal, Depends(requires(Right.APPROVE))]
Admin = Annotated[Principal, Depends(requires(Right.ADMIN))]


def watching(services: Shared, who: Reader) -> Standing:
    """For streams: they end when who opened them may not read any more."""
    return Standing(services, who)


Watching = Annotated[Standing, Depends(watching)]


def requesting_device(request: Request) -> str:
    """The device that is asking: its name in a header, its broker password as the bearer secret.

    Raises:
        Unauthorized: Unknown, revoked, or another secret; all sound alike.
    """
    services = shared(request)
    device = request.headers.get(DEVICE_HEADER, "")
    try:
        secret = bearer(request)
        with services.store.read() as connection:
            row = connection.execute(
                select(devices.c.credential, devices.c.revoked_ms).where(devices.c.id == device)
            ).one_or_none()
        expected = services.keys.password(device, row.credential if row else "")
        known = row is not None and row.revoked_ms is None
        if not hmac.compare_digest(expected.encode(), secret.encode()) or not known:
            raise Unauthorized("the device is not known here, or its secret is another")
    except Unauthorized as error:
        raise refused(request, services, error) from None
    request.state.proven = True
    return device


Device = Annotated[str, Depends(requesting_device)]


def client_of(request: Request) -> str:
    """The address that a request comes from; a proxy's word counts where uvicorn believes it."""
    return request.client.host if request.client else ""


def refused(request: Request, services: Server, error: FleetError) -> FleetError:
    """Count a failed attempt; what to answer: the error, or that there were too many."""
    if services.attempts.failed(client_of(request), services.now_ms()):
        return TooManyAttempts("too many failed attempts from this address; wait a minute")
    return error
