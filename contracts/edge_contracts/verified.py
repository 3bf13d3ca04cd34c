"""Verified telemetry as plain JSON: what the server publishes again for those who cannot verify COSE.

    edge/v1/<fleet>/<device>/verified/window|event|gap

Only the server may publish there. Whoever takes it believes the server and the broker; whoever wants to
believe the device alone reads `telemetry` and verifies.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal

from edge_contracts.messages import Epoch, Record
from edge_contracts.model import Count, Frozen, Identifier
from edge_contracts.topics import PREFIX, identifier


class RecordKind(StrEnum):
    """The last level of the topic: the kind of record."""

    WINDOW = "window"
    EVENT = "event"
    GAP = "gap"


class VerifiedRecord(Frozen):
    """One record that a device signed and the server has stored.

    Args:
        device: As in the topic.
        epoch, seq: Of the envelope that it came in: the proof, which the server keeps.
        index: Its place in the envelope; with the two before it names the record for ever.
        received_ms: Unix milliseconds of the server's clock.
        record: As it was signed.
    """

    v: Literal[1] = 1
    device: Identifier
    epoch: Epoch
    seq: Count
    index: Count
    received_ms: Count
    record: Record


def verified_topic(fleet: str, device: str, kind: str) -> str:
    """Where records of one kind of one device are told."""
    return f"{PREFIX}/{identifier(fleet, 'fleet')}/{identifier(device, 'device')}/verified/{RecordKind(kind)}"


def verified_filter(fleet: str) -> str:
    """The filter for every kind of every device of a fleet."""
    return f"{PREFIX}/{identifier(fleet, 'fleet')}/+/verified/+"


def told(device: str, epoch: str, seq: int, received_ms: int, records: Sequence[Record]) -> list[bytes]:
    """The messages of an envelope's records, one each.

    `VerifiedRecord` as JSON, put together around the record's own: what was checked when it came in is not
    checked again.
    """
    head = f'{{"v":1,"device":"{device}","epoch":"{epoch}","seq":{seq},"index":'
    rest = f',"received_ms":{received_ms},"record":'
    return [
        f"{head}{index}{rest}{record.model_dump_json()}}}".encode() for index, record in enumerate(records)
    ]
