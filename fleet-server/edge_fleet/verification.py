"""From bytes on a topic to a message that a known device signed for that topic, or a refusal.

Pure: the devices that the topics name are looked up by `intake.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edge_contracts.errors import ContractError
from edge_contracts.keys import PublicKey
from edge_contracts.messages import DeviceState, Telemetry, unseal
from edge_contracts.topics import FROM_DEVICE, Address, Channel, parse


@dataclass(frozen=True)
class Arrival:
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
    """What must be known of a device to believe it."""

    id: str
    key: PublicKey
    revoked: bool


@dataclass(frozen=True)
class Verified:
    """A message of a device that is enrolled, not revoked, and signed it for this topic."""

    device: str
    channel: Channel
    message: DeviceState | Telemetry
    raw: bytes
    received_ms: int


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
    address = arrival.address
    if address is None:
        return Refused("topic-invalid", "", f"a message on {arrival.topic!r:.200}")
    device = devices.get(address.device)
    if device is None:
        return Refused("device-unknown", "", f"a message on {arrival.topic!r:.200}")
    if device.revoked:
        return Refused("device-revoked", device.id, f"a {address.channel} message after its revocation")
    message: DeviceState | Telemetry
    try:
        if address.channel is Channel.TELEMETRY:
            message = unseal(Telemetry, arrival.payload, arrival.topic, device.key)
        else:
            message = unseal(DeviceState, arrival.payload, arrival.topic, device.key)
    except ContractError as error:
        return Refused(error.code, device.id, str(error))
    if isinstance(message, DeviceState) and (
        message.device != device.id or message.type != address.channel.value
    ):
        detail = f"a {message.type} of {message.device} on {arrival.topic}"
        return Refused("topic-mismatch", device.id, detail)
    return Verified(device.id, address.channel, message, arrival.payload, arrival.received_ms)
