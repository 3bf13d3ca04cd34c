"""Encryption of what is kept for review, with a key that never leaves the device.

ChaCha20-Poly1305 (RFC 8439) with a random nonce. The key is one of its own, in a file of mode 0600:
whoever takes the disk and not the key reads nothing, and forgetting the key forgets everything, also
what wear levelling has kept copies of (docs/decisions/0055).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from nacl.bindings import crypto_aead_chacha20poly1305_ietf_decrypt as decrypt
from nacl.bindings import crypto_aead_chacha20poly1305_ietf_encrypt as encrypt
from nacl.exceptions import CryptoError

from edge_agent.errors import HomeInvalid, ReviewDamaged
from edge_contracts.on_disk import sync_folder

KEY_BYTES = 32
NONCE_BYTES = 12
OVERHEAD_BYTES = NONCE_BYTES + 16  # with the tag


class Vault:
    """Seals bytes under one key.

    Args:
        key: 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        """Take the key."""
        self._key = key

    @staticmethod
    def at(path: Path, make: bool) -> Vault:
        """The vault of a key file.

        Args:
            make: Make a key when there is none.

        Raises:
            HomeInvalid: There is none, others may read it, or it cannot be made.
        """
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            if not make:
                raise HomeInvalid(f"{path} is missing: nothing was kept for review yet") from None
            return Vault(_make_key(path))
        except OSError as error:
            raise HomeInvalid(f"cannot read {path}: {error.strerror}") from None
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise HomeInvalid(
                f"{path} is no file; move it away: what is sealed cannot be read without its key"
            )
        with os.fdopen(handle, "rb") as stream:
            mode = stat.S_IMODE(os.fstat(handle).st_mode)
            if mode & 0o077:
                raise HomeInvalid(f"{path} has mode {mode:04o}, expected 0600: chmod 600 {path}")
            key = stream.read(KEY_BYTES + 1)
        if len(key) != KEY_BYTES:
            raise HomeInvalid(
                f"{path} has {len(key)} bytes, expected {KEY_BYTES}; edge-agent review clear makes a new one"
            )
        return Vault(key)

    def seal(self, content: bytes, context: str) -> bytes:
        """Encrypt; the context must be the same when it is opened."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + encrypt(content, context.encode(), nonce, self._key)

    def open(self, sealed: bytes, context: str) -> bytes:
        """Decrypt.

        Raises:
            ReviewDamaged: Truncated, changed, moved to another place, or of another key.
        """
        if len(sealed) < OVERHEAD_BYTES:
            raise ReviewDamaged(f"{context} has {len(sealed)} bytes, expected {OVERHEAD_BYTES} or more")
        try:
            return decrypt(sealed[NONCE_BYTES:], context.encode(), sealed[:NONCE_BYTES], self._key)
        except CryptoError:
            raise ReviewDamaged(f"{context} is damaged, or sealed with another key") from None


def forget_key(path: Path) -> None:
    """Overwrite and remove a key file; harmless when there is none.

    Raises:
        HomeInvalid: It cannot be removed.
    """
    try:
        with path.open("r+b") as stream:  # on flash this may write elsewhere; the unlink is what counts
            stream.write(os.urandom(KEY_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
        path.unlink()
        sync_folder(path.parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise HomeInvalid(f"cannot remove {path}: {error.strerror}") from None


def _make_key(path: Path) -> bytes:
    """A new key: the whole file or none; what another process made in the meantime counts."""
    key, beside = os.urandom(KEY_BYTES), path.with_name(f"{path.name}.{os.urandom(4).hex()}")
    try:
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(key)
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(beside, path)
        except FileExistsError:
            key = path.read_bytes()
        beside.unlink()
        sync_folder(path.parent)
    except OSError as error:
        raise HomeInvalid(f"cannot write {path}: {error.strerror}") from None
    return key
