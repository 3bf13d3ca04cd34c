"""Tokens: who may do what, and for how long. Secrets are shown once and kept as hashes.

A token is 256 random bits, so a plain SHA-256 is as good as a slow hash, and guessing is hopeless;
`Attempts` only keeps a guesser from filling logs and the database's time.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from edge_fleet.errors import Unauthorized
from edge_fleet.schema import tokens


class Right(StrEnum):
    """What an API call may need."""

    READ = "read"
    OPERATE = "operate"  # rollouts, enrolment tokens, revoking devices
    PUBLISH = "publish"  # releases
    APPROVE = "approve"  # releases that others have published
    ADMIN = "admin"  # tokens, trusted publishers, the broker


class Role(StrEnum):
    """What a token is for."""

    ENROL = "enrol"  # one device, once
    VIEWER = "viewer"
    OPERATOR = "operator"
    PUBLISHER = "publisher"
    APPROVER = "approver"
    ADMIN = "admin"
    SUBSCRIBER = "subscriber"  # MQTT only: reads telemetry topics


RIGHTS: Mapping[Role, frozenset[Right]] = {
    Role.ENROL: frozenset(),
    Role.VIEWER: frozenset({Right.READ}),
    Role.OPERATOR: frozenset({Right.READ, Right.OPERATE}),
    Role.PUBLISHER: frozenset({Right.READ, Right.PUBLISH}),
    Role.APPROVER: frozenset({Right.READ, Right.APPROVE}),
    Role.ADMIN: frozenset(Right),
    Role.SUBSCRIBER: frozenset(),
}


@dataclass(frozen=True)
class Principal:
    """Who makes a request.

    Args:
        name: For the audit log: the token's label and id.
    """

    name: str
    role: Role

    def may(self, right: Right) -> bool:
        """Whether the role holds this right."""
        return right in RIGHTS[self.role]


@dataclass(frozen=True)
class NewToken:
    """A token just made; `secret` is not kept anywhere."""

    id: str
    secret: str
    role: Role
    expires_ms: int | None


def make_token(
    connection: Connection,
    role: Role,
    label: str,
    now_ms: int,
    expires_ms: int | None = None,
    device_labels: Mapping[str, str] | None = None,
    parent: str | None = None,
    secret: str | None = None,
) -> NewToken:
    """Make a token and keep its hash.

    Args:
        device_labels: Given to the device that enrols with it.
        parent: Id of the token that this one stands for: it is worth nothing without it.
        secret: Of a token that another database knows already; a new one otherwise.
    """
    secret = secret or f"{role}-{secrets.token_urlsafe(32)}"
    token = NewToken(secrets.token_hex(8), secret, role, expires_ms)
    connection.execute(
        insert(tokens).values(
            id=token.id,
            hash=_hash(token.secret),
            role=role,
            label=label,
            device_labels=dict(device_labels or {}),
            created_ms=now_ms,
            expires_ms=expires_ms,
            parent=parent,
        )
    )
    return token


def find_token(connection: Connection, secret: str, now_ms: int) -> Row[Any]:
    """The row of a token that is known, in time and not revoked.

    Raises:
        Unauthorized: It is not. The three cases sound alike to those who only guess.
    """
    row = connection.execute(select(tokens).where(tokens.c.hash == _hash(secret))).one_or_none()
    return _valid(connection, row, now_ms)


def _valid(connection: Connection, row: Row[Any] | None, now_ms: int) -> Row[Any]:
    if row is None or row.revoked_ms is not None:
        raise Unauthorized("the token is not known here; ask an admin for one: edge-fleet token create")
    if row.expires_ms is not None and row.expires_ms <= now_ms:
        raise Unauthorized("the token has expired; ask an admin for a new one: edge-fleet token create")
    if row.parent is not None:
        _valid(connection, connection.execute(select(tokens).where(tokens.c.id == row.parent)).one(), now_ms)
    return row


def is_known(connection: Connection, secret: str) -> bool:
    """Whether this database has ever heard of a token, valid or not."""
    return connection.execute(select(tokens.c.id).where(tokens.c.hash == _hash(secret))).first() is not None


def authenticate(connection: Connection, secret: str, now_ms: int) -> Principal:
    """Who holds this API token.

    Raises:
        Unauthorized: Nobody.
    """
    row = find_token(connection, secret, now_ms)
    return Principal(f"{row.label or row.role}/{row.id[:6]}", Role(row.role))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class Attempts:
    """Counts failures by address and says when an address has had enough of them.

    A good token is never turned away: only the answer to failures changes, so that a guesser cannot
    lock out those who share its address.
    """

    PER_MINUTE = 30
    _ADDRESSES = 10_000  # the least recent are forgotten beyond; memory stays bounded

    def __init__(self) -> None:
        """Start with no failures."""
        self._failures: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def failed(self, address: str, now_ms: int) -> bool:
        """Count a failure; True when there were too many in this minute."""
        minute = now_ms // 60_000
        seen, count = self._failures.pop(address, (minute, 0))
        count = count + 1 if seen == minute else 1
        self._failures[address] = (minute, count)
        if len(self._failures) > self._ADDRESSES:
            self._failures.popitem(last=False)
        return count > self.PER_MINUTE
