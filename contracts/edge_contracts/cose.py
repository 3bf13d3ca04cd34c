"""COSE_Sign1 with Ed25519: the envelope of every message.

RFC 9052 section 4.2 and RFC 9053 section 2.2. The MQTT topic is bound in as external_aad, so that an
envelope cannot be replayed onto another topic. The bytes are signed as they are: no canonical form.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import cbor2

from edge_contracts.errors import FormatInvalid, KeyUnknown, SignatureInvalid
from edge_contracts.keys import PrivateKey, PublicKey
from edge_contracts.plain_cbor import has_tag

MAX_ENVELOPE_BYTES = 256 << 10  # under the brokers' packet limits; a full telemetry envelope is about 10 kB
_TAG_SIGN1 = 18
_SIGN1_HEAD = bytes([6 << 5 | _TAG_SIGN1])
_ALG, _KID = 1, 4
_EDDSA = -8


@dataclass(frozen=True)
class Envelope:
    """A parsed COSE_Sign1, not verified.

    Args:
        key_id: What the protected header says; find the key by it, never take a key from a message.
    """

    key_id: str
    protected: bytes
    payload: bytes
    signature: bytes


def sign(payload: bytes, topic: str, key: PrivateKey) -> bytes:
    """Sign a payload for one topic.

    Args:
        topic: The MQTT topic that it will be published on.
    """
    protected = cbor2.dumps({_ALG: _EDDSA, _KID: key.public.key_id.encode()})
    signature = key.sign(to_be_signed(protected, topic, payload))
    return cbor2.dumps(cbor2.CBORTag(_TAG_SIGN1, [protected, {}, payload, signature]))


def parse(message: bytes, most_bytes: int = MAX_ENVELOPE_BYTES) -> Envelope:
    """Take an envelope apart, believing nothing.

    Args:
        most_bytes: More than the brokers' limit only for what comes another way.

    Raises:
        FormatInvalid: It is too large or not a COSE_Sign1 with EdDSA in the protected header.
    """
    if len(message) > most_bytes:
        raise FormatInvalid(f"an envelope of {len(message)} bytes, at most {most_bytes} are read")
    if message[:1] != _SIGN1_HEAD:
        raise FormatInvalid("a message is not a COSE_Sign1 (CBOR tag 18)")
    parts = decode(message[1:], "an envelope")
    if not (isinstance(parts, list | tuple) and len(parts) == 4):
        raise FormatInvalid("a COSE_Sign1 does not have four parts")
    protected, _, payload, signature = parts
    if not (isinstance(protected, bytes) and isinstance(payload, bytes) and isinstance(signature, bytes)):
        raise FormatInvalid("a COSE_Sign1 has a part that is not a byte string")
    header = decode(protected, "a protected header")
    if not isinstance(header, dict) or header.get(_ALG) != _EDDSA or not isinstance(header.get(_KID), bytes):
        raise FormatInvalid("a protected header does not state EdDSA and a key id")
    if header.keys() - {_ALG, _KID}:
        raise FormatInvalid("a protected header has parameters that are not understood")
    if cbor2.dumps(cbor2.CBORTag(_TAG_SIGN1, [protected, {}, payload, signature])) != message:
        # the chain of telemetry hashes whole envelopes, so a second spelling of one would be a second history
        raise FormatInvalid("an envelope is not in its shortest form with an empty unprotected header")
    return Envelope(header[_KID].decode("ascii", "replace"), protected, payload, signature)


def verify(message: bytes, topic: str, key: PublicKey, most_bytes: int = MAX_ENVELOPE_BYTES) -> bytes:
    """The payload of an envelope that this key signed for this topic.

    Raises:
        FormatInvalid: As `parse`.
        KeyUnknown: It names another key.
        SignatureInvalid: The signature does not verify: other content, other topic, other key.
    """
    envelope = parse(message, most_bytes)
    if envelope.key_id != key.key_id:
        raise KeyUnknown(f"an envelope is signed by key {envelope.key_id!r:.80}, expected {key.key_id}")
    try:
        key.verify(envelope.signature, to_be_signed(envelope.protected, topic, envelope.payload))
    except SignatureInvalid:
        raise SignatureInvalid(f"an envelope on {topic} does not verify with key {key.key_id}") from None
    return envelope.payload


def decode(content: bytes, what: str) -> object:
    """One CBOR item without tags and nothing after it.

    Raises:
        FormatInvalid: It is not that.
    """
    if has_tag(content):
        raise FormatInvalid(f"{what} has a CBOR tag inside, which no message has, or is not CBOR")
    stream = io.BytesIO(content)
    try:
        item: object = cbor2.CBORDecoder(stream).decode()
    except (
        cbor2.CBORDecodeError,
        ValueError,
        TypeError,
        ArithmeticError,
        LookupError,
        RecursionError,
        MemoryError,
        EOFError,
    ):
        raise FormatInvalid(f"{what} is not CBOR") from None
    if stream.read(1):
        raise FormatInvalid(f"{what} has bytes after its end")
    return item


def to_be_signed(protected: bytes, topic: str, payload: bytes) -> bytes:
    """RFC 9052 section 4.4: Sig_structure."""
    return cbor2.dumps(["Signature1", protected, topic.encode(), payload])
