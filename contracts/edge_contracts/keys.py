"""Ed25519 keys: making, reading, writing, naming.

RFC 8032, by libsodium (PyNaCl); docs/decisions/0076 says why. Private keys are PKCS#8 PEM in files of mode
0600; public keys are SubjectPublicKeyInfo PEM.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from edge_contracts import pem
from edge_contracts.errors import KeyInvalid, KeyUnknown, SignatureInvalid

SIGNATURE_BYTES = 64


@dataclass(frozen=True)
class PublicKey:
    """A public key by its 32 raw bytes."""

    raw: bytes

    @cached_property
    def key_id(self) -> str:
        """Name of the key: the first 32 hex digits of the SHA-256 of its raw bytes."""
        return hashlib.sha256(self.raw).hexdigest()[:32]

    @cached_property
    def _verifier(self) -> VerifyKey:
        return VerifyKey(self.raw)

    @property
    def base64(self) -> str:
        """The raw bytes in base64, as the server's API and the subscribers exchange it."""
        return base64.b64encode(self.raw).decode()

    @property
    def pem(self) -> bytes:
        """SubjectPublicKeyInfo PEM."""
        return pem.to_pem(self.raw, pem.PUBLIC)

    def verify(self, signature: bytes, content: bytes) -> None:
        """Check a signature.

        Raises:
            SignatureInvalid: It does not verify.
        """
        if len(signature) != SIGNATURE_BYTES:
            raise SignatureInvalid(f"a signature has {len(signature)} bytes, expected {SIGNATURE_BYTES}")
        try:
            self._verifier.verify(content, signature)
        except BadSignatureError:
            raise SignatureInvalid(f"the signature does not verify with key {self.key_id}") from None

    @staticmethod
    def from_base64(text: str) -> PublicKey:
        """Read 32 raw bytes in base64.

        Raises:
            KeyInvalid: It is not that.
        """
        try:
            raw = base64.b64decode(text, validate=True)
        except ValueError:
            raise KeyInvalid("a public key is not base64") from None
        if len(raw) != 32:
            raise KeyInvalid(f"a public key has {len(raw)} bytes, expected 32 (Ed25519)")
        return PublicKey(raw)


@dataclass(frozen=True)
class PrivateKey:
    """A signing key; never shown by repr."""

    _key: SigningKey

    @property
    def public(self) -> PublicKey:
        """The public half."""
        return PublicKey(bytes(self._key.verify_key))

    def sign(self, content: bytes) -> bytes:
        """A 64-byte signature."""
        return self._key.sign(content).signature

    @property
    def pem(self) -> bytes:
        """PKCS#8 PEM, not encrypted."""
        return pem.to_pem(bytes(self._key), pem.PRIVATE)

    def __repr__(self) -> str:
        """The public name only."""
        return f"PrivateKey({self.public.key_id})"

    @staticmethod
    def from_seed(seed: bytes) -> PrivateKey:
        """A key from the 32 bytes that RFC 8032 calls the private key."""
        return PrivateKey(SigningKey(seed))

    @staticmethod
    def generate() -> PrivateKey:
        """A new key from the system's randomness."""
        return PrivateKey(SigningKey.generate())


def write_private(key: PrivateKey, path: Path) -> None:
    """Write a private key so that only its owner reads it; an existing file is never replaced.

    Raises:
        KeyInvalid: There is a file already.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise KeyInvalid(
            f"{path} is there already; keys are not overwritten, choose another folder"
        ) from None
    with os.fdopen(handle, "wb") as stream:
        stream.write(key.pem)
        stream.flush()
        os.fsync(stream.fileno())


def read_private(path: Path) -> PrivateKey:
    """Read a private key.

    Raises:
        KeyInvalid: No such file, or not an Ed25519 private key in PEM.
    """
    return parse_private(_read(path), path)


def parse_private(content: bytes, path: Path) -> PrivateKey:
    """A private key out of the content of a file.

    Raises:
        KeyInvalid: It is not an Ed25519 private key in PEM.
    """
    seed = pem.from_pem(content, pem.PRIVATE)
    return PrivateKey.from_seed(seed if seed is not None else _other_private(content, path))


def read_public(path: Path) -> PublicKey:
    """Read a public key.

    Raises:
        KeyInvalid: No such file, or not an Ed25519 public key in PEM.
    """
    return parse_public(_read(path), path)


def parse_public(content: bytes, what: Path | str) -> PublicKey:
    """Read a public key from what a file of it holds.

    Raises:
        KeyInvalid: It is not an Ed25519 public key in PEM.
    """
    if b"PRIVATE KEY" in content:
        raise KeyInvalid(f"{what} holds a private key; give the public one (public.pem)")
    raw = pem.from_pem(content, pem.PUBLIC)
    return PublicKey(raw if raw is not None else _other_public(content, what))


def _other_private(content: bytes, path: Path) -> bytes:
    """The seed out of a file that is not in the usual form: a rarer one, or refused for what it is."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyInvalid(
            f"{path} is not an unencrypted private key in PEM, as edge-convert keygen makes one"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyInvalid(f"{path} holds a {type(key).__name__.strip('_')}, expected Ed25519")
    return key.private_bytes_raw()


def _other_public(content: bytes, what: Path | str) -> bytes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyInvalid(f"{what} is not a public key in PEM") from None
    if not isinstance(key, Ed25519PublicKey):
        raise KeyInvalid(f"{what} holds a {type(key).__name__.strip('_')}, expected Ed25519")
    return key.public_bytes_raw()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KeyInvalid(f"cannot read key {path}: {error.strerror}") from None


@dataclass(frozen=True)
class TrustedKeys:
    """The keys whose signatures count, by key id.

    Args:
        retired: Keys that sign nothing new; what they signed before counts.
        revoked: Keys that count for nothing any more.
        stopped: Of the revoked ones: what they signed must not even go on answering.
    """

    keys: Mapping[str, PublicKey]
    retired: Mapping[str, PublicKey] = field(default_factory=dict)
    revoked: Mapping[str, PublicKey] = field(default_factory=dict)
    stopped: frozenset[str] = frozenset()

    @staticmethod
    def of(keys: Iterable[PublicKey]) -> TrustedKeys:
        """A set from keys."""
        return TrustedKeys({key.key_id: key for key in keys})

    @property
    def ever(self) -> TrustedKeys:
        """Those that once counted too: for what was verified and installed when they did."""
        return TrustedKeys({**self.revoked, **self.retired, **self.keys})

    @property
    def standing(self) -> TrustedKeys:
        """Those that count, and retired ones: for what was installed before and may go on being used."""
        return TrustedKeys({**self.retired, **self.keys}, revoked=self.revoked, stopped=self.stopped)

    def plus(self, key: PublicKey) -> TrustedKeys:
        """The set with one more; a key that a person gives anew is retired or revoked no longer."""
        name = key.key_id
        return TrustedKeys(
            {**self.keys, name: key},
            {other: known for other, known in self.retired.items() if other != name},
            {other: known for other, known in self.revoked.items() if other != name},
            self.stopped - {name},
        )

    def find(self, key_id: str) -> PublicKey:
        """A key by its name.

        Raises:
            KeyUnknown: Nobody trusts it here.
        """
        if key_id in self.keys:
            return self.keys[key_id]
        if key_id in self.revoked or key_id in self.retired:
            how = "revoked" if key_id in self.revoked else "retired"
            raise KeyUnknown(f"signed by key {key_id}, which is {how} here")
        known = ", ".join(sorted(self.keys)) or "none"
        raise KeyUnknown(f"signed by key {key_id:.64}, which is not trusted here (trusted: {known})")
