"""Ed25519 keys in PEM: the two forms of RFC 8410, written and read.

Each is a fixed prefix of DER and the 32 raw bytes (sections 4 and 7, and the examples of section 10): a key
as every tool writes it needs no parser of ASN.1. `keys.py` asks the library `cryptography` about any other
file: it knows all forms, and costs 8 MB of memory that a daemon need not pay to read its own key.
"""

from __future__ import annotations

import base64
import binascii

PRIVATE, PUBLIC = "PRIVATE KEY", "PUBLIC KEY"
RAW_BYTES = 32
# SEQUENCE {INTEGER 0, SEQUENCE {OID 1.3.101.112}, OCTET STRING {OCTET STRING of 32}}, PKCS#8
# SEQUENCE {SEQUENCE {OID 1.3.101.112}, BIT STRING of 32}, SubjectPublicKeyInfo
PREFIX = {
    PRIVATE: bytes.fromhex("302e020100300506032b657004220420"),
    PUBLIC: bytes.fromhex("302a300506032b6570032100"),
}


def to_pem(raw: bytes, kind: str) -> bytes:
    """The PEM of a key.

    Args:
        raw: The 32 bytes of RFC 8032: the seed of a private key, or the public point.
        kind: PRIVATE or PUBLIC.
    """
    if len(raw) != RAW_BYTES:
        raise ValueError(f"a key of {len(raw)} bytes, expected {RAW_BYTES}")
    text = base64.b64encode(PREFIX[kind] + raw).decode()
    return f"-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n".encode()


def from_pem(content: bytes, kind: str) -> bytes | None:
    """The 32 bytes of a key in its usual form; None for anything else, which may be a key all the same."""
    lines = content.strip().splitlines()
    if len(lines) < 3 or (lines[0], lines[-1]) != (
        f"-----BEGIN {kind}-----".encode(),
        f"-----END {kind}-----".encode(),
    ):
        return None
    try:
        der = base64.b64decode(b"".join(lines[1:-1]), validate=True)
    except (binascii.Error, ValueError):
        return None
    prefix = PREFIX[kind]
    return der[len(prefix) :] if der.startswith(prefix) and len(der) == len(prefix) + RAW_BYTES else None
