"""What the API says of devices: the types of its answers, which `api/devices.py` makes."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from typing_extensions import TypedDict

from edge_contracts.lineup import ShadowTerms
from edge_contracts.messages import ActiveModel
from edge_fleet.assignment import State
from edge_fleet.model import Instant
from edge_fleet.written import Written


class GivenRelease(TypedDict):
    """What a device was given last.

    Args:
        number: Grows with every assignment of the device.
        bundle: Digest of the manifest; null when it was told to run nothing.
        release: Name and version; null as `bundle`.
        rollout: Null when it was assigned by hand.
        code: A short word for why it stands so; "" when all is well.
        detail: The same for a person.
    """

    number: int
    bundle: str | None
    release: str | None
    rollout: str | None
    phase: State
    code: str
    detail: str


class TelemetryPosition(TypedDict):
    """How far the telemetry of a device has come.

    Args:
        epoch: Of its outbox, as its last hello has said; null before the first.
        high: Number up to which every envelope is stored, -1 for none; null when none of the epoch has come.
        next_seq: Number that the device gives next, by its own last word.
    """

    epoch: str | None
    high: int | None
    next_seq: int | None


class DeviceSummary(TypedDict):
    """A device in short.

    Args:
        public_key: Ed25519, 32 bytes in base64.
        profile: Names of profiles, the device's own first, then those that it extends.
        revoked_ms: Null while it is in the fleet.
        last_seen_ms: Of its last verified message; null before the first.
        agent: Version of its agent; null before its first word.
        knows: What may be asked of its agent beyond the first releases.
        key_ordered: Whether it was told to change its key and has not done it yet.
        director: Id of the director's key that it obeys, as far as that is known.
        active: What answers inferences on it, by its own last word; null for nothing.
        counter: The largest release counter that it has confirmed; null before its first word.
        assignment: Null when it was never given anything.
    """

    id: str
    public_key: str
    profile: list[str]
    labels: dict[str, str]
    enrolled_ms: Instant
    revoked_ms: Instant | None
    last_seen_ms: Instant | None
    agent: str | None
    knows: list[str]
    key_ordered: bool
    director: str | None
    active: Annotated[dict[str, Any], Written(ActiveModel)] | None
    counter: int | None
    assignment: GivenRelease | None
    telemetry: TelemetryPosition


class TelemetryStream(TypedDict):
    """One telemetry outbox of a device: it begins another when it has lost the one before.

    Args:
        high: Number up to which every envelope has come; -1 for none.
        stored: Envelopes that are still kept.
    """

    epoch: str
    high: int
    started_ms: Instant
    stored: int


class TelemetryGap(TypedDict):
    """Numbers of a stream that the device says it lost.

    Args:
        records: That were in them.
    """

    epoch: str
    first_seq: int
    last_seq: int
    records: int
    reason: str
    received_ms: Instant


class AssignmentTerms(TypedDict):
    """How a bundle is given when it is not to answer yet.

    Args:
        hold: It is installed and held ready.
        shadow: It runs beside what answers, within these limits.
    """

    hold: NotRequired[Literal[True]]
    shadow: NotRequired[Annotated[dict[str, Any], Written(ShadowTerms)]]


class AssignmentRow(TypedDict):
    """One assignment of a device; the one with the largest number counts.

    Args:
        bundle: Digest of the manifest; null to run nothing.
        rollout, stage: Null when it was assigned by hand; stages count from 0.
        permit_downgrade: Whether the device may install a smaller release counter than it has.
        expires_ms: From when on the device refuses it, by its own clock; 0 for never.
        terms: Null when it is to be run.
        change: Grows over all assignments of the fleet, with every change of any.
    """

    number: int
    bundle: str | None
    rollout: str | None
    stage: int | None
    permit_downgrade: bool
    expires_ms: int
    phase: State
    code: str
    detail: str
    created_ms: Instant
    changed_ms: Instant
    terms: AssignmentTerms | None
    change: int


class DeviceEvent(TypedDict):
    """Something that a device has told, in an envelope that it signed.

    Args:
        epoch, seq: Of the envelope.
        time_ms: Unix milliseconds of the device's clock.
        bundle: Digest of the manifest that it is about, if it is about one.
        assignment: Number of the assignment that it is about, if it is about one.
    """

    epoch: str
    seq: int
    received_ms: Instant
    name: str
    time_ms: int
    bundle: str | None
    assignment: int | None
    code: str
    detail: str


class PastKey(TypedDict):
    """A key that a device had before.

    Args:
        public_key: Ed25519, 32 bytes in base64: what it sealed can be verified with it.
        until_ms: When the next took its place.
        revoked_ms: From when on nothing that it signed is taken; null when that holds still.
        epoch, below_seq: Envelopes of this epoch below this number may be its; null until the device has
            spoken with its next key.
    """

    key_id: str
    public_key: str
    since_ms: Instant
    until_ms: Instant
    revoked_ms: Instant | None
    epoch: str | None
    below_seq: int | None


class DeviceHistory(TypedDict):
    """What has become of a device; of each the newest 50."""

    streams: list[TelemetryStream]
    gaps: list[TelemetryGap]
    assignments: list[AssignmentRow]
    events: list[DeviceEvent]


class DeviceInFull(DeviceSummary, DeviceHistory):
    """A device with its streams, gaps, assignments and last events, newest first.

    Args:
        former_keys: Newest first.
    """

    former_keys: list[PastKey]
