"""Signing a manifest and verifying it: DSSE around an in-toto statement.

DSSE v1 (github.com/secure-systems-lab/dsse, protocol.md). What is stated is `statement.py`'s matter.
Only `verify` makes a `VerifiedManifest`, and only that type can be installed.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass

from edge_contracts import statement
from edge_contracts.bundle import MANIFEST, Bundle
from edge_contracts.errors import DigestMismatch, SignatureInvalid
from edge_contracts.keys import PrivateKey, TrustedKeys
from edge_contracts.manifest import Manifest
from edge_contracts.model import canonical_json

PAYLOAD_TYPE = "application/vnd.in-toto+json"


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """What is signed: DSSE protocol.md, PAE(type, body)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign_manifest(manifest: Manifest, key: PrivateKey, environment: Mapping[str, str] | None = None) -> bytes:
    """The envelope (manifest.dsse) that speaks for a manifest and every file it names.

    Args:
        environment: What the machine was like that made the files, for the statement.
    """
    payload = canonical_json(statement.make(manifest, MANIFEST, environment or {}))
    signature = key.sign(pre_authentication_encoding(PAYLOAD_TYPE, payload))
    return canonical_json(
        {
            "payloadType": PAYLOAD_TYPE,
            "payload": base64.b64encode(payload).decode(),
            "signatures": [{"keyid": key.public.key_id, "sig": base64.b64encode(signature).decode()}],
        }
    )


_PROOF = object()


@dataclass(frozen=True)
class VerifiedManifest:
    """A manifest that a trusted publisher signed, and whose files all have their digests.

    Made by `verify` alone; anything that installs takes this type and no other.
    """

    manifest: Manifest
    digest: str
    key_id: str
    _proof: object

    def __post_init__(self) -> None:  # noqa: D105
        if self._proof is not _PROOF:
            raise AssertionError("a VerifiedManifest comes out of verify() and nowhere else")


def verify(bundle: Bundle, trusted: TrustedKeys) -> VerifiedManifest:
    """Check who signed a bundle and that the signature speaks for exactly these files.

    Args:
        bundle: Opened by `open_bundle`, which has checked every file against the manifest already.

    Raises:
        KeyUnknown: No signature is by a trusted key.
        SignatureInvalid: The envelope is damaged or its signature does not verify.
        DigestMismatch: The signature verifies but speaks for other files.
    """
    payload, key_id = _open_envelope(bundle.envelope, trusted)
    signed = statement.subjects_of(payload)
    present = {MANIFEST: bundle.digest} | {f.path: f.digest for f in bundle.manifest.files()}
    for name in sorted(signed.keys() | present.keys()):
        if signed.get(name) != present.get(name):
            raise DigestMismatch(
                f"the signature speaks for {name} with digest {signed.get(name, 'none')}, "
                f"the bundle holds {present.get(name, 'none')}"
            )
    return VerifiedManifest(bundle.manifest, bundle.digest, key_id, _PROOF)


def _open_envelope(envelope: bytes, trusted: TrustedKeys) -> tuple[bytes, str]:
    """Payload and key of the first signature by a trusted key."""
    try:
        raw = json.loads(envelope)
        kind = raw["payloadType"]
        payload = base64.b64decode(raw["payload"], validate=True)
        signatures = [(s["keyid"], base64.b64decode(s["sig"], validate=True)) for s in raw["signatures"]]
        names = [str(key_id) for key_id, _ in signatures]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise SignatureInvalid("manifest.dsse is not a DSSE envelope") from None
    if kind != PAYLOAD_TYPE:
        raise SignatureInvalid(f"manifest.dsse carries {kind!r:.80}, expected {PAYLOAD_TYPE!r}")
    if not signatures:
        raise SignatureInvalid("manifest.dsse carries no signature")
    for key_id, (_, signature) in zip(names, signatures, strict=True):
        if key_id in trusted.keys:
            trusted.keys[key_id].verify(signature, pre_authentication_encoding(kind, payload))
            return payload, key_id
    trusted.find(names[0])
    raise AssertionError("find() accepted a key that is not trusted")
