"""The audit log: who did what. Rows are only ever added, each is chained to the one before.

`hash` is the SHA-256 of the row's canonical JSON, in which `prev` is the hash of the row before: a row
that was changed, taken out or put in later breaks the chain at that place. The database allows one
successor for each row. What the chain cannot show, that its end was cut off or that all of it was
written anew, the signed head shows: `access/audit_head.py`. Checking is in `access/audit_check.py`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select

from edge_contracts.model import canonical_json
from edge_fleet.schema import audit

START = "0" * 64  # what the first row follows
_PAGE = 1000


@dataclass(frozen=True)
class Entry:
    """A row as it is hashed.

    Args:
        prev: `hash` of the row before, START for the first.
    """

    id: int
    at_ms: int
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any]
    prev: str

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON of all seven fields, hex."""
        return hashlib.sha256(canonical_json({**vars(self), "detail": dict(self.detail)})).hexdigest()


def record(connection: Connection, actor: str, action: str, subject: str, now_ms: int, **detail: Any) -> None:
    """Write down, in the same transaction as the deed; it must be one of `Store.write`.

    Writing transactions take turns, on PostgreSQL too (docs/decisions/0080): the last row is still the
    last one when this is committed. A program that does not take its turn fails on the unique `prev`.
    """
    last = connection.execute(select(audit.c.id, audit.c.hash).order_by(audit.c.id.desc()).limit(1)).first()
    entry = Entry(
        id=last.id + 1 if last else 1,
        at_ms=now_ms,
        actor=actor[:64],
        action=action[:64],
        subject=subject[:128],
        detail=json.loads(json.dumps(detail)),  # as the database gives it back: keys are strings
        prev=last.hash if last else START,
    )
    connection.execute(insert(audit).values(**vars(entry), hash=entry.hash))


def entries(connection: Connection) -> Iterator[tuple[Entry, str]]:
    """The rows in order with the hash that each carries, a page at a time."""
    page = query = select(audit).order_by(audit.c.id).limit(_PAGE)
    while rows := connection.execute(page).mappings().all():
        for row in rows:
            fields = dict(row)
            stated = fields.pop("hash")
            yield Entry(**fields), stated
        page = query.where(audit.c.id > rows[-1]["id"])
