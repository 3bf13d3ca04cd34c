"""DSSE envelopes: a payload of a stated type with signatures that bind both.

DSSE v1 (github.com/secure-systems-lab/dsse, protocol.md and envelope.md).
"""

from __future__ import annotations

import base64
import json

from edge_contracts.errors import SignatureInvalid
from edge_contracts.keys import PrivateKey, TrustedKeys
from edge_contracts.model import canonical_json


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """What is signed: DSSE protocol.md, PAE(type, body)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def seal(payload_type: str, payload: bytes, key: PrivateKey) -> bytes:
    """The envelope of a payload with one signature."""
    signature = key.sign(pre_authentication_encoding(payload_type, payload))
    return canonical_json(
        {
            "payloadType": payload_type,
            "payload": base64.b64encode(payload).decode(),
            "signatures": [{"keyid": key.public.key_id, "sig": base64.b64encode(signature).decode()}],
        }
    )


def unseal(envelope: bytes, payload_type: str, trusted: TrustedKeys, what: str) -> tuple[bytes, str]:
    """Payload, and the key of the first signature by a trusted one.

    Args:
        what: Name of the envelope, for messages.

    Raises:
        KeyUnknown: No signature is by a trusted key.
        SignatureInvalid: It is damaged, of another type, or the signature does not verify.
    """
    try:
        raw = json.loads(envelope)
        kind = raw["payloadType"]
        payload = base64.b64decode(raw["payload"], validate=True)
        signatures = [(s["keyid"], base64.b64decode(s["sig"], validate=True)) for s in raw["signatures"]]
        names = [str(key_id) for key_id, _ in signatures]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SignatureInvalid(f"{what} is not a DSSE envelope") from None
    if kind != payload_type:
        raise SignatureInvalid(f"{what} carries {kind!r:.80}, expected {payload_type!r}")
    if not signatures:
        raise SignatureInvalid(f"{what} carries no signature")
    for key_id, (_, signature) in zip(names, signatures, strict=True):
        if key_id in trusted.keys:
            trusted.keys[key_id].verify(signature, pre_authentication_encoding(kind, payload))
            return payload, key_id
    trusted.find(names[0])
    raise AssertionError("find() accepted a key that is not trusted")
