"""From bytes on a topic to a message that a known device signed for that topic, or a refusal.

Pure: the devices that the topics name are looked up by `intake.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import msgspec

from edge_contracts import cose
from edge_contracts.envelope import parse_payload, unseal
from edge_contracts.errors import ContractError
from edge_contracts.keys import PublicKey
from edge_contracts.messages import DeviceState, Telemetry
from edge_contracts.succession import proven
from edge_contracts.topics import FROM_DEVICE, Address, Channel, parse

TOPICS = 1 << 15  # whose addresses are remembered, a device's three or four: 16 MB at most
TOPIC_CHARACTERS = 200  # of the longest address: two identifiers of 64, and a few words


# of every message one is made: a frozen dataclass takes ten times as long to make as a struct
class Arrival(msgspec.Struct, frozen=True):
    """A message as it came.

    Args:
        address: Whom the topic names; None for a topic that no device of this fleet writes to.
    """

    topic: str
    address: Address | None
    payload: bytes
    received_ms: int


@dataclass(frozen=True)
class KnownDevice:
    """What must be known of a device to believe it.

    Args:
        rekeyed: Whether another key has counted before.
    """

    id: str
    key: PublicKey
    revoked: bool
    rekeyed: bool = False


@dataclass(frozen=True)
class FormerKey:
    """A key that a device was known by.

    Args:
        epoch, below_seq: Which envelopes may still come from it; None until the device has gone over.
    """

    key: PublicKey
    revoked: bool
    epoch: str | None
    below_seq: int | None


class Verified(msgspec.Struct, frozen=True):
    """A message of a device that is enrolled, not revoked, and signed it for this topic.

    Args:
        key: Which key signed it.
        rekeyed: Whether another has counted before.
        next_key: The key that it wants to be known by, and has shown to have.
        repeated: It only says again which key is to follow: that has happened, and it has not heard.
        topic: That it came on; "" for what did not come by one.
    """

    device: str
    channel: Channel
    message: DeviceState | Telemetry
    raw: bytes
    received_ms: int
    key: PublicKey | None = None
    rekeyed: bool = False
    next_key: PublicKey | None = None
    repeated: bool = False
    topic: str = ""


@dataclass(frozen=True)
class Refused:
    """Why a message is not believed.

    Args:
        device: Id when the topic names a device of ours, else "".
        topic, raw: The message as it came.
    """

    reason: str
    device: str
    detail: str
    topic: str = ""
    raw: bytes = b""


def address_of(topic: str, fleet: str) -> Address | None:
    """The address that a device of this fleet writes from; None for any other topic."""
    return _address_of(topic, fleet) if len(topic) <= TOPIC_CHARACTERS else None


@lru_cache(maxsize=TOPICS)
def _address_of(topic: str, fleet: str) -> Address | None:
    try:
        address = parse(topic)
    except ContractError:
        return None
    return address if address.fleet == fleet and address.channel in FROM_DEVICE else None


def verify(arrival: Arrival, devices: Mapping[str, KnownDevice]) -> Verified | Refused:
    """Believe a message or say why not.

    Args:
        devices: Those of our devices that the batch's topics name.
    """
    (judged,) = verify_all([arrival], devices)
    return judged


def verify_all(arrivals: Sequence[Arrival], devices: Mapping[str, KnownDevice]) -> list[Verified | Refused]:
    """The same of each message, in their order.

    All signatures come first and then all that was signed: the one code drives the other out of the
    processor's caches.
    """
    signed = [_signed(arrival, devices) for arrival in arrivals]
    return [
        one if isinstance(one, Refused) else _said(arrival, *one)
        for arrival, one in zip(arrivals, signed, strict=True)
    ]


def _signed(
    arrival: Arrival, devices: Mapping[str, KnownDevice]
) -> tuple[Address, KnownDevice, bytes] | Refused:
    """From where and whom a message is, and the bytes that were signed."""
    address = arrival.address
    if address is None:
        return Refused("topic-invalid", "", f"a message on {arrival.topic!r:.200}")
    device = devices.get(address.device)
    if device is None:
        return Refused("device-unknown", "", f"a message on {arrival.topic!r:.200}")
    if device.revoked:
        return Refused("device-revoked", device.id, f"a {address.channel} message after its revocation")
    try:
        return address, device, cose.verify(arrival.payload, arrival.topic, device.key)
    except ContractError as error:
        return Refused(error.code, device.id, str(error))


def _said(arrival: Arrival, address: Address, device: KnownDevice, payload: bytes) -> Verified | Refused:
    """What was signed, if it is what belongs on its topic."""
    message: DeviceState | Telemetry
    try:
        if address.channel is Channel.TELEMETRY:
            message = parse_payload(Telemetry, payload)
        else:
            message = parse_payload(DeviceState, payload)
    except ContractError as error:
        return Refused(error.code, device.id, str(error))
    if isinstance(message, DeviceState) and (
        message.device != device.id or message.type != address.channel.value
    ):
        detail = f"a {message.type} of {message.device} on {arrival.topic}"
        return Refused("topic-mismatch", device.id, detail)
    next_key = None
    if isinstance(message, DeviceState) and message.next_key is not None:
        try:
            next_key = proven(address.fleet, device.id, device.key, message.next_key)
        except ContractError as error:
            return Refused("key-unproven", device.id, str(error))
    return Verified(
        device.id,
        address.channel,
        message,
        arrival.payload,
        arrival.received_ms,
        device.key,
        device.rekeyed,
        next_key,
        topic=arrival.topic,
    )


def verify_former(
    arrival: Arrival, device: KnownDevice, former: Mapping[str, FormerKey]
) -> Verified | Refused | None:
    """Judge a message that the device's key has not signed, by those it had before; None for none of them."""
    address = arrival.address
    if address is None:
        return None
    try:
        found = former.get(cose.parse(arrival.payload).key_id)
        if found is None:
            return None
        if found.revoked:
            return Refused("key-revoked", device.id, f"signed by key {found.key.key_id}, which was revoked")
        if address.channel is Channel.TELEMETRY:
            told = unseal(Telemetry, arrival.payload, arrival.topic, found.key)
            if found.below_seq is not None and told.epoch != found.epoch:
                return Refused("key-superseded", device.id, f"epoch {told.epoch} is of the key after")
            if found.below_seq is not None and told.seq >= found.below_seq:
                detail = f"envelope {told.seq}, but from {found.below_seq} on another key signs"
                return Refused("key-superseded", device.id, detail)
            return Verified(device.id, address.channel, told, arrival.payload, arrival.received_ms, found.key)
        state = unseal(DeviceState, arrival.payload, arrival.topic, found.key)
    except ContractError as error:
        return Refused(error.code, device.id, str(error))
    said = state.next_key
    if state.device != device.id or said is None or said.public_key != device.key.raw:
        return Refused("key-superseded", device.id, "a snapshot by a key that another has followed")
    return Verified(
        device.id,
        address.channel,
        state,
        arrival.payload,
        arrival.received_ms,
        found.key,
        repeated=True,
    )
