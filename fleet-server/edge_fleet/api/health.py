"""Whether the server lives, and whether it can do its work: for supervisors, proxies and people.

/health answers 200 while the process serves at all: starting it again would not bring a database back.
/ready answers 503 while telemetry cannot be stored or devices cannot be heard.
"""

from __future__ import annotations

from typing import Literal

from fastapi import Request
from fastapi.responses import JSONResponse
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from typing_extensions import TypedDict

from edge_contracts.errors import one_line
from edge_fleet.api.answers import Router
from edge_fleet.services import Server
from edge_fleet.store import is_full

router = Router(tags=["health"])


class ServerState(TypedDict):
    """How the parts are that a server needs.

    Args:
        status: "degraded" while one of them is away.
        database: "full" while it has no room for anything more, and reads.
        waiting: Messages that are not stored yet.
    """

    status: Literal["ok", "degraded"]
    broker: Literal["up", "down"]
    database: Literal["up", "down", "full"]
    waiting: int


class Alive(TypedDict):
    """That the server serves.

    Args:
        broker: "down" while it does not hear its broker.
    """

    status: Literal["ok"]
    broker: Literal["up", "down"]


def state_of(services: Server) -> ServerState:
    """Ask after each of them."""
    reason = services.ingest.failing
    if not reason:
        try:
            with services.store.read() as connection:
                connection.execute(text("SELECT 1"))
        except SQLAlchemyError as error:
            reason = one_line(error)
    return {
        "status": "ok" if services.link.is_up and not reason else "degraded",
        "broker": "up" if services.link.is_up else "down",
        "database": "up" if not reason else "full" if is_full(reason) else "down",
        "waiting": services.ingest.waiting,
    }


@router.get("/healthz")
def healthz(request: Request) -> Alive:
    """That the server serves; `broker` is "down" while it does not hear its broker."""
    services: Server = request.app.state.services
    return {"status": "ok", "broker": "up" if services.link.is_up else "down"}


@router.get("/health")
def health(request: Request) -> ServerState:
    """That the server serves, and how its parts are; "degraded" while one is away."""
    return state_of(request.app.state.services)


@router.get(
    "/ready",
    response_model=ServerState,
    responses={503: {"model": ServerState, "description": "the database or the broker is away"}},
)
def ready(request: Request) -> JSONResponse:
    """200 when telemetry is stored and devices are heard, 503 while not."""
    state = state_of(request.app.state.services)
    return JSONResponse(state, 200 if state["status"] == "ok" else 503)
