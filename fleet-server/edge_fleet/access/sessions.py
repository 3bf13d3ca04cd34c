"""Sessions: people who are logged in now, and ending what they have open.

A session is the rows of `tokens` that share `tokens.session`: it is opened with one secret and gets
another every ROTATE_MS while it is in use, so that a cookie that was copied is soon worth nothing. The
secret before stays good for `auth.GRACE_MS`: requests may be under way with it, and an answer may be lost.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select, update

from edge_fleet.audit import record
from edge_fleet.auth import IDLE_MS, NewToken, Principal, Right, Role, make_token, standing
from edge_fleet.errors import NotFound, Unauthorized
from edge_fleet.schema import tokens

AREA = "users"
ROTATE_MS = 15 * 60_000


@dataclass(frozen=True)
class OpenSession:
    """Somebody who is logged in.

    Args:
        name: Of the user, or of the token that the session was opened with.
        user: Of the user; "" when it was opened with a token of nobody.
        expires_ms: When it ends, used or not.
        client: Address that it was opened from; "" when that is not known.
        mine: Whether it is the one that asks.
    """

    id: str
    name: str
    user: str
    role: Role
    opened_ms: int
    last_used_ms: int
    expires_ms: int | None
    client: str
    mine: bool


def listed(connection: Connection, who: Principal, now_ms: int) -> list[OpenSession]:
    """The sessions that are open: one's own, for an admin everybody's; the last used first."""
    everybodys = who.may(Right.ADMIN, AREA)
    found = (_opened(connection, session, who, now_ms) for session in _candidates(connection, now_ms))
    shown = [one for one, own in filter(None, found) if own or everybodys]
    return sorted(shown, key=lambda one: (-one.last_used_ms, one.id))


def end(connection: Connection, session: str, who: Principal, now_ms: int) -> None:
    """End one: one's own, for an admin anybody's.

    Raises:
        NotFound: No such session is open to them.
    """
    found = _opened(connection, session, who, now_ms)
    if found is None or not (found[1] or who.may(Right.ADMIN, AREA)):
        raise NotFound(f"no open session {session!r:.100}; edge-fleet user sessions lists them")
    forget(connection, session, now_ms)
    record(connection, who.name, "session ended", session, now_ms, of=found[0].name)


def end_all(connection: Connection, user: str, actor: str, now_ms: int) -> int:
    """End every session of a user and say how many; tokens that are no sessions stay."""
    of_user = _candidates(connection, now_ms, user)
    for session in of_user:
        forget(connection, session, now_ms)
    if of_user:
        record(connection, actor, "sessions ended", user, now_ms, count=len(of_user))
    return len(of_user)


def forget(connection: Connection, session: str, now_ms: int) -> None:
    """Make every secret of a session worthless."""
    here = update(tokens).where(tokens.c.session == session, tokens.c.revoked_ms.is_(None))
    connection.execute(here.values(revoked_ms=now_ms))


def rotate(connection: Connection, who: Principal, now_ms: int) -> NewToken | None:
    """A new secret for a session whose own has served for ROTATE_MS; None when it has not."""
    row = connection.execute(select(tokens).where(tokens.c.id == who.token)).one()
    if not who.session or now_ms - row.created_ms < ROTATE_MS:
        return None
    renewed = make_token(
        connection,
        Role(row.role),
        row.label,
        now_ms,
        row.expires_ms,
        parent=row.parent,
        scopes=row.scopes,
        owner=row.owner,
        is_session=True,
        session=who.session,
        client=row.client,
    )
    first = update(tokens).where(tokens.c.id == row.id, tokens.c.replaced_ms.is_(None))
    connection.execute(first.values(replaced_ms=now_ms))
    return renewed


def _candidates(connection: Connection, now_ms: int, user: str | None = None) -> list[str]:
    """Sessions with a row that may be good still."""
    query = (
        select(tokens.c.session)
        .where(
            tokens.c.session.is_not(None),
            tokens.c.revoked_ms.is_(None),
            tokens.c.last_used_ms > now_ms - IDLE_MS,
            tokens.c.expires_ms.is_(None) | (tokens.c.expires_ms > now_ms),
        )
        .distinct()
    )
    if user is not None:
        query = query.where(tokens.c.owner == user)
    return [str(session) for session in connection.execute(query).scalars()]


def _opened(
    connection: Connection, session: str, who: Principal, now_ms: int
) -> tuple[OpenSession, bool] | None:
    """A session that is open, and whether it is of the one who asks."""
    first = connection.execute(select(tokens).where(tokens.c.id == session)).one_or_none()
    if first is None or first.session != session:
        return None
    try:
        # by the session, so that the most recent of its secrets is asked
        of = standing(connection, Principal("", Role(first.role), token=session, session=session), now_ms)
    except Unauthorized:  # over, or its user is disabled, or its token is worth nothing
        return None
    opened = OpenSession(
        session,
        of.name,
        of.user,
        of.ceiling or of.role,
        first.created_ms,
        of.last_used_ms or first.created_ms,
        first.expires_ms,
        first.client,
        session == who.session,
    )
    own = of.user == who.user if of.user or who.user else of.origin == who.origin
    return opened, own
