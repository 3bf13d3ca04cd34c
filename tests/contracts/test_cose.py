"""Envelopes of messages, checked against an independent implementation of RFC 9052."""

from __future__ import annotations

import cbor2
import cwt
import pytest
import samples
from cwt import COSE, COSEKey

from edge_contracts import cose
from edge_contracts.errors import FormatInvalid, KeyUnknown, SignatureInvalid
from edge_contracts.keys import PrivateKey

TOPIC = "edge/v1/f/d/telemetry"


def test_another_implementation_verifies_ours() -> None:
    envelope = cose.sign(b"payload", TOPIC, samples.KEY)
    key = COSEKey.from_pem(samples.KEY.public.pem.decode(), kid=samples.KEY.public.key_id)
    assert COSE.new().decode(envelope, key, external_aad=TOPIC.encode()) == b"payload"


def test_ours_verifies_another_implementation() -> None:
    key = COSEKey.from_pem(samples.KEY.pem.decode(), kid=samples.KEY.public.key_id)
    key_id = samples.KEY.public.key_id.encode()
    header = {cwt.COSEHeaders.ALG: cwt.COSEAlgs.EDDSA, cwt.COSEHeaders.KID: key_id}
    envelope = COSE.new().encode_and_sign(b"payload", key, protected=header, external_aad=TOPIC.encode())
    assert cose.verify(envelope, TOPIC, samples.KEY.public) == b"payload"


def test_an_envelope_does_not_count_on_another_topic() -> None:
    envelope = cose.sign(b"payload", TOPIC, samples.KEY)
    with pytest.raises(SignatureInvalid, match="edge/v1/f/other/telemetry"):
        cose.verify(envelope, "edge/v1/f/other/telemetry", samples.KEY.public)


def test_no_flipped_bit_goes_unnoticed() -> None:
    envelope = cose.sign(b"payload of some length", TOPIC, samples.KEY)
    for position in range(len(envelope)):
        for bit in (0x01, 0x80):
            broken = bytearray(envelope)
            broken[position] ^= bit
            with pytest.raises((SignatureInvalid, FormatInvalid)):
                cose.verify(bytes(broken), TOPIC, samples.KEY.public)


def test_another_key_is_refused_by_name() -> None:
    stranger = PrivateKey.generate()
    with pytest.raises(KeyUnknown, match=stranger.public.key_id):
        cose.verify(cose.sign(b"", TOPIC, stranger), TOPIC, samples.KEY.public)


def sign1(protected: object, payload: object = b"p", signature: object = b"s", tag: int = 18) -> bytes:
    return cbor2.dumps(cbor2.CBORTag(tag, [cbor2.dumps(protected), {}, payload, signature]))


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff",
        b"\x9f" * 100_000,
        cbor2.dumps({"epoch": 1}),
        cbor2.dumps(cbor2.CBORTag(18, [])),
        cbor2.dumps(cbor2.CBORTag(18, 7)),
        sign1({1: -8, 4: b"k"}, tag=17),
        sign1({1: -7, 4: b"k"}),
        sign1({4: b"k"}),
        sign1({1: -8}),
        sign1({1: -8, 4: "text"}),
        sign1({1: -8, 4: b"k", 2: [99]}),
        sign1([1]),
        sign1({1: -8, 4: b"k"}, payload=None),
        sign1({1: -8, 4: b"k"}, signature=5),
        sign1({1: -8, 4: b"k"}) + b"\x00",
        bytes(cose.MAX_ENVELOPE_BYTES + 1),
    ],
)
def test_what_is_not_an_envelope_is_refused(message: bytes) -> None:
    with pytest.raises(FormatInvalid):
        cose.parse(message)
