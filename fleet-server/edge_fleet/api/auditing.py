"""The audit log over HTTP: looking at it, and taking it away to check it elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from sqlalchemy import select

from edge_fleet.access.audit_files import csv_lines, json_lines
from edge_fleet.access.audit_head import read_head
from edge_fleet.api.access import Admin, Shared
from edge_fleet.audit import entries
from edge_fleet.schema import audit
from edge_fleet.services import Server

router = APIRouter(prefix="/api/v1", tags=["administration"])


@router.get("/audit")
def list_audit(services: Shared, who: Admin, most: int = Query(200, ge=1, le=1000)) -> list[dict[str, Any]]:
    """Who did what, newest first."""
    with services.store.read() as connection:
        query = select(audit).order_by(audit.c.id.desc()).limit(most)
        return [dict(row) for row in connection.execute(query).mappings()]


@router.get("/audit/export")
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
