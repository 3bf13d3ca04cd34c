"""Who may do what: roles, their rights, and the tokens by which somebody is known.

The table is RIGHTS: what a role may. A right is used in an area, the tag of the route's router, so that a
token can be narrower than its role: with the scopes `rollouts:write` and `releases:read` it does there what
its role may, and nothing elsewhere. `api/access.py` asks; `create_app` refuses a route that states no right.

A token is 256 random bits, so a plain SHA-256 is as good as a slow hash, and guessing is hopeless;
`Attempts` only keeps a guesser from filling logs and the database's time. Secrets are shown once.
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from edge_fleet.errors import Unauthorized
from edge_fleet.schema import tokens, users


class Right(StrEnum):
    """What an API call may need."""

    READ = "read"
    OPERATE = "operate"  # rollouts, enrolment tokens, revoking devices
    PUBLISH = "publish"  # releases
    APPROVE = "approve"  # what somebody else made: rollouts to everybody, releases
    ADMIN = "admin"  # users, tokens, trusted publishers, keys, the broker, the audit log


class Role(StrEnum):
    """What a token or a user is for."""

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
# those that a person can have; the others are for devices and programs
PERSONAL = (Role.VIEWER, Role.OPERATOR, Role.PUBLISHER, Role.APPROVER, Role.ADMIN)
NAME_CHARS = 64  # of whoever acts, wherever that is kept
IDLE_MS = 60 * 60_000  # a session that nobody used for so long is over
GRACE_MS = 60_000  # a secret that was replaced is good for so long: requests are under way with it


@dataclass(frozen=True)
class Principal:
    """Who makes a request.

    Args:
        name: Of the user, else the label and id of the token. Where two people are asked for, two names.
        scopes: `AREA:read` or `AREA:write`; None for all that the role may.
        token: Id of the token that was shown.
        origin: Id of the token that a console's session was opened with; else `token`.
        user: Whose token it is; "" for one that is nobody's.
        ceiling: Role that this user has now; no token of theirs may more.
        session: Id of the session, the same through all its secrets; "" for a token that is none.
        last_used_ms: Of a session, to the minute.
    """

    name: str
    role: Role
    scopes: frozenset[str] | None = None
    token: str = ""
    origin: str = ""
    user: str = ""
    ceiling: Role | None = None
    session: str = ""
    last_used_ms: int | None = None

    def may(self, right: Right, area: str | None = None) -> bool:
        """Whether this right is held in an area; without one, in every area."""
        if right not in RIGHTS[self.role] or (self.ceiling and right not in RIGHTS[self.ceiling]):
            return False
        if self.scopes is None:
            return True
        wanted = {f"{area}:write"} | ({f"{area}:read"} if right is Right.READ else set())
        return area is not None and not wanted.isdisjoint(self.scopes)


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
    scopes: Iterable[str] | None = None,
    owner: str | None = None,
    is_session: bool = False,
    session: str | None = None,
    client: str = "",
) -> NewToken:
    """Make a token and keep its hash.

    Args:
        device_labels: Given to the device that enrols with it.
        parent: Id of the token that this one stands for: it is worth nothing without it.
        secret: Of a token that another database knows already; a new one otherwise.
        scopes: What it is narrowed to; None for all that the role may.
        owner: Name of the user whose it is; worth nothing while that user is disabled.
        is_session: Whether it is over when nobody uses it.
        session: Id of the session that it is a further secret of; a new session otherwise.
        client: Address that a session was opened from.
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
            scopes=None if scopes is None else sorted(scopes),
            owner=owner,
            last_used_ms=now_ms if is_session else None,
            session=(session or token.id) if is_session else None,
            client=client[:64],
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
    if row.last_used_ms is not None and row.last_used_ms + IDLE_MS <= now_ms:
        raise Unauthorized("the session was not used for long and is over; log in again")
    if row.replaced_ms is not None and row.replaced_ms + GRACE_MS <= now_ms:
        raise Unauthorized("the session has another secret since; log in again")
    if row.parent is not None:
        _valid(connection, connection.execute(select(tokens).where(tokens.c.id == row.parent)).one(), now_ms)
    return row


def is_known(connection: Connection, secret: str) -> bool:
    """Whether this database has ever heard of a token, valid or not."""
    return connection.execute(select(tokens.c.id).where(tokens.c.hash == _hash(secret))).first() is not None


def authenticate(connection: Connection, secret: str, now_ms: int) -> Principal:
    """Who holds this API token.

    Raises:
        Unauthorized: Nobody, or somebody who is disabled.
    """
    return _principal(connection, find_token(connection, secret, now_ms))


def standing(connection: Connection, who: Principal, now_ms: int) -> Principal:
    """What somebody who was let in before is now: rights may have changed since.

    Raises:
        Unauthorized: They would not be let in any more.
    """
    here = tokens.c.session == who.session if who.session else tokens.c.id == who.token
    newest = select(tokens).where(here).order_by(tokens.c.last_used_ms.desc(), tokens.c.created_ms.desc())
    row = connection.execute(newest.limit(1)).one_or_none()
    return _principal(connection, _valid(connection, row, now_ms))


def _principal(connection: Connection, row: Row[Any]) -> Principal:
    scopes = None if row.scopes is None else frozenset(row.scopes)
    role, session = Role(row.role), row.session or ""
    if row.owner is None:
        origin = row.parent or row.id  # a console's session acts under the name of its token
        number = f"/{origin[:6]}"
        name = (row.label or row.role)[: NAME_CHARS - len(number)] + number
        return Principal(name, role, scopes, row.id, origin, session=session, last_used_ms=row.last_used_ms)
    owner = connection.execute(select(users).where(users.c.name == row.owner)).one()
    if owner.disabled_ms is not None:
        raise Unauthorized("the user of this token is disabled; ask an admin")
    ceiling = Role(owner.role)
    return Principal(owner.name, role, scopes, row.id, row.id, owner.name, ceiling, session, row.last_used_ms)


def used(connection: Connection, who: Principal, now_ms: int) -> None:
    """Note that a session is in use; call it when `is_stale`."""
    connection.execute(update(tokens).where(tokens.c.id == who.token).values(last_used_ms=now_ms))


def is_stale(who: Principal, now_ms: int) -> bool:
    """Whether the time of a session's last use is to be written again: once a minute is enough."""
    return who.last_used_ms is not None and who.last_used_ms + 60_000 <= now_ms


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def charged_to(address: str) -> str:
    """Who pays for what comes from an address: of IPv6 its /64, all of which one host may have (RFC 7934)."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 4:
        return str(found)
    return str(found.ipv4_mapped or ipaddress.ip_network((int(found) >> 64 << 64, 64)))


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
        who = charged_to(address)
        seen, count = self._failures.pop(who, (minute, 0))
        count = count + 1 if seen == minute else 1
        self._failures[who] = (minute, count)
        if len(self._failures) > self._ADDRESSES:
            self._failures.popitem(last=False)
        return count > self.PER_MINUTE
