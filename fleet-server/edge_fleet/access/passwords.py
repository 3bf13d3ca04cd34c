"""Passwords as scrypt hashes (RFC 7914), by the `cryptography` library."""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from edge_fleet.errors import RequestInvalid, TooManyAttempts

LOG_N, R, P = (
    15,
    8,
    3,
)  # OWASP's password storage cheat sheet: as good as N = 2^17, p = 1 with a quarter of its memory
SHORTEST, LONGEST = 12, 256  # NIST SP 800-63B-4: length counts, rules about characters do not
# 32 MiB and a tenth of a second each: guesses wait for each other, so that they cannot fill the machine
_TURNS = threading.BoundedSemaphore(2)
_WAIT_S = 5.0


def hash_password(password: str) -> str:
    """`scrypt$log2(N)$r$p$salt$hash`, base64."""
    salt = os.urandom(16)
    with _turn():
        derived = _scrypt(salt, LOG_N, R, P).derive(password.encode())
    return f"scrypt${LOG_N}${R}${P}${_text(salt)}${_text(derived)}"


def matches(password: str, stored: str) -> bool:
    """Whether a password has this hash. A hash that nobody has, "" or `UNKNOWN`, takes as long."""
    _, log_n, r, p, salt, expected = (stored or UNKNOWN).split("$")
    scrypt = _scrypt(base64.b64decode(salt), int(log_n), int(r), int(p))
    with _turn():
        try:
            scrypt.verify(password.encode(), base64.b64decode(expected))
        except InvalidKey:
            return False
    return stored not in ("", UNKNOWN)


# compared with when there is no such user: the answer takes the same time and says the same
UNKNOWN = (
    f"scrypt${LOG_N}${R}${P}${base64.b64encode(bytes(16)).decode()}${base64.b64encode(bytes(32)).decode()}"
)


def require_good(password: str, name: str) -> None:
    """Refuse what is guessed first.

    Raises:
        RequestInvalid: Too short, also without the user's name, too long, or few characters over and over.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise RequestInvalid(
            f"the password has {len(password)} characters, expected {SHORTEST} to {LONGEST}; "
            "a few words will do"
        )
    if len(set(password)) < 5:
        raise RequestInvalid("the password has too few different characters; a few words will do")
    rest = password.lower().replace(name.lower(), "")
    if len(rest) < SHORTEST:
        raise RequestInvalid(
            f"the password without the user's name has {len(rest)} characters, expected {SHORTEST} or more; "
            "a few words will do"
        )


def _scrypt(salt: bytes, log_n: int, r: int, p: int) -> Scrypt:
    return Scrypt(salt=salt, length=32, n=1 << log_n, r=r, p=p)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


@contextmanager
def _turn() -> Iterator[None]:
    if not _TURNS.acquire(timeout=_WAIT_S):
        raise TooManyAttempts("too many passwords are being checked; try again in some seconds", 5)
    try:
        yield
    finally:
        _TURNS.release()
