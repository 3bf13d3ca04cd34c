"""Changing whom devices trust, over HTTP: statements about keys, made here or signed by a publisher."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Base64Bytes, Field
from sqlalchemy import select
from typing_extensions import TypedDict

from edge_contracts.trust import MAX_STATEMENT_BYTES
from edge_fleet.access import director_changes, key_statements
from edge_fleet.access.directors import present
from edge_fleet.api.access import Admin, Reader, Shared
from edge_fleet.api.answers import Router
from edge_fleet.model import Frozen
from edge_fleet.schema import devices
from edge_fleet.services import Server

router = Router(prefix="/api/v1", tags=["keys"])


class PublisherChange(Frozen):
    """What becomes of a publisher's key.

    Args:
        stop: Of a revoked one: a device with nothing else must stop answering with a bundle of it.
        reason: One line for a person at the device.
    """

    stop: bool = False
    reason: str = Field(default="", max_length=300)


class DirectorChange(Frozen):
    """Another director.

    Args:
        reason: One line for a person at the device.
    """

    reason: str = Field(default="", max_length=300)


class DirectorRetirement(Frozen):
    """A director's key that signs nothing any more.

    Args:
        force: Although devices depend on it.
    """

    force: bool = False


class StatementRequest(Frozen):
    """A file of `edge-convert keys change`, base64."""

    statement: Annotated[Base64Bytes, Field(max_length=MAX_STATEMENT_BYTES)]


class StatementMade(TypedDict):
    """A statement about keys that is on its way.

    Args:
        counter: Of its signer.
        devices: That it was sent to.
    """

    counter: int
    devices: int


class DirectorRetired(TypedDict):
    """A director's key that signs nothing any more.

    Args:
        key: Its id.
        devices: That depend on it still.
    """

    key: str
    devices: int


@router.get("/key-statements")
def list_statements(services: Shared, who: Reader) -> list[key_statements.StatementShown]:
    """What devices are told about keys, oldest first."""
    with services.store.read() as connection:
        return key_statements.listed(connection)


@router.post("/key-statements", status_code=201)
def apply_statement(body: StatementRequest, services: Shared, who: Admin) -> StatementMade:
    """Follow a statement that a publisher has signed, and hand it out to every device."""
    with services.store.write() as connection:
        counter = key_statements.take_in(
            connection,
            body.statement,
            present(connection, services.directors).public,
            services.config.fleet,
            who.name,
            services.now_ms(),
        )
    director_changes.follow(services)
    return {"counter": counter, "devices": _send(services)}


@router.post("/publishers/{key_id}/{change}")
def change_publisher(
    key_id: str, change: Literal["retire", "revoke"], body: PublisherChange, services: Shared, who: Admin
) -> StatementMade:
    """Retire a publisher's key (what it signed stays) or revoke it (it counts for nothing) everywhere."""
    with services.store.write() as connection:
        counter = key_statements.say(
            connection,
            present(connection, services.directors),
            services.config.fleet,
            who.name,
            services.now_ms(),
            retire=[key_id] if change == "retire" else [],
            revoke=[key_id] if change == "revoke" else [],
            stop=body.stop and change == "revoke",
            reason=body.reason,
        )
    return {"counter": counter, "devices": _send(services)}


@router.get("/directors")
def list_directors(services: Shared, who: Reader) -> list[director_changes.DirectorObeyed]:
    """The director's keys, oldest first, and how many devices obey each."""
    return director_changes.listed(services)


@router.post("/directors", status_code=201)
def make_director(services: Shared, who: Admin) -> director_changes.DirectorKey:
    """Make the director's next key; the one that waits already is the answer, too."""
    return director_changes.make(services, who.name)


@router.post("/directors/{key_id}/rotate")
def rotate_director(key_id: str, body: DirectorChange, services: Shared, who: Admin) -> StatementMade:
    """Put the key that waits in force, by the word of the present one, and tell every device."""
    counter = director_changes.rotate(services, key_id, who.name, body.reason)
    return {"counter": counter, "devices": _send(services)}


@router.post("/directors/{key_id}/retire")
def retire_director(key_id: str, body: DirectorRetirement, services: Shared, who: Admin) -> DirectorRetired:
    """Let a key sign nothing any more, and remove it; refused while devices depend on it, unless forced."""
    return {"key": key_id, "devices": director_changes.retire(services, key_id, who.name, body.force)}


def _send(services: Server) -> int:
    """Send every device its newest assignment again: statements travel with it."""
    with services.store.read() as connection:
        query = select(devices.c.id).where(devices.c.revoked_ms.is_(None)).order_by(devices.c.id)
        names = list(connection.execute(query).scalars())
    services.dispatch.soon(names)
    return len(names)
