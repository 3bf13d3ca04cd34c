"""The page of the audit log: who did what, found by the database, and whether the chain holds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Query, Response

from edge_fleet.access import audit_find
from edge_fleet.api.access import Shared
from edge_fleet.auth import Right
from edge_fleet.console.forms import PAGE, Paged, looker, offset
from edge_fleet.console.page import answer, make_router
from edge_fleet.console.session import Session
from edge_fleet.errors import RequestInvalid

router = make_router()

Auditor = Annotated[Session, Depends(looker(Right.ADMIN, "administration"))]
# so many rows are checked unasked: a tenth of a second; beyond, somebody asks for it
CHECKED_ROWS = 2000


@router.get("/console/audit")
def audit(
    services: Shared,
    visitor: Auditor,
    actor: str = Query("", max_length=64),
    action: str = Query("", max_length=64),
    q: str = Query("", max_length=200),
    since: str = Query("", max_length=20),
    until: str = Query("", max_length=20),
    verify: bool = False,
    page: int = Query(1, ge=1, le=10**6),
) -> Response:
    """A page of the log."""
    wanted = audit_find.Wanted(actor, action, q, _day(since, 0), _day(until, 86_400_000))
    with services.store.read() as connection:
        total, found = audit_find.find(connection, wanted, offset(page), PAGE)
        rows = audit_find.size(connection)
    fields = {"actor": actor, "action": action, "q": q, "since": since, "until": until}
    return answer(
        visitor,
        "audit.html",
        services.now_ms(),
        entries=found,
        rows=rows,
        chain=audit_find.chain(services) if verify or rows <= CHECKED_ROWS else None,
        paged=Paged(page, total, fields),
        fields=fields,
    )


def _day(text: str, later_ms: int) -> int | None:
    """A day of a form in UTC; None when the field was left empty.

    Args:
        later_ms: What is added: a day is over when it has ended.
    """
    if not text.strip():
        return None
    try:
        day = datetime.strptime(text.strip(), "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise RequestInvalid(f"{text!r:.20} is no day, expected one such as 2030-01-31") from None
    return round(day.timestamp() * 1000) + later_ms
