"""People: a name, a role, a password, and whether they may still come in."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import Connection, Row, insert, select, update
from typing_extensions import TypedDict

from edge_fleet.access import sessions
from edge_fleet.audit import record
from edge_fleet.auth import PERSONAL, Role
from edge_fleet.errors import Conflict, NotFound, RequestInvalid
from edge_fleet.model import Instant
from edge_fleet.schema import users

# who writes in histories and the audit log without being a person
PROGRAMS = frozenset({"alerts", "conductor"})
PROVIDER = "identity provider"


def add(
    connection: Connection,
    name: str,
    role: Role,
    hashed: str,
    actor: str,
    now_ms: int,
    identity: tuple[str, str] | None = None,
) -> None:
    """Make a user. A name is never used again: the audit log must stay unambiguous.

    Args:
        hashed: Of `passwords.hash_password`, computed before the transaction; "" for no password.
        identity: Issuer and subject of one who logs in at an identity provider.

    Raises:
        Conflict: There is one of this name, or a program of ours is called so.
        RequestInvalid: The role is not a person's.
    """
    _require_personal(role)
    if not is_free(connection, name):
        raise Conflict(f"there is a user {name!r} already, or it is what a program here is called")
    issuer, subject = identity or (None, None)
    connection.execute(
        insert(users).values(
            name=name, role=role, password=hashed, created_ms=now_ms, issuer=issuer, subject=subject
        )
    )
    by_provider = {"issuer": issuer, "identity": subject} if identity else {}
    record(connection, actor, "user added", name, now_ms, role=role, **by_provider)


def is_free(connection: Connection, name: str) -> bool:
    """Whether a new user may be called so."""
    taken = connection.execute(select(users.c.name).where(users.c.name == name)).first()
    return taken is None and name.lower() not in PROGRAMS


def link(
    connection: Connection, name: str, identity: tuple[str, str] | None, actor: str, now_ms: int
) -> None:
    """Say who a user is at an identity provider: issuer and subject; None for nobody there any more.

    Raises:
        NotFound: No such user.
        Conflict: Somebody else is that one.
    """
    row = require(connection, name)
    if identity == ((row.issuer, row.subject) if row.issuer else None):
        return
    if identity is not None:
        here = select(users.c.name).where(users.c.issuer == identity[0], users.c.subject == identity[1])
        other = connection.execute(here).scalar()
        if other is not None:
            raise Conflict(f"{identity[1]!r:.100} is the user {other!r} here")
    issuer, subject = identity or (None, None)
    connection.execute(update(users).where(users.c.name == name).values(issuer=issuer, subject=subject))
    record(connection, actor, "user's identity changed", name, now_ms, issuer=issuer, identity=subject)
    sessions.end_all(connection, name, actor, now_ms)


def change(
    connection: Connection,
    name: str,
    actor: str,
    now_ms: int,
    *,
    role: Role | None = None,
    hashed: str | None = None,
    disabled: bool | None = None,
) -> None:
    """Change what is given; whoever gets another role or password or is disabled is logged out everywhere.

    Raises:
        NotFound: No such user.
        RequestInvalid: The role is not a person's.
        Conflict: The role is the identity provider's to say.
    """
    row = require(connection, name)
    another_role = role is not None and role != row.role
    here = update(users).where(users.c.name == name)
    if role is not None and another_role:
        _require_personal(role)
        if row.issuer is not None and actor != PROVIDER:
            raise Conflict(
                f"the role of {name} is what {row.issuer} says at each login; "
                "change it there, or disable the user here"
            )
        connection.execute(here.values(role=role))
        record(connection, actor, "user's role changed", name, now_ms, before=row.role, after=role)
    if hashed is not None:
        connection.execute(here.values(password=hashed))
        record(connection, actor, "user's password changed", name, now_ms)
    if disabled is not None and disabled != (row.disabled_ms is not None):
        connection.execute(here.values(disabled_ms=now_ms if disabled else None))
        record(connection, actor, f"user {'disabled' if disabled else 'enabled'}", name, now_ms)
    if another_role or hashed is not None or disabled:
        sessions.end_all(connection, name, actor, now_ms)


def require(connection: Connection, name: str) -> Row[Any]:
    """The row of a user.

    Raises:
        NotFound: No such user.
    """
    row = connection.execute(select(users).where(users.c.name == name)).one_or_none()
    if row is None:
        raise NotFound(f"no user {name!r:.100}")
    return row


class UserRow(TypedDict):
    """A person, without the password.

    Args:
        disabled_ms: Null while they are let in.
        issuer, subject: Who it is at the identity provider; null for nobody there.
    """

    name: str
    role: Role
    created_ms: Instant
    disabled_ms: Instant | None
    issuer: str | None
    subject: str | None


def listed(connection: Connection) -> list[UserRow]:
    """Every user without the password, by name."""
    columns = [column for column in users.c if column.name != "password"]
    rows = connection.execute(select(*columns).order_by(users.c.name)).mappings()
    return [cast("UserRow", dict(row)) for row in rows]


def _require_personal(role: Role) -> None:
    if role not in PERSONAL:
        raise RequestInvalid(f"role {role!r} is no person's, expected one of {', '.join(PERSONAL)}")
