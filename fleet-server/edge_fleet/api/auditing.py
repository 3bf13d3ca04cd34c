"""The audit log over HTTP: looking at it, and taking it away to check it elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from fastapi import Query
from fastapi.responses import StreamingResponse

from edge_fleet.access.audit_files import csv_lines, json_lines
from edge_fleet.access.audit_find import AuditRow, Wanted, find
from edge_fleet.access.audit_head import read_head
from edge_fleet.api.access import Admin, Shared
from edge_fleet.api.answers import Router
from edge_fleet.api.openapi import gives
from edge_fleet.api.row_ids import LAST, Skipped
from edge_fleet.audit import entries
from edge_fleet.services import Server

router = Router(prefix="/api/v1", tags=["administration"])


@router.get("/audit")
def list_audit(
    services: Shared,
    who: Admin,
    most: int = Query(200, ge=1, le=1000),
    skip: Skipped = 0,
    actor: str = Query("", max_length=64, description="A part of who did it"),
    action: str = Query("", max_length=64, description="A part of what was done"),
    text: str = Query("", max_length=200, description="A part of the subject or of the detail"),
    since_ms: int | None = Query(None, ge=0, le=LAST),
    until_ms: int | None = Query(None, ge=0, le=LAST, description="Before this time"),
) -> list[AuditRow]:
    """Who did what, newest first."""
    wanted = Wanted(actor, action, text, since_ms, until_ms)
    with services.store.read() as connection:
        return find(connection, wanted, skip, most)[1]


@router.get("/audit/export", **gives("application/x-ndjson", "text/csv"))
def export_audit(
    services: Shared, who: Admin, form: Literal["jsonl", "csv"] = Query("jsonl", alias="format")
) -> StreamingResponse:
    """All of it, oldest first, as JSON lines or CSV; the last line is the head that the server signed."""
    media_type = {"jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}[form]
    headers = {"Content-Disposition": f'attachment; filename="audit.{form}"', "Cache-Control": "no-store"}
    return StreamingResponse(_exported(services, form), media_type=media_type, headers=headers)


def _exported(services: Server, form: str) -> Iterator[str]:
    head = read_head(services.home.audit_head)  # before the rows: they have come at least as far
    with services.store.read() as connection:
        yield from {"jsonl": json_lines, "csv": csv_lines}[form](entries(connection), head)
