"""The audit log a page at a time: by whom, what, of what, and when; and whether its chain holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from typing import cast as typing_cast

from sqlalchemy import Connection, String, cast, func, or_, select
from typing_extensions import TypedDict

from edge_contracts.errors import ContractError
from edge_fleet.access.audit_check import check
from edge_fleet.access.audit_head import SignedHead, read_head
from edge_fleet.audit import entries
from edge_fleet.errors import AuditBroken, HomeInvalid
from edge_fleet.model import Instant
from edge_fleet.schema import audit
from edge_fleet.services import Server


@dataclass(frozen=True)
class Wanted:
    """What the log is narrowed to; what is empty does not narrow.

    Args:
        actor, action: A part of each.
        text: A part of the subject or of the detail.
        since_ms, until_ms: From the first on, before the second.
    """

    actor: str = ""
    action: str = ""
    text: str = ""
    since_ms: int | None = None
    until_ms: int | None = None


@dataclass(frozen=True)
class Chain:
    """How the log's chain was found.

    Args:
        rows: That were checked.
        broken: Where and how it is not as it was written; "" when it is.
        head: What the server signed last; None when it has signed nothing.
    """

    rows: int
    broken: str
    head: SignedHead | None


class AuditRow(TypedDict):
    """Who did what.

    Args:
        detail: What else there is to say, by name; it depends on the action.
        prev: `hash` of the row before, 64 zeros for the first.
        hash: SHA-256 over the row and `prev`, hex.
    """

    id: int
    at_ms: Instant
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    prev: str
    hash: str


def find(connection: Connection, wanted: Wanted, offset: int, most: int) -> tuple[int, list[AuditRow]]:
    """How many rows fit, and some of them, newest first."""
    own = audit.c
    query = select(audit)
    for column, part in ((own.actor, wanted.actor), (own.action, wanted.action)):
        if part:
            query = query.where(column.icontains(part, autoescape=True))
    if wanted.text:
        places = (own.subject, cast(own.detail, String))
        query = query.where(or_(*(place.icontains(wanted.text, autoescape=True) for place in places)))
    if wanted.since_ms is not None:
        query = query.where(own.at_ms >= wanted.since_ms)
    if wanted.until_ms is not None:
        query = query.where(own.at_ms < wanted.until_ms)
    total = connection.execute(select(func.count()).select_from(query.subquery())).scalar_one()
    rows = connection.execute(query.order_by(own.id.desc()).offset(offset).limit(most))
    return total, [typing_cast(AuditRow, dict(row)) for row in rows.mappings()]


def size(connection: Connection) -> int:
    """Rows of the whole log."""
    return connection.execute(select(func.count()).select_from(audit)).scalar_one()


def chain(services: Server) -> Chain:
    """Follow the whole chain, and see that it reaches what the server signed."""
    try:
        head = read_head(services.home.audit_head)  # before the rows: they have come at least as far
    except HomeInvalid as error:
        return Chain(0, str(error), None)
    with services.store.read() as connection:
        try:
            keys = [key.public for key in services.directors.standing.values()]
            found = check(entries(connection), head, *keys)
        except (AuditBroken, ContractError) as error:
            return Chain(0, str(error), head)
    return Chain(found.rows, "", head)
