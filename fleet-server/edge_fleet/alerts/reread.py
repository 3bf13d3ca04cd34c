"""A proof, judged once more: whose signature a kept message carries, what it says, what it follows.

The message is the one that came; the judgement is that of `verification.py`, with the key that the device
enrolled with. So a page can say that a proof still proves, and not only that somebody thought so then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, select

from edge_contracts import cose
from edge_contracts.envelope import chain_value, parse_payload
from edge_contracts.errors import ContractError
from edge_contracts.keys import PublicKey
from edge_contracts.messages import Telemetry
from edge_contracts.topics import Channel, topic
from edge_fleet.alerts.answers import AlertProof
from edge_fleet.schema import devices
from edge_fleet.verification import Arrival, KnownDevice, Refused, address_of, verify

_LONGEST = 4000  # of what a message says, in characters


@dataclass(frozen=True)
class Reread:
    """One message of a proof.

    Args:
        what: Why it is kept.
        topic: That it came on.
        signed: Whether the device's key signed it for this topic.
        verdict: The same in words.
        chain: What the next envelope must name as the one before; "" for what is no envelope.
        prev: What it names as the one before; "" where it cannot be read.
        says: Its content as JSON; "" where it cannot be read.
        envelope: As it came, hex.
    """

    what: str
    topic: str
    signed: bool
    verdict: str
    chain: str
    prev: str
    says: str
    envelope: str


def reread(connection: Connection, fleet: str, device: str, proof: list[AlertProof]) -> tuple[Reread, ...]:
    """The messages of a proof of `proof.proof`, judged now."""
    row = connection.execute(select(devices).where(devices.c.id == device)).one_or_none()
    if row is None:
        return ()
    # whether it was revoked since says nothing about whose signature it is
    known = {device: KnownDevice(device, PublicKey(row.public_key), False)}
    return tuple(_reread(fleet, device, one, known) for one in proof)


def _reread(fleet: str, device: str, one: AlertProof, known: Mapping[str, KnownDevice]) -> Reread:
    raw = bytes.fromhex(one["envelope"])
    on = str(one.get("topic") or topic(fleet, device, Channel.TELEMETRY))
    judged = verify(Arrival(on, address_of(on, fleet), raw, 0), known)
    is_refused = isinstance(judged, Refused)
    prev, says = _content(raw)
    return Reread(
        what=str(one["what"]),
        topic=on,
        signed=not is_refused,
        verdict=f"{judged.reason}: {judged.detail}" if isinstance(judged, Refused) else f"signed by {device}",
        chain=chain_value(raw).hex(),
        prev=prev,
        says=says,
        envelope=str(one["envelope"]),
    )


def _content(raw: bytes) -> tuple[str, str]:
    """What a message says, whoever wrote it: nothing here is believed."""
    try:
        payload = cose.parse(raw).payload
    except ContractError as error:
        return "", f"not a signed message: {error}"
    try:
        telemetry = parse_payload(Telemetry, payload)
    except ContractError:
        try:
            return "", json.dumps(cose.decode(payload, "message"), default=_plain, indent=1)[:_LONGEST]
        except ContractError as error:
            return "", f"cannot be read: {error}"
    records = [record.model_dump(mode="json") for record in telemetry.recs]
    content = {"epoch": telemetry.epoch, "seq": telemetry.seq, "records": records}
    return telemetry.prev.hex(), json.dumps(content, default=_plain, indent=1)[:_LONGEST]


def _plain(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else repr(value)
