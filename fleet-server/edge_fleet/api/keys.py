"""Changing whom devices trust, over HTTP: statements about keys, made here or signed by a publisher."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Base64Bytes, Field
from sqlalchemy import select

from edge_contracts.model import Frozen
from edge_contracts.trust import MAX_STATEMENT_BYTES
from edge_fleet.access import key_statements
from edge_fleet.api.access import Admin, Reader, Shared
from edge_fleet.schema import devices
from edge_fleet.services import Server

router = APIRouter(prefix="/api/v1", tags=["keys"])


class PublisherChange(Frozen):
    """What becomes of a publisher's key.

    Args:
        stop: Of a revoked one: a device with nothing else must stop answering with a bundle of it.
        reason: One line for a person at the device.
    """

    stop: bool = False
    reason: str = Field(default="", max_length=300)


class StatementRequest(Frozen):
    """A file of `edge-convert keys change`, base64."""

    statement: Annotated[Base64Bytes, Field(max_length=MAX_STATEMENT_BYTES)]


@router.get("/key-statements")
def list_statements(services: Shared, who: Reader) -> list[dict[str, Any]]:
    """What devices are told about keys, oldest first."""
    with services.store.read() as connection:
        return key_statements.listed(connection)


@router.post("/key-statements", status_code=201)
def apply_statement(body: StatementRequest, services: Shared, who: Admin) -> dict[str, Any]:
    """Follow a statement that a publisher has signed, and hand it out to every device."""
    with services.store.write() as connection:
        counter = key_statements.take_in(
            connection,
            body.statement,
            services.keys.director.public,
            services.config.fleet,
            who.name,
            services.now_ms(),
        )
    return {"counter": counter, "devices": _send(services)}


@router.post("/publishers/{key_id}/{change}")
def change_publisher(
    key_id: str, change: Literal["retire", "revoke"], body: PublisherChange, services: Shared, who: Admin
) -> dict[str, Any]:
    """Retire a publisher's key (what it signed stays) or revoke it (it counts for nothing) everywhere."""
    with services.store.write() as connection:
        counter = key_statements.say(
            connection,
            services.keys.director,
            services.config.fleet,
            who.name,
            services.now_ms(),
            retire=[key_id] if change == "retire" else [],
            revoke=[key_id] if change == "revoke" else [],
            stop=body.stop and change == "revoke",
            reason=body.reason,
        )
    return {"counter": counter, "devices": _send(services)}


def _send(services: Server) -> int:
    """Send every device its newest assignment again: statements travel with it."""
    with services.store.read() as connection:
        query = select(devices.c.id).where(devices.c.revoked_ms.is_(None)).order_by(devices.c.id)
        names = list(connection.execute(query).scalars())
    services.dispatch.soon(names)
    return len(names)
