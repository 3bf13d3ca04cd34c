"""From what a provider says of a person to a user here: which one, of which role, and whether at all.

A person is who the provider's pair of issuer and subject says, never a name or an address: those change
hands. A name that is taken here is somebody else's, whatever the provider calls the newcomer.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, select

from edge_fleet.access import sessions, users
from edge_fleet.access.logins import open_session
from edge_fleet.access.oidc_settings import OidcSettings
from edge_fleet.auth import NewToken, Role
from edge_fleet.errors import LoginRefused
from edge_fleet.schema import users as table
from edge_fleet.services import Services

_LONGEST_NAME, _LONGEST_SUBJECT = 64, 255


def log_in(services: Services, settings: OidcSettings, claims: Mapping[str, Any], client: str) -> NewToken:
    """A session for the person of these verified claims, who becomes a user at the first login.

    The role is what the provider says now; where it says another than before, other sessions end.

    Args:
        claims: Of `oidc_token.verify`.
        client: Address that the session is opened from.

    Raises:
        LoginRefused: No role for them, no usable subject, or a user who is disabled here.
    """
    now_ms = services.now_ms()
    subject = subject_of(claims)
    role = role_of(claims, settings)
    with services.store.write() as connection:
        row = _find(connection, settings.issuer, subject)
        if role is None and row is not None:
            sessions.end_all(connection, row.name, users.PROVIDER, now_ms)
        if role is not None and row is None:
            name = _free_name(connection, claims, settings, subject)
            identity = (settings.issuer, subject)
            users.add(connection, name, role, "", users.PROVIDER, now_ms, identity=identity)
            row = users.require(connection, name)
        if role is not None and row is not None and row.disabled_ms is None:
            users.change(connection, row.name, users.PROVIDER, now_ms, role=role)
            return open_session(connection, row.name, role, client, "login by provider", now_ms)
    if row is not None and row.disabled_ms is not None:
        raise LoginRefused(f"the user {row.name} is disabled here; ask an admin")
    raise LoginRefused(
        f"the provider's claim {settings.role_claim!r} gives you no role here; ask an admin "
        "which of your groups should"
    )


def role_of(claims: Mapping[str, Any], settings: OidcSettings) -> Role | None:
    """The role of the first line of the mapping whose value a person has; None for none."""
    stated = _claim(claims, settings.role_claim)
    values = set(v for v in (stated if isinstance(stated, list) else [stated]) if isinstance(v, str))
    return next((role for value, role in settings.roles.items() if value in values), None)


def subject_of(claims: Mapping[str, Any]) -> str:
    """Who it is at the provider.

    Raises:
        LoginRefused: Not a text of 1 to 255 printable characters (Core 1.0, section 2).
    """
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 1 <= len(subject) <= _LONGEST_SUBJECT or not subject.isprintable():
        raise LoginRefused("the ID token's subject is not a text of 1 to 255 printable characters")
    return subject


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """A claim by its name; dots lead into objects where there is none of the whole name."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _find(connection: Connection, issuer: str, subject: str) -> Row[Any] | None:
    here = select(table).where(table.c.issuer == issuer, table.c.subject == subject)
    return connection.execute(here).one_or_none()


def _free_name(
    connection: Connection, claims: Mapping[str, Any], settings: OidcSettings, subject: str
) -> str:
    stated = _claim(claims, settings.name_claim)
    text = stated if isinstance(stated, str) else ""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", text.partition("@")[0]).strip("-")[:_LONGEST_NAME]
    if name and users.is_free(connection, name):
        return name
    mark = hashlib.sha256(f"{settings.issuer}\n{subject}".encode()).hexdigest()
    return f"{name or 'user'}"[: _LONGEST_NAME - 13] + "-" + mark[:12]
