"""Secrets in files of the device's owner: the token for the HTTP port, the login at a local broker."""

from __future__ import annotations

import secrets
import stat
from pathlib import Path

from edge_agent.device.home import write_durably
from edge_agent.errors import ListenRefused

RANDOM_BYTES = 32
SHORTEST = 16
OTHERS = stat.S_IRWXG | stat.S_IRWXO


def read_login(path: Path) -> tuple[str, str]:
    """User and password, one line USER:PASSWORD in a file that only its owner may read.

    Raises:
        ListenRefused: Others may read it, or it holds something else.
    """
    try:
        mode = path.stat().st_mode
        line = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ListenRefused(f"cannot read the login in {path}: {error}") from None
    if mode & OTHERS:
        raise ListenRefused(
            f"{path} has mode {stat.S_IMODE(mode):04o}, a password needs 0600: chmod 600 {path}"
        )
    user, separator, password = line.partition(":")
    if not separator or not user or not line.isprintable():
        raise ListenRefused(f"{path} holds no login: expected one line USER:PASSWORD")
    return user, password


def read_or_make_token(path: Path) -> str:
    """The token of a file that only its owner may read.

    Raises:
        ListenRefused: Others may read it, or what is in it is no token.
        HomeInvalid: It cannot be written.
    """
    try:
        mode = path.stat().st_mode
        content = path.read_bytes()
    except FileNotFoundError:
        token = secrets.token_urlsafe(RANDOM_BYTES)
        write_durably(path, token.encode() + b"\n")
        return token
    except OSError as error:
        raise ListenRefused(f"cannot read the token in {path}: {error.strerror}") from None
    if mode & OTHERS:
        raise ListenRefused(
            f"{path} has mode {stat.S_IMODE(mode):04o}, a token needs 0600: chmod 600 {path}, "
            "or remove it to have a new one"
        )
    return parse_token(content, path)


def parse_token(content: bytes, path: Path) -> str:
    """The token in the content of a file.

    Raises:
        ListenRefused: It is none.
    """
    token = content.strip().decode("ascii", "replace")
    if len(token) < SHORTEST or not token.isprintable() or " " in token or not token.isascii():
        raise ListenRefused(
            f"{path} holds no token: expected at least {SHORTEST} letters without spaces; "
            "remove it to have a new one"
        )
    return token
