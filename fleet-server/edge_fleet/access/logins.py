"""Logging in by name and password, with less and less patience for one who guesses.

Two counts: by address (`auth.Attempts`, as for tokens) and by account. After FREE failures an account
takes no further guess for a time that doubles with each; the right password resets it. The wait is bounded,
so that a stranger who guesses cannot lock a person out for long, and the same for names that do not exist.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from dataclasses import dataclass

from sqlalchemy import Connection, select

from edge_contracts.model import ID_PATTERN
from edge_fleet.access.passwords import matches
from edge_fleet.audit import record
from edge_fleet.auth import NewToken, Role, make_token
from edge_fleet.errors import TooManyAttempts, Unauthorized
from edge_fleet.schema import users
from edge_fleet.services import Services

SESSION_S = 12 * 3600  # a working day, whatever is done in it
FREE = 5
LONGEST_WAIT_MS = 60_000
_NAMES = 10_000  # the least recent are forgotten beyond; memory stays bounded


@dataclass(frozen=True)
class Failures:
    """What an account has behind it.

    Args:
        until_ms: No guess is looked at before.
    """

    count: int = 0
    until_ms: int = 0


class Patience:
    """Failures by account."""

    def __init__(self) -> None:
        """Start with none."""
        self._failures: OrderedDict[str, Failures] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, name: str, now_ms: int) -> None:
        """Let a guess be looked at, counted as a failure until `succeeded`: many at once get no more.

        Raises:
            TooManyAttempts: Not yet.
        """
        with self._lock:
            before = self._failures.pop(name, Failures())
            wait_ms = before.until_ms - now_ms
            count = before.count if wait_ms > 0 else before.count + 1
            pause = min(LONGEST_WAIT_MS, 1000 << min(count - FREE, 10)) if count >= FREE else 0
            after = before if wait_ms > 0 else Failures(count, now_ms + pause)
            self._failures[name] = after
            if len(self._failures) > _NAMES:
                self._failures.popitem(last=False)
        if wait_ms > 0:
            seconds = -(-wait_ms // 1000)
            raise TooManyAttempts(f"too many failed logins of this name; wait {seconds} s", seconds)

    def succeeded(self, name: str) -> None:
        """Forget the failures."""
        with self._lock:
            self._failures.pop(name, None)


def log_in(services: Services, patience: Patience, name: str, password: str, client: str = "") -> NewToken:
    """A new session for a user.

    Args:
        client: Address that it is opened from.

    Raises:
        TooManyAttempts: Too many failures of this name, or too many guesses at once.
        Unauthorized: The name, the password, or neither is right; all sound alike and take as long.
    """
    now_ms = services.now_ms()
    if re.fullmatch(ID_PATTERN, name) is None:
        name = ""  # nobody's; and no text of a stranger's reaches the database
    patience.begin(name, now_ms)
    with services.store.read() as connection:
        row = connection.execute(select(users).where(users.c.name == name)).one_or_none()
    if not matches(password, row.password if row else "") or row is None or row.disabled_ms is not None:
        raise Unauthorized("no such user, another password, or a user who is disabled")
    patience.succeeded(name)
    with services.store.write() as connection:
        return open_session(connection, name, Role(row.role), client, "login", now_ms)


def open_session(
    connection: Connection, name: str, role: Role, client: str, how: str, now_ms: int, **detail: str
) -> NewToken:
    """A session of a user who has proven to be that one.

    Args:
        how: What the audit log calls it.
    """
    expires_ms = now_ms + 1000 * SESSION_S
    session = make_token(
        connection, role, name, now_ms, expires_ms, owner=name, is_session=True, client=client
    )
    record(connection, name, how, session.id, now_ms, client=client, **detail)
    return session
