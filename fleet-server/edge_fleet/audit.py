"""The audit log: who did what. Rows are only ever added."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, insert

from edge_fleet.schema import audit


def record(connection: Connection, actor: str, action: str, subject: str, now_ms: int, **detail: Any) -> None:
    """Write down, in the same transaction as the deed."""
    connection.execute(
        insert(audit).values(
            at_ms=now_ms, actor=actor[:64], action=action[:64], subject=subject[:128], detail=detail
        )
    )
