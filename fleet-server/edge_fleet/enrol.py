"""Enrolment: a one-time token and a key made on the device become a device of the fleet.

Asking again with the same token and the same key gives the same answer, because the first may have been
lost on its way. A device's name is never used again, nor is its key: history must stay unambiguous.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from edge_contracts.enrolment import EnrolRequest, enrol_proof
from edge_contracts.errors import ContractError
from edge_contracts.keys import PublicKey
from edge_fleet.audit import record
from edge_fleet.auth import Role, find_token
from edge_fleet.errors import Conflict, Forbidden, NotFound, RequestInvalid, Unauthorized
from edge_fleet.orders import mark_changed
from edge_fleet.schema import device_keys, devices, tokens
from edge_fleet.standings.due import touch


@dataclass(frozen=True)
class Enrolled:
    """A device of the fleet.

    Args:
        credential: Salt of its broker password.
    """

    device: str
    credential: str


def enrol(
    connection: Connection, request: EnrolRequest, now_ms: int, director: str | None = None
) -> Enrolled:
    """Take a device into the fleet.

    Args:
        director: Id of the key that it is told to obey.

    Raises:
        RequestInvalid: The key is not one, or the proof does not show that the device holds it.
        Unauthorized: The token is not known, has expired or was revoked.
        Forbidden: It is for something else.
        Conflict: The token was used, or the name or the key belong to another device.
    """
    key = _proven_key(request)
    token = find_token(connection, request.token, now_ms)
    if token.role != Role.ENROL:
        raise Forbidden(f"the token is for the role {token.role}, not for enrolment")
    if token.used_ms is not None:
        return _again(connection, token.used_by, key, director)
    # the one who changes the row wins, if two come with the same token at once
    used = connection.execute(
        update(tokens).where(tokens.c.id == token.id, tokens.c.used_ms.is_(None)).values(used_ms=now_ms)
    )
    if used.rowcount != 1:
        raise Unauthorized("the enrolment token was used by another device; ask for a new one")
    device = request.name or _free_name(connection)
    _require_unused(connection, device, key)
    credential = secrets.token_hex(16)
    labels = {**request.labels, **token.device_labels}  # the operator's word is stronger
    connection.execute(
        insert(devices).values(
            id=device,
            public_key=key.raw,
            profile=list(request.profile),
            labels=labels,
            credential=credential,
            enrolled_ms=now_ms,
            state_n=-1,
            director=director,
        )
    )
    connection.execute(update(tokens).where(tokens.c.id == token.id).values(used_by=device))
    record(connection, f"token/{token.id[:6]}", "device enrolled", device, now_ms, key=key.key_id)
    return Enrolled(device, credential)


def require_device(connection: Connection, device: str) -> Row[Any]:
    """The row of a device, revoked or not.

    Raises:
        NotFound: No such device.
    """
    row = connection.execute(select(devices).where(devices.c.id == device)).one_or_none()
    if row is None:
        raise NotFound(f"no device {device!r:.100}")
    return row


def revoke(connection: Connection, device: str, actor: str, now_ms: int) -> None:
    """Put a device out of the fleet; its history stays. Doing it twice changes nothing.

    Raises:
        NotFound: No such device.
    """
    if require_device(connection, device).revoked_ms is None:
        connection.execute(update(devices).where(devices.c.id == device).values(revoked_ms=now_ms))
        mark_changed(connection, device)
        touch(connection, device, now_ms)
        record(connection, actor, "device revoked", device, now_ms)


def _proven_key(request: EnrolRequest) -> PublicKey:
    try:
        key = PublicKey.from_base64(request.public_key)
        proof = base64.b64decode(request.proof, validate=True)
        key.verify(proof, enrol_proof(request.token, request.name))
    except (ContractError, ValueError):
        raise RequestInvalid(
            "the proof does not show that the device holds the private half of its key"
        ) from None
    return key


def _again(connection: Connection, device: str, key: PublicKey, director: str | None) -> Enrolled:
    row = connection.execute(select(devices).where(devices.c.id == device)).one_or_none()
    if row is None or row.public_key != key.raw or row.revoked_ms is not None:
        raise Conflict("the enrolment token was used already; ask for a new one: edge-fleet token create")
    if row.state_n < 0:  # it has not spoken yet: what it obeys is what this answer says
        connection.execute(update(devices).where(devices.c.id == device).values(director=director))
    return Enrolled(row.id, row.credential)


def _require_unused(connection: Connection, device: str, key: PublicKey) -> None:
    row = connection.execute(
        select(devices.c.id, devices.c.revoked_ms).where(
            (devices.c.id == device) | (devices.c.public_key == key.raw)
        )
    ).first()
    if row is not None and row.id == device:
        state = "enrolled already" if row.revoked_ms is None else "revoked"
        raise Conflict(f"a device {device!r} is {state}; names are not used twice: give another, or none")
    if row is not None:
        raise Conflict(f"this key is enrolled already, as device {row.id!r}; make a new home")
    before = select(device_keys.c.device).where(device_keys.c.key_id == key.key_id)
    if (former := connection.execute(before).scalar()) is not None:
        raise Conflict(f"this key was device {former!r}'s before; make a new home")


def _free_name(connection: Connection) -> str:
    while True:
        name = f"dev-{secrets.token_hex(4)}"
        if connection.execute(select(devices.c.id).where(devices.c.id == name)).first() is None:
            return name
