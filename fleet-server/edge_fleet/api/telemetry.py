"""Telemetry and news over HTTP: verified envelopes as a stream of JSON lines, and server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from fastapi import Query
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from edge_fleet.access.standing import CHECK_S, Standing
from edge_fleet.api.access import Shared, Watching
from edge_fleet.api.answers import Router
from edge_fleet.api.openapi import gives
from edge_fleet.api.row_ids import LAST
from edge_fleet.enrol import require_device
from edge_fleet.events import News
from edge_fleet.services import Server
from edge_fleet.telemetry import last_id, page

router = Router(prefix="/api/v1", tags=["telemetry"])

POLL_S = 0.25
KEEP_ALIVE_S = 15.0


@router.get("/telemetry", **gives("application/x-ndjson"))
async def telemetry(
    services: Shared,
    standing: Watching,
    follow: bool = True,
    after: int = Query(0, ge=0, le=LAST, description="Row id of the last envelope seen"),
    since_now: bool = Query(False, description="Leave the stored ones out"),
    device: str | None = Query(None, max_length=64),
) -> StreamingResponse:
    """Verified envelopes, one JSON object a line: stored ones first, then new ones as they come.

    It ends when the right of who asked does.
    """
    if device is not None:
        await run_in_threadpool(_require_device, services, device)
    if since_now:
        after = await run_in_threadpool(_last, services)
    lines = _lines(services, standing, after, device, follow)
    return StreamingResponse(lines, media_type="application/x-ndjson")


@router.get("/events", **gives("text/event-stream"))
async def events(services: Shared, standing: Watching) -> StreamingResponse:
    """What changes from now on, as server-sent events; read the state again when one is `lost`.

    It ends when the right of who asked does.
    """
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(services, standing), media_type="text/event-stream", headers=headers)


async def _lines(
    services: Server, standing: Standing, after: int, device: str | None, follow: bool
) -> AsyncIterator[str]:
    while not services.bus.closed and await standing.holds():
        rows = await run_in_threadpool(_page, services, after, device)
        for row in rows:
            after = row["id"]
            yield json.dumps(row, separators=(",", ":")) + "\n"
        if not rows:
            if not follow:
                return
            await asyncio.sleep(POLL_S)


async def _events(services: Server, standing: Standing) -> AsyncIterator[str]:
    yield "retry: 1000\n\n"
    silent_s = 0.0
    async with aclosing(services.bus.listen(CHECK_S)) as heard:
        async for news in heard:
            if not await standing.holds():
                return
            silent_s = silent_s + CHECK_S if news is None else 0.0
            if news is not None:
                yield _event(news)
            elif silent_s >= KEEP_ALIVE_S:
                silent_s = 0.0
                yield ": still here\n\n"


def _event(news: News) -> str:
    return f"event: {news.kind}\ndata: {json.dumps(dict(news.fields), separators=(',', ':'))}\n\n"


def _require_device(services: Server, device: str) -> None:
    with services.store.read() as connection:
        require_device(connection, device)


def _page(services: Server, after: int, device: str | None) -> list[dict[str, Any]]:
    with services.store.read() as connection:
        return page(connection, after, device)


def _last(services: Server) -> int:
    with services.store.read() as connection:
        return last_id(connection)
