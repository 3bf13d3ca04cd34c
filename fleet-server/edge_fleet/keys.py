"""The server's own secrets: the director's keys, and the secret that broker passwords are derived from.

No password is stored: HMAC-SHA256 of the account's name and salt under one secret in a file of mode
0600. So a stolen database opens nothing, and every broker's user file can be written again at any time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edge_contracts.errors import ContractError
from edge_contracts.keys import PrivateKey, read_private, write_private
from edge_contracts.on_disk import sync_folder
from edge_fleet.errors import HomeInvalid
from edge_fleet.webhooks.signing import secret_of

DIRECTOR = "director.pem"
DIRECTORS = "directors"
BROKER_SECRET = "broker.secret"
_SECRET_BYTES = 32


@dataclass(frozen=True)
class ServerKeys:
    """What a server signs and derives with.

    Args:
        director: Signs assignments and acknowledgements; the one in force (`access/directors.py`).
        directors: Every one that is not retired, by id.
    """

    director: PrivateKey
    broker_secret: bytes = field(repr=False)
    directors: Mapping[str, PrivateKey] = field(default_factory=dict)

    def password(self, user: str, salt: str) -> str:
        """The broker password of an account: 256 bits, base64url; also a device's key to its downloads."""
        purpose = f"edgefleet-broker-v1\n{user}\n{salt}".encode()
        derived = hmac.digest(self.broker_secret, purpose, hashlib.sha256)
        return base64.urlsafe_b64encode(derived).decode().rstrip("=")

    def form_secret(self, session: str) -> str:
        """What the forms of a console's session carry."""
        return hmac.digest(self.broker_secret, f"edgefleet-form-v1\n{session}".encode(), hashlib.sha256).hex()

    def login_key(self) -> bytes:
        """What a login at an identity provider is sealed with while it is under way: 256 bits."""
        return hmac.digest(self.broker_secret, b"edgefleet-login-v1", hashlib.sha256)

    def webhook_secret(self, webhook: str) -> str:
        """What a webhook is signed with: 256 bits, written as Standard Webhooks do."""
        purpose = f"edgefleet-webhook-v1\n{webhook}".encode()
        derived = hmac.digest(self.broker_secret, purpose, hashlib.sha256)
        return secret_of(derived)


def make_keys(folder: Path) -> None:
    """Make those keys that are not there yet; none is ever replaced."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (folder / DIRECTOR).exists():
        write_private(PrivateKey.generate(), folder / DIRECTOR)
    if not (folder / BROKER_SECRET).exists():
        write_secret(folder / BROKER_SECRET, secrets.token_bytes(_SECRET_BYTES))
    sync_folder(folder)


def read_keys(folder: Path) -> ServerKeys:
    """Read the keys of a home.

    Raises:
        HomeInvalid: One is missing or damaged.
    """
    try:
        director = read_private(folder / DIRECTOR)
        broker_secret = (folder / BROKER_SECRET).read_bytes()
        others = [read_private(path) for path in sorted((folder / DIRECTORS).glob("*.pem"))]
    except ContractError as error:
        raise HomeInvalid(str(error)) from None
    except OSError as error:
        raise HomeInvalid(f"cannot read {error.filename}: {error.strerror}") from None
    if len(broker_secret) != _SECRET_BYTES:
        raise HomeInvalid(
            f"{folder / BROKER_SECRET} has {len(broker_secret)} bytes, expected {_SECRET_BYTES}"
        )
    every = {key.public.key_id: key for key in (*others, director)}
    return ServerKeys(director, broker_secret, every)


def keep_director(folder: Path, key: PrivateKey) -> None:
    """Write a director's key beside the others; durable when this returns, and harmless when it is there."""
    path = _director_path(folder, key.public.key_id)
    if path.exists():
        return
    _at_disk(path, key.pem)


def put_director(folder: Path, key: PrivateKey) -> None:
    """Let a key be the one that other programs of this machine find in force."""
    _at_disk(folder / DIRECTOR, key.pem)


def forget_director(folder: Path, key_id: str) -> None:
    """Remove a key that signs nothing any more; harmless when it is gone."""
    try:
        _director_path(folder, key_id).unlink(missing_ok=True)
        sync_folder(folder / DIRECTORS)
    except OSError as error:
        raise HomeInvalid(f"cannot remove {error.filename}: {error.strerror}") from None


def _director_path(folder: Path, key_id: str) -> Path:
    return folder / DIRECTORS / f"{key_id}.pem"


def _at_disk(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        sync_folder(path.parent.parent)
        write_secret(path, content)
        sync_folder(path.parent)
    except OSError as error:
        raise HomeInvalid(f"cannot write {path}: {error.strerror}") from None


def write_secret(path: Path, content: bytes) -> None:
    """Write a file that only its owner reads, all or nothing, replacing what is there."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)
