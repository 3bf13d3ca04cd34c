"""Envelopes of messages, checked against two independent implementations of RFC 9052."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import cbor2
import cwt
import pytest
import samples
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cwt import COSE, COSEKey
from cwt.exceptions import VerifyError
from hypothesis import given
from hypothesis import strategies as st
from message_examples import EXAMPLES
from pycose.algorithms import EdDSA
from pycose.headers import KID, Algorithm
from pycose.keys import OKPKey
from pycose.messages import Sign1Message

from edge_contracts import cose, envelope, messages, topics
from edge_contracts.errors import FormatInvalid, KeyUnknown, SignatureInvalid
from edge_contracts.keys import PrivateKey

TOPIC = "edge/v1/f/d/telemetry"


KEY_ID = samples.KEY.public.key_id.encode()
Verify = Callable[[bytes, str], bytes]
Sign = Callable[[bytes, str], bytes]


def cwt_verifies(envelope: bytes, topic: str) -> bytes:
    """python-cwt."""
    key = COSEKey.from_pem(samples.KEY.public.pem.decode(), kid=KEY_ID)
    payload: bytes = COSE.new().decode(envelope, key, external_aad=topic.encode())
    return payload


def cwt_signs(payload: bytes, topic: str) -> bytes:
    key = COSEKey.from_pem(samples.KEY.pem.decode(), kid=KEY_ID)
    header = {cwt.COSEHeaders.ALG: cwt.COSEAlgs.EDDSA, cwt.COSEHeaders.KID: KEY_ID}
    envelope: bytes = COSE.new().encode_and_sign(payload, key, protected=header, external_aad=topic.encode())
    return envelope


def pycose_verifies(envelope: bytes, topic: str) -> bytes:
    """pycose."""
    message = Sign1Message.decode(envelope)
    message.external_aad = topic.encode()
    message.key = OKPKey(crv="ED25519", x=samples.KEY.public.raw)
    if not message.verify_signature():
        raise VerifyError("pycose does not verify it")
    payload: bytes = message.payload
    return payload


def pycose_signs(payload: bytes, topic: str) -> bytes:
    private = load_pem_private_key(samples.KEY.pem, None)
    seed = private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    header = {Algorithm: EdDSA, KID: KEY_ID}
    message = Sign1Message(phdr=header, payload=payload, external_aad=topic.encode())
    message.key = OKPKey(crv="ED25519", x=samples.KEY.public.raw, d=seed)
    envelope: bytes = message.encode()
    return envelope


VERIFIERS = {"python-cwt": cwt_verifies, "pycose": pycose_verifies}
SIGNERS = {"python-cwt": cwt_signs, "pycose": pycose_signs}
GOLDEN = Path(__file__).parents[1] / "golden" / "v1"


@pytest.mark.parametrize("verifies", VERIFIERS.values(), ids=VERIFIERS)
@pytest.mark.parametrize("name", EXAMPLES)
def test_other_implementations_verify_every_envelope_that_was_ever_written(
    verifies: Verify, name: str
) -> None:
    envelope = (GOLDEN / f"{name}.cose").read_bytes()
    topic = topics.topic("f", "d1", EXAMPLES[name][0])
    assert verifies(envelope, topic) == cose.verify(envelope, topic, samples.KEY.public)


@pytest.mark.parametrize("signs", SIGNERS.values(), ids=SIGNERS)
@pytest.mark.parametrize("payload", [b"", b"payload", bytes(70_000)], ids=len)
def test_ours_are_the_bytes_that_other_implementations_write(signs: Sign, payload: bytes) -> None:
    # Ed25519 has no randomness and the encoding one spelling: whoever signs, the envelope is the same
    envelope = signs(payload, TOPIC)
    assert envelope == cose.sign(payload, TOPIC, samples.KEY)
    assert cose.verify(envelope, TOPIC, samples.KEY.public) == payload


@pytest.mark.parametrize("verifies", VERIFIERS.values(), ids=VERIFIERS)
def test_other_implementations_refuse_what_we_refuse(verifies: Verify) -> None:
    envelope = cose.sign(b"payload", TOPIC, samples.KEY)
    changed = bytearray(envelope)
    changed[-70] ^= 1  # in the payload
    for wrong, topic in ((envelope, TOPIC + "2"), (bytes(changed), TOPIC)):
        with pytest.raises(VerifyError):
            verifies(wrong, topic)
        with pytest.raises(SignatureInvalid):
            cose.verify(wrong, topic, samples.KEY.public)


def test_a_spelling_that_others_would_take_is_refused() -> None:
    tag = cbor2.loads(cose.sign(b"payload", TOPIC, samples.KEY))
    protected, _, payload, signature = tag.value
    for unprotected in ({4: KEY_ID}, {"note": 1}):  # not signed: whoever carries the message could write it
        envelope = cbor2.dumps(cbor2.CBORTag(18, [protected, unprotected, payload, signature]))
        assert pycose_verifies(envelope, TOPIC) == b"payload"
        with pytest.raises(FormatInvalid, match="shortest form"):
            cose.verify(envelope, TOPIC, samples.KEY.public)


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


def by_a_decoder(message: bytes) -> list[object] | None:
    """The parts of an envelope, as a decoder of CBOR and the definition have them; None when it is none."""
    try:
        tag = cbor2.loads(message)
        protected, _, payload, signature = tag.value
        stream = io.BytesIO(protected)
        header = cbor2.load(stream)
        again = cbor2.dumps(cbor2.CBORTag(18, [protected, {}, payload, signature]))
        kinds = {type(protected), type(payload), type(signature), type(header[4])}
        right = kinds == {bytes} and header == {1: -8, 4: header[4]} and again == message
        right = right and not stream.read()
    except Exception:  # whatever a decoder says to arbitrary bytes
        return None
    return [header[4].decode("ascii", "replace"), protected, payload, signature] if right else None


LENGTHS = st.sampled_from([0, 1, 22, 23, 24, 25, 255, 256, 257, 65535, 65536])
OTHER_HEADERS = [
    {4: KEY_ID, 1: -8},
    {1: -8, 4: b"k"},
    {1: -8, 4: KEY_ID + b"0"},
    {1: -8, 4: b"\xff" * 32},
    {},
]


@given(st.data())
def test_taken_apart_by_bytes_an_envelope_is_what_a_decoder_says(data: st.DataObject) -> None:
    header = data.draw(st.sampled_from([{1: -8, 4: KEY_ID}, *OTHER_HEADERS]))
    content, signature = (bytes(data.draw(LENGTHS)) for _ in range(2))
    message = bytearray(cbor2.dumps(cbor2.CBORTag(18, [cbor2.dumps(header), {}, content, signature])))
    change = data.draw(st.sampled_from(["none", "byte", "cut", "more", "longer spelling"]))
    heads = [2, 2 + len(cbor2.dumps(cbor2.dumps(header))) + 1]
    if change == "byte":
        at = data.draw(st.one_of(st.integers(0, 60), st.integers(0, len(message) - 1)))
        message[min(at, len(message) - 1)] = data.draw(st.integers(0, 255))
    elif change == "cut":
        del message[data.draw(st.integers(0, len(message) - 1)) :]
    elif change == "more":
        message += data.draw(st.binary(min_size=1, max_size=3))
    elif change == "longer spelling":
        at = data.draw(st.sampled_from(heads))
        if message[at] < 0x58:
            message[at : at + 1] = bytes([0x58, message[at] - 0x40])
        elif message[at] == 0x58:
            message[at : at + 2] = bytes([0x59, 0, message[at + 1]])
    expected = by_a_decoder(bytes(message))
    try:
        found = cose.parse(bytes(message))
    except FormatInvalid:
        assert expected is None
    else:
        assert expected == [found.key_id, found.protected, found.payload, found.signature]


NUMBER = b"\xc2\x5a" + (100_000).to_bytes(4, "big") + b"\xfd" * 100_000
HOSTILE = {  # what a decoder that obeys tags spends its time on, or ends with
    "a decimal fraction out of all bounds": bytes.fromhex("c4821b7fffffffffffffff01"),
    "a float out of all bounds": bytes.fromhex("c5821b7fffffffffffffff01"),
    "a decimal fraction of 240,000 digits": b"\xc4\x82\x01" + NUMBER,
    "a fraction of two such numbers": b"\xd8\x1e\x82" + NUMBER + NUMBER,
    "a number with 240,000 digits": NUMBER,
}


@pytest.mark.parametrize("item", HOSTILE.values(), ids=HOSTILE)
def test_what_a_tag_asks_for_is_not_done(item: bytes) -> None:
    signed = b"\xa1\x61v" + item  # {"v": ...}, by a device that has been taken over
    parts = (item, b"\xd2" + item, b"\xd2\x84\x40\xa0\x40" + item, cose.sign(signed, TOPIC, samples.KEY))
    for message in parts:
        with pytest.raises(FormatInvalid):
            envelope.unseal(messages.Telemetry, message, TOPIC, samples.KEY.public)
    with pytest.raises(FormatInvalid):
        cose.parse(sign1({1: -8, 4: b"k"})[:4] + item)


def test_an_envelope_may_be_as_large_as_brokers_take_and_no_larger() -> None:
    room = cose.MAX_ENVELOPE_BYTES - len(cose.sign(bytes(100_000), TOPIC, samples.KEY)) + 100_000
    largest = cose.sign(bytes(room), TOPIC, samples.KEY)
    assert len(largest) == cose.MAX_ENVELOPE_BYTES == 262_144
    assert cose.verify(largest, TOPIC, samples.KEY.public) == bytes(room)
    with pytest.raises(FormatInvalid, match="262145 bytes, at most 262144"):
        cose.parse(cose.sign(bytes(room + 1), TOPIC, samples.KEY))


def test_nothing_may_follow_a_protected_header() -> None:
    header = cbor2.dumps({1: -8, 4: b"k"}) + b"\x00"
    with pytest.raises(FormatInvalid, match="a protected header has bytes after its end"):
        cose.parse(cbor2.dumps(cbor2.CBORTag(18, [header, {}, b"p", b"s"])))


@pytest.mark.parametrize("length", [0, 1, 4090, 4091, 4092, 4093, 4094, 4095, 4096, 4097, 8189, 8190, 70_000])
def test_an_item_is_read_to_its_end_and_nothing_after_it_is_passed_over(length: int) -> None:
    content = cbor2.dumps([bytes(length), 1])
    assert cose.decode(content, "it") == [bytes(length), 1]
    for rest in (b"\x01", b"\x00" * 5000):
        with pytest.raises(FormatInvalid, match="it has bytes after its end"):
            cose.decode(content + rest, "it")
    with pytest.raises(FormatInvalid, match="it is not CBOR"):
        cose.decode(content[:-1], "it")
