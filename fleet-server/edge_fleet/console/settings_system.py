"""Settings: how the server itself is: broker, database, what came in and what was refused."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated, Any

from fastapi import Depends, Response

from edge_fleet.api import admin
from edge_fleet.api.access import Shared
from edge_fleet.api.admin import OutageRequest
from edge_fleet.api.health import state_of
from edge_fleet.auth import Right
from edge_fleet.console.forms import asked, carry_out, doer
from edge_fleet.console.page import Text, Visitor, make_router, number
from edge_fleet.console.session import Session
from edge_fleet.console.settings import settled
from edge_fleet.migrations.upgrade import found_revision, heads
from edge_fleet.services import Server

router = make_router()

Doer = Annotated[Session, Depends(doer(Right.ADMIN, "administration"))]


@router.get("/console/settings/system")
def system(services: Shared, visitor: Visitor) -> Response:
    """The server."""
    return _page(services, visitor)


@router.post("/console/settings/system")
def rehearse(services: Shared, visitor: Doer, seconds: Text = "") -> Response:
    """Take the managed broker away for a while, to see that nothing is lost."""

    def act() -> None:
        body = asked(OutageRequest, seconds=number(seconds, "seconds"))
        admin.rehearse_outage(body, services, visitor.who)

    return carry_out(act, "/settings/system", lambda status, error: _page(services, visitor, status, error))


def _page(services: Server, visitor: Session, status: int = 200, error: str = "") -> Response:
    return settled(
        visitor,
        "settings_system.html",
        services.now_ms(),
        status,
        error,
        state=state_of(services),
        broker=admin.show_broker(services, visitor.who),
        figures=admin.metrics(services, visitor.who),
        database=_database(services),
        version=version("edgefleet"),
        fleet=services.config.fleet,
        config=services.config,
    )


def _database(services: Server) -> dict[str, Any]:
    """Which it is, with its password hidden, and the revision of its schema."""
    with services.store.read() as connection:
        return {
            "url": connection.engine.url.render_as_string(),
            "kind": connection.dialect.name,
            "revision": found_revision(connection),
            "newest": heads()[0],
        }
