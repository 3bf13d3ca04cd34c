"""The HTTP application: routes put together, errors as {code, message}, bodies with limits."""

from __future__ import annotations

import errno
import logging
from importlib.metadata import version

from fastapi import APIRouter, FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge_contracts.errors import ContractError, one_line
from edge_fleet.access.limits import Budget, RateLimit, SecureHeaders, secure
from edge_fleet.api import (
    admin,
    alerts,
    approvals,
    auditing,
    datasets,
    devices,
    fleet,
    health,
    keys,
    lineage,
    metrics,
    releases,
    rollouts,
    simulation,
    telemetry,
    tokens,
    users,
    webhooks,
)
from edge_fleet.api.access import COOKIE, require_rights
from edge_fleet.api.openapi import described
from edge_fleet.console import refusal, session
from edge_fleet.console.routes import install
from edge_fleet.errors import DatabaseUnreachable, FleetError, TooLarge, TooManyAttempts
from edge_fleet.lineage import report
from edge_fleet.services import Server
from edge_fleet.store import is_full

log = logging.getLogger(__name__)

DISK_FULL = "the server's disk is full; nothing was kept, make room and try again"
MAX_BODY_BYTES = 1 << 20
MAX_UPLOAD_BYTES = 2 << 30
LIMITS = {
    "/api/v1/lineage/report": report.MAX_BYTES + 65_536,  # and the form around it
    "/api/v1/releases": MAX_UPLOAD_BYTES,
    "/api/v1/review": 8 << 20,
}


def create_app(services: Server, budget: Budget | None = None) -> FastAPI:
    """The application of one server.

    Args:
        budget: How often one who is not on this machine may ask.
    """
    app = FastAPI(
        title="edge-fleet",
        version=version("edgefleet"),
        description="Enrols devices, publishes releases, rolls them out and watches them.",
        docs_url=None,  # its page loads scripts from elsewhere; /openapi.json is here
        redoc_url=None,
    )
    app.state.services = services
    app.add_middleware(BodyLimit)
    app.add_middleware(RateLimit, cookie=COOKIE, budget=budget or Budget(), refuse=_too_often)
    app.add_middleware(SecureHeaders)
    app.add_exception_handler(FleetError, _fleet_error)
    app.add_exception_handler(ContractError, _contract_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(OperationalError, _database_away)
    app.add_exception_handler(OSError, _disk_full)
    app.add_exception_handler(Exception, _broken_promise)
    for router in routers():
        app.include_router(router)
    install(app)
    require_rights(app.routes)
    app.openapi = described(app)  # type: ignore[method-assign]
    return app


def routers() -> list[APIRouter]:
    """The parts of the API."""
    parts = (
        devices,
        fleet,
        releases,
        lineage,
        rollouts,
        simulation,
        approvals,
        telemetry,
        alerts,
        datasets,
        metrics,
        admin,
        health,
        auditing,
        tokens,
        users,
        keys,
        webhooks,
    )
    return [part.router for part in parts]


class BodyLimit:
    """Cuts a request whose body is larger than its route takes, whatever its headers say."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = LIMITS.get(scope["path"], MAX_BODY_BYTES)
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise TooLarge(f"the body is larger than the {limit} bytes that are taken here")
            return message

        stated = dict(scope["headers"]).get(b"content-length", b"")
        if stated.isdigit() and int(stated) > limit:
            error = TooLarge(f"the body has {int(stated)} bytes, at most {limit} are taken here")
            answer = _plain(Request(scope), error.status, error.code, str(error))
            await answer(scope, receive, send)
            return
        await self._app(scope, counted, send)


def _answer(status: int, code: str, message: str) -> JSONResponse:
    """Why not, on one line whatever was asked with: a fault names the key that it is about."""
    line = "".join(one if one.isprintable() else "?" for one in message)
    return JSONResponse({"code": code, "message": line}, status)


def _plain(request: Request, status: int, code: str, message: str) -> Response:
    """An answer that needs no database: a page of the console, or JSON."""
    if refusal.is_asked_by_a_person(request.scope):
        return refusal.plain(request, status, message)
    return _answer(status, code, message)


def _too_often(scope: Scope, error: TooManyAttempts) -> Response:
    return _plain(Request(scope), error.status, error.code, str(error))


async def _fleet_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, FleetError)
    answer = _answer(error.status, error.code, str(error))
    if isinstance(error, TooManyAttempts):
        answer.headers["Retry-After"] = str(error.retry_s)
    return answer


async def _contract_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ContractError)
    return _answer(400, error.code, str(error))


async def _validation_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"]) or "the request"
    said = fault["msg"].removeprefix("Value error, ")  # pydantic marks what our own checks say
    return _answer(422, "request-invalid", f"{where}: {said}")


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{error.detail}: {request.method} {request.url.path}"
    if not refusal.is_asked_by_a_person(request.scope):
        return _answer(error.status_code, "http", message)
    answer = await run_in_threadpool(refusal.told, request, error.status_code, message)
    session.renew(request, answer)
    return answer


async def _database_away(request: Request, error: Exception) -> Response:
    """Stopped, locked or full: not the client's fault, and not for ever."""
    reason = one_line(error)
    log.error("database away", extra={"path": request.url.path, "reason": reason})
    if is_full(reason):
        return _plain(request, 503, "disk-full", DISK_FULL)
    text = "the server's database does not answer; its log has the reason, try again later"
    return _plain(request, 503, DatabaseUnreachable.code, text)


async def _disk_full(request: Request, error: Exception) -> Response:
    """No room for what was sent: not the client's fault, and not for ever."""
    if not isinstance(error, OSError) or error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return await _broken_promise(request, error)
    log.error("disk full", extra={"path": request.url.path, "reason": one_line(error)})
    return _plain(request, 503, "disk-full", DISK_FULL)


async def _broken_promise(request: Request, error: Exception) -> Response:
    """A fault of ours: the client gets a plain word, the log gets the rest."""
    log.error("request failed", extra={"path": request.url.path}, exc_info=error)
    answer = _plain(request, 500, "internal", "the server failed; its log has the reason")
    secure(answer.headers, request.url.scheme)  # this one is made outside of `SecureHeaders`
    return answer
