"""A file under a passphrase: Argon2id (RFC 9106) makes a key, libsodium's secretstream seals pieces with it.

Each piece is bound to its place, and the last one says that it is the last: a file that was cut off,
changed or put together differently does not open.
"""

from __future__ import annotations

from typing import BinaryIO

from nacl import bindings, pwhash
from nacl.exceptions import CryptoError
from nacl.utils import random

from edge_fleet.errors import BackupInvalid

MAGIC = b"edgefleet sealed 1\n"
_PIECE = 1 << 16
_EXTRA = bindings.crypto_secretstream_xchacha20poly1305_ABYTES
_HEADER = bindings.crypto_secretstream_xchacha20poly1305_HEADERBYTES
_FINAL = bindings.crypto_secretstream_xchacha20poly1305_TAG_FINAL
_MESSAGE = bindings.crypto_secretstream_xchacha20poly1305_TAG_MESSAGE


class SealedWriter:
    """Seals what is written; `finish` writes the last piece."""

    def __init__(self, stream: BinaryIO, passphrase: str) -> None:
        """Write the head."""
        salt = random(pwhash.argon2id.SALTBYTES)
        self._stream, self._waiting = stream, bytearray()
        self._state = bindings.crypto_secretstream_xchacha20poly1305_state()
        header = bindings.crypto_secretstream_xchacha20poly1305_init_push(self._state, _key(passphrase, salt))
        stream.write(MAGIC + salt + header)

    def write(self, content: bytes) -> int:
        """Take more."""
        self._waiting += content
        while len(self._waiting) > _PIECE:
            self._push(bytes(self._waiting[:_PIECE]), _MESSAGE)
            del self._waiting[:_PIECE]
        return len(content)

    def finish(self) -> None:
        """Seal what is left as the last piece."""
        self._push(bytes(self._waiting), _FINAL)

    def _push(self, piece: bytes, tag: int) -> None:
        push = bindings.crypto_secretstream_xchacha20poly1305_push
        self._stream.write(push(self._state, piece, None, tag))


class SealedReader:
    """Opens what SealedWriter wrote.

    Raises (also when reading):
        BackupInvalid: Another passphrase, or a file that is not as it was written.
    """

    def __init__(self, stream: BinaryIO, passphrase: str) -> None:
        """Read the head, whose MAGIC has been read already."""
        salt, header = stream.read(pwhash.argon2id.SALTBYTES), stream.read(_HEADER)
        if len(header) != _HEADER:
            raise BackupInvalid("the backup ends in its head; it was cut off")
        self._stream, self._open = stream, bytearray()
        self._state = bindings.crypto_secretstream_xchacha20poly1305_state()
        self._done = False
        bindings.crypto_secretstream_xchacha20poly1305_init_pull(self._state, header, _key(passphrase, salt))

    def read(self, count: int) -> bytes:
        """The next bytes; fewer at the end."""
        while len(self._open) < count and not self._done:
            self._pull()
        found = bytes(self._open[:count])
        del self._open[:count]
        return found

    def _pull(self) -> None:
        piece = self._stream.read(_PIECE + _EXTRA)
        try:
            content, tag = bindings.crypto_secretstream_xchacha20poly1305_pull(self._state, piece)
        except (CryptoError, ValueError):
            raise BackupInvalid(
                "the backup does not open: another passphrase, or it was changed or cut off"
            ) from None
        self._open += content
        self._done = tag == _FINAL


def _key(passphrase: str, salt: bytes) -> bytes:
    return bytes(
        pwhash.argon2id.kdf(
            bindings.crypto_secretstream_xchacha20poly1305_KEYBYTES,
            passphrase.encode(),
            salt,
            pwhash.argon2id.OPSLIMIT_MODERATE,
            pwhash.argon2id.MEMLIMIT_MODERATE,
        )
    )
