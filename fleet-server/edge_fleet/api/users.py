"""People over HTTP: adding and changing them, logging in, one's own password."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Request
from pydantic import Field, SecretStr
from typing_extensions import TypedDict

from edge_fleet.access import sessions, users
from edge_fleet.access.logins import log_in
from edge_fleet.access.passwords import LONGEST, hash_password, matches, require_good
from edge_fleet.api.access import Admin, Reader, Shared, client_of, refused
from edge_fleet.api.answers import Router
from edge_fleet.auth import Role
from edge_fleet.errors import Conflict, Forbidden, Unauthorized
from edge_fleet.model import Frozen, Identifier, Instant

router = Router(prefix="/api/v1", tags=["users"])

Password = Annotated[SecretStr, Field(max_length=LONGEST)]


class NewUser(Frozen):
    """A person to let in."""

    name: Identifier
    role: Role = Role.VIEWER
    password: Password


class UserChange(Frozen):
    """What to change; what is None stays.

    Args:
        subject: Who it is at the identity provider of this server; "" for nobody there.
    """

    role: Role | None = None
    password: Password | None = None
    disabled: bool | None = None
    subject: Annotated[str, Field(max_length=255)] | None = None


class Login(Frozen):
    """Who wants in."""

    name: Annotated[str, Field(max_length=64)]
    password: Password


class PasswordChange(Frozen):
    """One's own password, before and after."""

    before: Password
    after: Password


class LoggedIn(TypedDict):
    """A token of one who has logged in.

    Args:
        token: The secret, to send as Authorization: Bearer.
    """

    token: str
    role: Role
    expires_ms: Instant | None


class UserAdded(TypedDict):
    """A user who is let in from now on."""

    name: str
    role: Role


class UserChanged(UserAdded):
    """A user, as they are now."""

    disabled: bool


class PasswordChanged(TypedDict):
    """Whose password is another one now."""

    name: str
    changed: Literal[True]


class SessionEnded(TypedDict):
    """A session that is over."""

    id: str
    ended: Literal[True]


class UserLoggedOut(TypedDict):
    """A user who is logged in nowhere.

    Args:
        ended: How many sessions.
    """

    name: str
    ended: int


@router.post("/login")
def login(body: Login, request: Request, services: Shared) -> LoggedIn:
    """A token for a working day, for a name and a password; it ends an hour after its last use."""
    try:
        password = body.password.get_secret_value()
        session = log_in(services, services.patience, body.name, password, client_of(request))
    except Unauthorized as error:
        raise refused(request, services, error) from None
    return {"token": session.secret, "role": session.role, "expires_ms": session.expires_ms}


@router.get("/users")
def list_users(services: Shared, who: Admin) -> list[users.UserRow]:
    """Every user."""
    with services.store.read() as connection:
        return users.listed(connection)


@router.post("/users", status_code=201)
def add_user(body: NewUser, services: Shared, who: Admin) -> UserAdded:
    """Add a user; a name is never used twice."""
    require_good(body.password.get_secret_value(), body.name)
    hashed = hash_password(body.password.get_secret_value())
    with services.store.write() as connection:
        users.add(connection, body.name, body.role, hashed, who.name, services.now_ms())
    return {"name": body.name, "role": body.role}


@router.post("/users/{name}")
def change_user(name: str, body: UserChange, services: Shared, who: Admin) -> UserChanged:
    """Change a role or a password, disable or enable; a new password or none ends the sessions."""
    hashed = None
    if body.password is not None:
        require_good(body.password.get_secret_value(), name)
        hashed = hash_password(body.password.get_secret_value())
    identity = None
    if body.subject:
        if services.provider is None:
            raise Conflict("this server has no identity provider; see edge-fleet serve --oidc")
        identity = (services.provider.settings.issuer, body.subject)
    with services.store.write() as connection:
        if body.subject is not None:
            users.link(connection, name, identity, who.name, services.now_ms())
        users.change(
            connection,
            name,
            who.name,
            services.now_ms(),
            role=body.role,
            hashed=hashed,
            disabled=body.disabled,
        )
        row = users.require(connection, name)
    return {"name": name, "role": Role(row.role), "disabled": row.disabled_ms is not None}


@router.post("/password")
def change_password(body: PasswordChange, services: Shared, who: Reader) -> PasswordChanged:
    """Change one's own password; every session ends, this one too."""
    if not who.user or who.last_used_ms is None:
        raise Forbidden("log in by name and password to change the password")
    services.patience.begin(who.user, services.now_ms())
    with services.store.read() as connection:
        row = users.require(connection, who.user)
    if not matches(body.before.get_secret_value(), row.password):
        raise Forbidden("the password of before is another one")
    services.patience.succeeded(who.user)
    require_good(body.after.get_secret_value(), who.user)
    hashed = hash_password(body.after.get_secret_value())
    with services.store.write() as connection:
        users.change(connection, who.user, who.name, services.now_ms(), hashed=hashed)
    return {"name": who.user, "changed": True}


@router.get("/sessions")
def list_sessions(services: Shared, who: Reader) -> list[sessions.OpenSession]:
    """Who is logged in: one's own sessions, for an admin everybody's."""
    with services.store.read() as connection:
        return sessions.listed(connection, who, services.now_ms())


@router.post("/sessions/{session}/end")
def end_session(session: str, services: Shared, who: Reader) -> SessionEnded:
    """End a session of one's own, for an admin anybody's; its streams end within seconds."""
    with services.store.write() as connection:
        sessions.end(connection, session, who, services.now_ms())
    return {"id": session, "ended": True}


@router.post("/users/{name}/logout")
def log_out_user(name: str, services: Shared, who: Admin) -> UserLoggedOut:
    """End every session of a user; tokens stay."""
    with services.store.write() as connection:
        users.require(connection, name)
        ended = sessions.end_all(connection, name, who.name, services.now_ms())
    return {"name": name, "ended": ended}
