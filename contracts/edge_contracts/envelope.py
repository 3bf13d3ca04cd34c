"""Messages to envelopes and back: a CBOR map, signed by COSE_Sign1 (`cose.py`) and bound to its topic."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from typing import Any, TypeVar, cast

import cbor2
import msgspec

from edge_contracts import cose
from edge_contracts.errors import FormatInvalid, FormatTooNew
from edge_contracts.faults import ValidationError, first_fault
from edge_contracts.first_look import ready
from edge_contracts.keys import PrivateKey, PublicKey
from edge_contracts.messages import (
    CHAIN_BYTES,
    VERSION,
    Ack,
    Assignment,
    DeviceState,
    Record,
    Telemetry,
)

Message = TypeVar("Message", bound=DeviceState | Telemetry | Ack | Assignment)


def chain_value(envelope: bytes) -> bytes:
    """What the next envelope carries as `prev`."""
    return hashlib.sha256(envelope).digest()[:CHAIN_BYTES]


def seal(message: DeviceState | Telemetry | Ack | Assignment, topic: str, key: PrivateKey) -> bytes:
    """The signed envelope of a message, bound to its topic."""
    return cose.sign(cbor2.dumps(message.model_dump(mode="python")), topic, key)


def encode_record(record: Record) -> bytes:
    """A record as it stands in the payload of an envelope."""
    return RecordEncoder()(record)


def decode_record(content: bytes) -> Record:
    """The record that `encode_record` made these bytes of.

    Raises:
        FormatInvalid: They are not of one.
    """
    try:
        ready(Record)
        return cast("Record", msgspec.convert(cose.decode(content, "record"), Record, str_keys=True))
    except msgspec.ValidationError as error:
        raise FormatInvalid(f"record: {error}") from None


class RecordEncoder:
    """`encode_record` for many: making an encoder takes longer than a record does. For one thread."""

    def __init__(self) -> None:
        """Make an encoder."""
        self._buffer = io.BytesIO()
        self._encoder = cbor2.CBOREncoder(self._buffer)

    def __call__(self, record: Record) -> bytes:
        """A record as it stands in the payload of an envelope."""
        self._buffer.seek(0)
        self._buffer.truncate()
        self._encoder.encode(record.model_dump(mode="python"))
        return self._buffer.getvalue()


def seal_records(
    epoch: str, seq: int, prev: bytes, records: Sequence[bytes], topic: str, key: PrivateKey
) -> bytes:
    """The same bytes as `seal` of a Telemetry, from records that have been encoded already.

    Args:
        records: From `encode_record`.
    """
    head = cbor2.dumps({"v": VERSION, "epoch": epoch, "seq": seq, "prev": prev})
    # RFC 8949 section 3.1: a map of one pair more, and the head of an array (major type 4, its length)
    items = bytearray(cbor2.dumps(len(records)))
    items[0] |= 4 << 5
    payload = bytes([head[0] + 1]) + head[1:] + cbor2.dumps("recs") + bytes(items) + b"".join(records)
    return cose.sign(payload, topic, key)


def unseal(kind: type[Message], envelope: bytes, topic: str, key: PublicKey) -> Message:
    """A message that this key signed for this topic.

    Raises:
        FormatInvalid: Not an envelope, or not such a message.
        FormatTooNew: A version that this release does not know.
        KeyUnknown, SignatureInvalid: See `cose.verify`.
    """
    return parse_payload(kind, cose.verify(envelope, topic, key))


def enclosed_statements(envelope: bytes) -> tuple[str, tuple[bytes, ...]]:
    """Who says to have signed an assignment, and the statements about keys in it; nothing is verified.

    A statement is signed itself (`trust.open_keys`): so a device that obeys an older director is led to the
    one of today, by whichever of them the message is.

    Raises:
        FormatInvalid, FormatTooNew: As `unseal`.
    """
    parsed = cose.parse(envelope)
    return parsed.key_id, parse_payload(Assignment, parsed.payload).keys


def parse_payload(kind: type[Message], payload: bytes) -> Message:
    """A message from the bytes that were signed."""
    what = kind.__name__.lower()
    raw: Any = cose.decode(payload, what)
    if not isinstance(raw, dict):
        raise FormatInvalid(f"{what} is not a CBOR map")
    if raw.get("v") != VERSION:
        if isinstance(raw.get("v"), int):
            raise FormatTooNew(
                f"{what} has version {raw['v']}, this release reads {VERSION}; update edgefleet"
            )
        raise FormatInvalid(f"{what} has no version")
    try:
        return cast("Message", kind.model_validate(raw))
    except ValidationError as error:
        raise FormatInvalid(f"{what}: {first_fault(error, kind.__struct_fields__)}") from None
