"""Whether the server lives, and whether it can do its work: for supervisors, proxies and people.

/health answers 200 while the process serves at all: starting it again would not bring a database back.
/ready answers 503 while telemetry cannot be stored or devices cannot be heard.
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from edge_fleet.services import Server

router = APIRouter(tags=["health"])


def state_of(services: Server) -> dict[str, str | int]:
    """The parts that a server needs, each "up" or "down", and why the database is down."""
    reason = services.ingest.failing
    if not reason:
        try:
            with services.store.read() as connection:
                connection.execute(text("SELECT 1"))
        except SQLAlchemyError as error:
            reason = type(error).__name__
    broker = "up" if services.link.is_up else "down"
    return {
        "status": "ok" if broker == "up" and not reason else "degraded",
        "broker": broker,
        "database": "down" if reason else "up",
        "waiting": services.ingest.waiting,  # messages that are not stored yet
    }


@router.get("/health")
def health(request: Request) -> dict[str, str | int]:
    """That the server serves, and how its parts are; "degraded" while one is away."""
    return state_of(request.app.state.services)


@router.get("/ready", responses={503: {"description": "the database or the broker is away"}})
def ready(request: Request) -> JSONResponse:
    """200 when telemetry is stored and devices are heard, 503 while not."""
    state = state_of(request.app.state.services)
    return JSONResponse(state, 200 if state["status"] == "ok" else 503)
