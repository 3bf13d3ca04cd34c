"""COSE_Sign1 with Ed25519: the envelope of every message.

RFC 9052 section 4.2 and RFC 9053 section 2.2. The MQTT topic is bound in as external_aad, so that an
envelope cannot be replayed onto another topic. The bytes are signed as they are: no canonical form.

An envelope has one spelling, so it is put together and taken apart by its bytes, in a third of the time that
an encoder and a decoder take. What does not have that form goes to a decoder, to say what is wrong with it.
"""

from __future__ import annotations

import io

import cbor2
import msgspec

from edge_contracts.errors import FormatInvalid, KeyUnknown, SignatureInvalid
from edge_contracts.keys import PrivateKey, PublicKey
from edge_contracts.plain_cbor import has_tag

MAX_ENVELOPE_BYTES = 256 << 10  # under the brokers' packet limits; a full telemetry envelope is about 10 kB
_SIGN1 = b"\xd2\x84"  # tag 18, an array of four
_NONE = 0xA0  # the unprotected header: an empty map
_ALG, _KID = 1, 4
_EDDSA = -8
_KEY_ID_BYTES = 32
_READ_BYTES = (
    4096  # by which a decoder goes through content: by one byte, as it does unasked, takes it twice as long
)
_OURS = b"\xa2\x01\x27\x04\x58" + bytes([_KEY_ID_BYTES])  # {1: -8, 4: a key id}
_CONTEXT = b"\x84\x6aSignature1"  # RFC 9052 section 4.4, of a Sig_structure: an array of four, the first text


class Envelope(msgspec.Struct, frozen=True):
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
    protected = _OURS + key.public.key_id.encode()
    signature = key.sign(to_be_signed(protected, topic, payload))
    return b"".join(
        (
            _SIGN1,
            _head(len(protected)),
            protected,
            bytes((_NONE,)),
            _head(len(payload)),
            payload,
            _head(len(signature)),
            signature,
        )
    )


def parse(message: bytes, most_bytes: int = MAX_ENVELOPE_BYTES) -> Envelope:
    """Take an envelope apart, believing nothing.

    Args:
        most_bytes: More than the brokers' limit only for what comes another way.

    Raises:
        FormatInvalid: It is too large or not a COSE_Sign1 with EdDSA in the protected header.
    """
    if len(message) > most_bytes:
        raise FormatInvalid(f"an envelope of {len(message)} bytes, at most {most_bytes} are read")
    try:
        protected_end, protected = _byte_string(message, len(_SIGN1))
        payload_end, payload = _byte_string(message, protected_end + 1)
        end, signature = _byte_string(message, payload_end)
        whole = message[:2] == _SIGN1 and message[protected_end] == _NONE and end == len(message)
    except IndexError:
        whole = False
    if not whole:
        raise FormatInvalid(_what_is_wrong(message))
    return Envelope(_key_id(protected), protected, payload, signature)


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
    decoder = cbor2.CBORDecoder(io.BytesIO(content), read_size=_READ_BYTES)
    try:
        item: object = decoder.decode()
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
    try:
        decoder.read(1)
    except EOFError:
        return item
    raise FormatInvalid(f"{what} has bytes after its end")


def to_be_signed(protected: bytes, topic: str, payload: bytes) -> bytes:
    """RFC 9052 section 4.4: Sig_structure."""
    aad = topic.encode()
    return b"".join(
        (_CONTEXT, _head(len(protected)), protected, _head(len(aad)), aad, _head(len(payload)), payload)
    )


def _head(length: int) -> bytes:
    """Of a byte string, in its shortest form (RFC 8949 section 4.2.1)."""
    if length < 1 << 8:
        return _HEADS[length]
    width = 1 if length < 1 << 16 else 2 if length < 1 << 32 else 3
    return bytes((0x58 | width,)) + length.to_bytes(1 << width, "big")


_HEADS = [bytes((0x40 | n,)) if n < 24 else bytes((0x58, n)) for n in range(1 << 8)]


def _byte_string(content: bytes, at: int) -> tuple[int, bytes]:
    """Where the byte string ends that begins there, and what it is.

    Raises:
        IndexError: There is none, none in its shortest form, or not the whole of it.
    """
    length = content[at] - 0x40
    at += 1
    if length >= 24:
        if length > 27:
            raise IndexError
        width = 1 << length - 24
        length = int.from_bytes(content[at : at + width], "big")
        at += width
        if length < (24 if width == 1 else 1 << 4 * width):  # a head half as wide would do
            raise IndexError
    end = at + length
    if length < 0 or end > len(content):
        raise IndexError
    return end, content[at:end]


def _key_id(protected: bytes) -> str:
    """Who a protected header says has signed.

    Raises:
        FormatInvalid: It is not one of EdDSA with a key id, or has more in it.
    """
    if protected[: len(_OURS)] == _OURS and len(protected) == len(_OURS) + _KEY_ID_BYTES:
        return protected[len(_OURS) :].decode("ascii", "replace")
    header = decode(protected, "a protected header")
    if not isinstance(header, dict) or header.get(_ALG) != _EDDSA or not isinstance(header.get(_KID), bytes):
        raise FormatInvalid("a protected header does not state EdDSA and a key id")
    if header.keys() - {_ALG, _KID}:
        raise FormatInvalid("a protected header has parameters that are not understood")
    key_id: bytes = header[_KID]
    return key_id.decode("ascii", "replace")


def _what_is_wrong(message: bytes) -> str:
    """With bytes that are no envelope."""
    if message[:1] != _SIGN1[:1]:
        return "a message is not a COSE_Sign1 (CBOR tag 18)"
    try:
        parts = decode(message[1:], "an envelope")
    except FormatInvalid as error:
        return str(error)
    if not (isinstance(parts, list | tuple) and len(parts) == 4):
        return "a COSE_Sign1 does not have four parts"
    if not all(isinstance(part, bytes) for part in (parts[0], *parts[2:])):
        return "a COSE_Sign1 has a part that is not a byte string"
    # the chain of telemetry hashes whole envelopes, so a second spelling of one would be a second history
    return "an envelope is not in its shortest form with an empty unprotected header"
