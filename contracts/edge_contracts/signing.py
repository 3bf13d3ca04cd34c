"""Signing a manifest and verifying it: DSSE around an in-toto statement.

The envelope is `dsse.py`'s matter, what is stated `statement.py`'s.
Only `verify` makes a `VerifiedManifest`, and only that type can be installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edge_contracts import dsse, statement
from edge_contracts.bundle import ENVELOPE, MANIFEST, Bundle
from edge_contracts.errors import DigestMismatch
from edge_contracts.keys import PrivateKey, TrustedKeys
from edge_contracts.manifest import Manifest
from edge_contracts.model import canonical_json

PAYLOAD_TYPE = "application/vnd.in-toto+json"


def sign_manifest(manifest: Manifest, key: PrivateKey, environment: Mapping[str, str] | None = None) -> bytes:
    """The envelope (manifest.dsse) that speaks for a manifest and every file it names.

    Args:
        environment: What the machine was like that made the files, for the statement.
    """
    payload = canonical_json(statement.make(manifest, MANIFEST, environment or {}))
    return dsse.seal(PAYLOAD_TYPE, payload, key)


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
    payload, key_id = dsse.unseal(bundle.envelope, PAYLOAD_TYPE, trusted, ENVELOPE)
    signed = statement.subjects_of(payload)
    present = {MANIFEST: bundle.digest} | {f.path: f.digest for f in bundle.manifest.files()}
    for name in sorted(signed.keys() | present.keys()):
        if signed.get(name) != present.get(name):
            raise DigestMismatch(
                f"the signature speaks for {name} with digest {signed.get(name, 'none')}, "
                f"the bundle holds {present.get(name, 'none')}"
            )
    return VerifiedManifest(bundle.manifest, bundle.digest, key_id, _PROOF)
