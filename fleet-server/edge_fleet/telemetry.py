"""Stored telemetry, read back in the order of arrival: each envelope with the records it was signed with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, select

from edge_contracts import cose
from edge_contracts.envelope import parse_payload
from edge_contracts.messages import Event, Gap, Telemetry, Window
from edge_fleet.schema import envelopes

PAGE = 200


def page(
    connection: Connection, after: int, device: str | None = None, most: int = PAGE
) -> list[dict[str, Any]]:
    """The next stored envelopes.

    Args:
        after: Row id of the last one seen; 0 for the beginning.
        device: Of one device only.
    """
    return [
        {
            "id": row.id,
            "device": row.device,
            "epoch": row.epoch,
            "seq": row.seq,
            "received_ms": row.received_ms,
            "records": [record.model_dump(mode="json") for record in records_of(row.raw)],
        }
        for row in stored(connection, after, device, most)
    ]


def stored(
    connection: Connection, after: int, device: str | None = None, most: int = PAGE
) -> Sequence[Row[Any]]:
    """The same as rows of `envelopes`, not opened."""
    query = select(envelopes).where(envelopes.c.id > after).order_by(envelopes.c.id).limit(most)
    if device is not None:
        query = query.where(envelopes.c.device == device)
    return connection.execute(query).all()


def records_of(raw: bytes) -> tuple[Window | Event | Gap, ...]:
    """The records of an envelope that was verified before it was stored."""
    return parse_payload(Telemetry, cose.parse(raw).payload).recs


def last_id(connection: Connection) -> int:
    """Row id of the newest stored envelope; 0 when there is none."""
    return connection.execute(select(func.max(envelopes.c.id))).scalar() or 0
