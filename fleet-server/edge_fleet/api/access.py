"""Who is asking, and whether they may: dependencies for the routes.

@router.get("/devices")
def devices(services: Shared, who: Annotated[Principal, Depends(requires(Right.READ))]) -> ...
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import select

from edge_fleet.auth import Principal, Right, authenticate
from edge_fleet.errors import FleetError, Forbidden, TooManyAttempts, Unauthorized
from edge_fleet.schema import devices
from edge_fleet.services import Server

DEVICE_HEADER = "X-Edge-Device"
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
    """A dependency that lets those pass whose token holds a right."""

    def principal(request: Request) -> Principal:
        services = shared(request)
        try:
            if "Authorization" not in request.headers and request.method == "GET":
                secret = request.cookies.get(COOKIE) or bearer(request)
            else:
                secret = bearer(request)
            with services.store.read() as connection:
                who = authenticate(connection, secret, services.now_ms())
        except Unauthorized as error:
            raise refused(request, services, error) from None
        if not who.may(right):
            raise Forbidden(f"a token of role {who.role} may not do this; it needs the right to {right}")
        return who

    return principal


Reader = Annotated[Principal, Depends(requires(Right.READ))]
Operator = Annotated[Principal, Depends(requires(Right.OPERATE))]
Publisher = Annotated[Principal, Depends(requires(Right.PUBLISH))]
Approver = Annotated[Principal, Depends(requires(Right.APPROVE))]
Admin = Annotated[Principal, Depends(requires(Right.ADMIN))]


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
    return device


Device = Annotated[str, Depends(requesting_device)]


def refused(request: Request, services: Server, error: FleetError) -> FleetError:
    """Count a failed attempt; what to answer: the error, or that there were too many."""
    address = request.client.host if request.client else ""
    if services.attempts.failed(address, services.now_ms()):
        return TooManyAttempts("too many failed attempts from this address; wait a minute")
    return error
