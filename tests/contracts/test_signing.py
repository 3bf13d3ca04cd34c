"""Signatures of bundles: who signed, and exactly what."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace

import pytest
import samples

from edge_contracts import dsse
from edge_contracts.bundle import open_bundle
from edge_contracts.dsse import pre_authentication_encoding
from edge_contracts.errors import DigestMismatch, KeyUnknown, SignatureInvalid
from edge_contracts.keys import PrivateKey, TrustedKeys
from edge_contracts.manifest import Manifest
from edge_contracts.signing import (
    PAYLOAD_TYPE,
    VerifiedManifest,
    sign_manifest,
    verify,
)

TRUSTED = TrustedKeys.of([samples.KEY.public])


def test_the_pre_authentication_encoding_is_that_of_the_specification() -> None:
    # DSSE, protocol.md, test vectors
    expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pre_authentication_encoding("http://example.com/HelloWorld", b"hello world") == expected


def test_a_bundle_by_a_trusted_key_verifies() -> None:
    bundle = open_bundle(samples.archive())
    verified = verify(bundle, TRUSTED)
    assert (verified.manifest, verified.digest) == (samples.manifest(), bundle.digest)
    assert verified.key_id == samples.KEY.public.key_id


def test_the_statement_names_every_file_by_its_digest() -> None:
    envelope = json.loads(open_bundle(samples.archive()).envelope)
    statement = json.loads(base64.b64decode(envelope["payload"]))
    named = {s["name"]: s["digest"]["sha256"] for s in statement["subject"]}
    manifest = samples.manifest()
    for file in manifest.files():
        assert "sha256:" + named.pop(file.path) == file.digest
    assert list(named) == ["manifest.json"]


def test_a_key_that_nobody_trusts_is_named() -> None:
    stranger = PrivateKey.generate()
    with pytest.raises(KeyUnknown, match=stranger.public.key_id):
        verify(open_bundle(samples.archive(key=stranger)), TRUSTED)


def test_an_empty_set_of_keys_trusts_nobody() -> None:
    with pytest.raises(KeyUnknown, match="trusted: none"):
        verify(open_bundle(samples.archive()), TrustedKeys.of([]))


def test_a_signature_for_another_manifest_does_not_count() -> None:
    other = sign_manifest(samples.manifest(version="1.0.1"), samples.KEY)
    with pytest.raises(DigestMismatch, match=r"manifest\.json"):
        verify(replace(open_bundle(samples.archive()), envelope=other), TRUSTED)


def test_a_stranger_who_borrows_a_trusted_key_id_is_refused() -> None:
    raw = json.loads(sign_manifest(samples.manifest(), PrivateKey.generate()))
    raw["signatures"][0]["keyid"] = samples.KEY.public.key_id
    with pytest.raises(SignatureInvalid, match="does not verify"):
        verify(replace(open_bundle(samples.archive()), envelope=json.dumps(raw).encode()), TRUSTED)


@pytest.mark.parametrize(
    "envelope",
    [b"", b"{}", b"[]", b"\xff", b'{"payloadType":"x","payload":"","signatures":[]}', b"[" * 100_000],
)
def test_what_is_not_an_envelope_is_refused(envelope: bytes) -> None:
    with pytest.raises(SignatureInvalid):
        verify(replace(open_bundle(samples.archive()), envelope=envelope), TRUSTED)


def test_an_envelope_without_signatures_is_refused() -> None:
    raw = json.loads(sign_manifest(samples.manifest(), samples.KEY)) | {"signatures": []}
    assert raw["payloadType"] == PAYLOAD_TYPE
    with pytest.raises(SignatureInvalid, match="no signature"):
        verify(replace(open_bundle(samples.archive()), envelope=json.dumps(raw).encode()), TRUSTED)


def test_every_flipped_bit_of_the_payload_is_noticed() -> None:
    raw = json.loads(sign_manifest(samples.manifest(), samples.KEY))
    payload = base64.b64decode(raw["payload"])
    for position in range(0, len(payload), 7):
        broken = bytearray(payload)
        broken[position] ^= 1
        changed = raw | {"payload": base64.b64encode(bytes(broken)).decode()}
        with pytest.raises(SignatureInvalid):
            verify(replace(open_bundle(samples.archive()), envelope=json.dumps(changed).encode()), TRUSTED)


def test_nobody_makes_a_verified_manifest_by_hand() -> None:
    manifest: Manifest = samples.manifest()
    with pytest.raises(AssertionError):
        VerifiedManifest(manifest, "sha256:" + "0" * 64, "key", object())


@pytest.mark.parametrize("part", ["payload", "sig"])
def test_an_envelope_in_another_spelling_is_refused(part: str) -> None:
    # decoders that pass over what is not base64 would read the same from it
    raw = json.loads(sign_manifest(samples.manifest(), samples.KEY))
    holder = raw if part == "payload" else raw["signatures"][0]
    holder[part] = holder[part][:8] + "\n" + holder[part][8:]
    with pytest.raises(SignatureInvalid, match="not a DSSE envelope"):
        verify(replace(open_bundle(samples.archive()), envelope=json.dumps(raw).encode()), TRUSTED)


def test_a_signed_text_of_another_kind_is_no_statement() -> None:
    other = dsse.seal("text/plain", b"hello", samples.KEY)
    with pytest.raises(SignatureInvalid, match=re.escape(f"carries 'text/plain', expected '{PAYLOAD_TYPE}'")):
        verify(replace(open_bundle(samples.archive()), envelope=other), TRUSTED)
