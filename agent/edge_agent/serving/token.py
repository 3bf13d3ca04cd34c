"""The token that applications show at the HTTP port: a file of the device's owner, made at first use."""

from __future__ import annotations

import secrets
import stat
from pathlib import Path

from edge_agent.device.home import write_durably
from edge_agent.errors import ListenRefused

RANDOM_BYTES = 32
SHORTEST = 16
OTHERS = stat.S_IRWXG | stat.S_IRWXO


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
    token = content.strip().decode("ascii", "replace")
    if len(token) < SHORTEST or not token.isprintable() or " " in token or not token.isascii():
        raise ListenRefused(
            f"{path} holds no token: expected at least {SHORTEST} letters without spaces; "
            "remove it to have a new one"
        )
    return token
