"""The messages between device and server: CBOR maps in COSE_Sign1 envelopes (`envelope.py`).

Telemetry is a numbered, chained stream that is resent until acknowledged. Hello and status are
snapshots of where the device stands: the last one counts, a lost one is repaired by the next. An
assignment is a snapshot of what the server wants. Nothing relies on a broker's memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta, field

from edge_contracts.digest import Digest
from edge_contracts.lineup import LineupCounts, ShadowTerms
from edge_contracts.model import (
    Count,
    Finite,
    Frozen,
    Identifier,
    NotNegative,
    Positive,
    VersionName,
    later,
    matching,
)
from edge_contracts.sketch import QuantileSketch
from edge_contracts.succession import NextKey
from edge_contracts.trust import MAX_STATEMENT_BYTES, KeyNameOrEmpty
from edge_contracts.withdrawal import Withdrawn

VERSION = 1
EPOCH_PATTERN = r"^[0-9a-f]{16}$"
Epoch = Annotated[str, matching(EPOCH_PATTERN)]
CHAIN_BYTES = 16
CHAIN_START = bytes(CHAIN_BYTES)


class Phase(StrEnum):
    """Where an assignment stands, as the device tells it."""

    RECEIVED = "received"
    DOWNLOADING = "downloading"
    TRIAL = "trial"
    CONFIRMED = "confirmed"
    ROLLED_BACK = "rolled_back"
    REFUSED = "refused"
    SHADOW = "shadow"  # assigned as a shadow: it runs beside what answers, and its answers go nowhere

    READY = "ready"  # assigned with `hold`: it lies checked in the spare slot, and what answers goes on


# Until something else is assigned; a shadow that is stopped, or a release that fails later, is rolled back.
FINAL_PHASES = frozenset({Phase.CONFIRMED, Phase.ROLLED_BACK, Phase.REFUSED, Phase.SHADOW, Phase.READY})


class Knows(StrEnum):
    """What a server may ask of a device only if its hello says that it knows it."""

    SHADOW = "shadow"  # `Assignment.shadow`
    HOLD = "hold"  # `Assignment.hold`
    KEYS = "keys"  # `Assignment.known_key` and `change_key`
    WITHDRAWN = "withdrawn"  # `Assignment.withdrawn`
    DIRECTOR = "director"  # to follow statements in an envelope of any director, and to say whom it obeys


class Progress(Frozen):
    """How far the device is with its current assignment.

    Args:
        assignment: Number of the assignment.
        code: Short word for the reason ("golden-mismatch", "no-space"), "" when all is well.
        detail: One line for a person.
    """

    assignment: Count
    phase: Phase
    code: Annotated[str, Meta(max_length=64)] = ""
    detail: Annotated[str, Meta(max_length=500)] = ""


class ActiveModel(Frozen):
    """What answers inferences on the device now.

    Args:
        bundle: Digest of the manifest.
        runtime: Name and version, such as "litert 2.3.0".
        fallback: Why it is not the profile's first choice, or "".
    """

    bundle: Digest
    name: Identifier
    version: VersionName
    artifact: Identifier
    runtime: Annotated[str, Meta(max_length=64)]
    fallback: Annotated[str, Meta(max_length=300)] = ""


class DeviceState(Frozen):
    """A snapshot of a device: what hello and status carry.

    Args:
        v: Version of the message.
        device: As in the topic.
        n: Grows with every snapshot of this device; one that is not larger than the last is a replay.
        epoch, next_seq: Of the telemetry outbox: the next number it will give.
        profile: Device profile by name, with those it extends, nearest first.
        counter: Largest release counter that was ever confirmed here.
        time_ms: The device's clock, Unix milliseconds; not trusted, shown.
        knows: Of `Knows`: what may be asked of it.
        next_key: Of a status: the key that it wants to be known by (`succession`).
        withdrawn: `Withdrawn.n` of the last word that it took; 0 for none.
        obeys: Id of the director's key that it obeys, once that is another than at its enrolment.
    """

    v: Literal[1] = 1
    type: Literal["hello", "status"]
    device: Identifier
    n: Count
    epoch: Epoch
    next_seq: Count
    agent: VersionName
    profile: Annotated[tuple[Identifier, ...], Meta(min_length=1, max_length=8)]
    counter: Count
    active: ActiveModel | None = None
    progress: Progress | None = None
    time_ms: Count
    knows: Annotated[tuple[Identifier, ...], Meta(max_length=32)] = later(())
    next_key: NextKey | None = later(None)
    withdrawn: Count = later(0)
    obeys: KeyNameOrEmpty = later("")


class ScalarCounts(Frozen):
    """Live counts of one monitored number, by bin of the manifest's baseline."""

    name: Annotated[str, Meta(max_length=300)]
    counts: Annotated[tuple[Count, ...], Meta(max_length=64)]


DriftKind = Literal["data-drift", "prediction-drift", "concept-drift"]


class Window(Frozen):
    """What one model did over a stretch of time: the unit of telemetry.

    Args:
        bundle: Digest of the manifest of the model that answered.
        start_ms, end_ms: Unix milliseconds of the device's clock.
        duration_ms: By the monotonic clock; true even when the wall clock jumped.
        inferences: Answered.
        errors: Failed, by reason.
        refused: Inputs that the contract did not allow, by reason.
        flagged: Inputs that were answered although they look suspicious, by reason.
        latency_ms: Of single inferences, milliseconds.
        scalars: Counts by bin of the baseline, of the answered inferences; of the moments of large inputs
            fewer, where more than twenty a second are answered.
        golden_total, golden_agree: Golden inputs run again in this window, and how many agreed.
        cpu_s: Processor time of the agent in this window.
        rss_bytes: Resident memory of the agent at its end.
        temperature_c: Hottest thermal zone, or None where there is none.
        trial: Whether the model was on trial for all or part of it.
        unserved: Requests that were not run, by reason ("queue-full", "deadline"): says nothing of the model.
        lineup: Its part among the device's models; None from agents that do not count it.
        merged: How many windows were added up in this one, because the outbox was full. Between them time
            may be missing: `duration_ms` is their sum, `rss_bytes` and `temperature_c` their largest.
        software: Versions that decide what was answered, by name: kernel, agent, runtime, drivers.
        child_rss_bytes: Resident memory of the process that holds the runtime at its end; 0 without one.
        epsilon: What the counts of this window cost in differential privacy; None when they are exact.
        clock_step_ms: How far the wall clock moved against the monotonic one in this window, when that was
            more than a second: start_ms and end_ms are then by two different clocks.
        drifting: What the device found by itself, up to this window, against the bundle's baseline.
    """

    kind: Literal["window"] = "window"
    bundle: Digest
    artifact: Identifier
    runtime: Annotated[str, Meta(max_length=64)]
    start_ms: Count
    end_ms: Count
    duration_ms: Count
    inferences: Count
    errors: Annotated[Mapping[str, int], Meta(max_length=32)] = field(default_factory=dict)
    refused: Annotated[Mapping[str, int], Meta(max_length=32)] = field(default_factory=dict)
    flagged: Annotated[Mapping[str, int], Meta(max_length=32)] = field(default_factory=dict)
    latency_ms: QuantileSketch = QuantileSketch()
    scalars: Annotated[tuple[ScalarCounts, ...], Meta(max_length=128)] = ()
    golden_total: Count = 0
    golden_agree: Count = 0
    cpu_s: NotNegative = 0
    rss_bytes: Count = 0
    temperature_c: Finite | None = None
    trial: bool = False
    unserved: Mapping[str, Count] = later({})
    lineup: LineupCounts | None = later(None)
    merged: Annotated[int, Meta(ge=1)] = later(1)
    epsilon: Positive | None = later(None)
    clock_step_ms: int = later(0)
    software: Mapping[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=64)]] = later({})
    child_rss_bytes: Count = later(0)
    drifting: tuple[DriftKind, ...] = later(())


class Event(Frozen):
    """Something that happened once: an install, a rollback, a start.

    Args:
        name: Such as "started", "trial-started", "confirmed", "rolled-back", "refused".
        assignment: The assignment it belongs to, if any.
    """

    kind: Literal["event"] = "event"
    name: Identifier
    time_ms: Count
    bundle: Digest | None = None
    assignment: int | None = None
    code: Annotated[str, Meta(max_length=64)] = ""
    detail: Annotated[str, Meta(max_length=500)] = ""


class Gap(Frozen):
    """Records that the device had to drop, and why: a loss that is owned up to.

    Records that were given up before they were sealed take one number with them, so that a loss is
    always a hole in the numbers too.

    Args:
        first_seq, last_seq: Envelopes that will never come.
        records: How many records were in them.
        kinds: The same by kind of record.
        first_ms, last_ms: From when to when they were, by the device's clock; 0 when nobody knows.
    """

    kind: Literal["gap"] = "gap"
    first_seq: Count
    last_seq: Count
    records: Count
    reason: Annotated[str, Meta(max_length=100)]
    kinds: Annotated[Mapping[str, Annotated[int, Meta(ge=1)]], Meta(max_length=8)] = later({})
    first_ms: Count = later(0)
    last_ms: Count = later(0)


Record = Window | Event | Gap


class Telemetry(Frozen):
    """One numbered envelope of records.

    Args:
        epoch: Random, made with the outbox; a new one means that the device's memory was wiped.
        seq: 0, 1, 2, ... within the epoch.
        prev: First 16 bytes of the SHA-256 of the whole envelope before (16 zero bytes for the first).
    """

    v: Literal[1] = 1
    epoch: Epoch
    seq: Count
    prev: Annotated[bytes, Meta(min_length=CHAIN_BYTES, max_length=CHAIN_BYTES)]
    recs: Annotated[tuple[Record, ...], Meta(min_length=1, max_length=1000)]


class Ack(Frozen):
    """What the server has stored: every envelope of the epoch up to `high` may be forgotten.

    Args:
        high: Largest seq below which none is missing; -1 when there is none.
        chain: Chain value of envelope `high`, so that an ack cannot be for another history.
    """

    v: Literal[1] = 1
    device: Identifier
    epoch: Epoch
    high: Annotated[int, Meta(ge=-1)]
    chain: Annotated[bytes, Meta(min_length=CHAIN_BYTES, max_length=CHAIN_BYTES)]


class Assignment(Frozen):
    """What a device should run: signed by the fleet's director key.

    Args:
        number: Grows with every new assignment of this device; smaller ones are replays.
        bundle: Digest of the manifest to run, or None: nothing is assigned, keep what you have.
        archive: Digest of the .bundle file, for the download.
        url_path: Below the server's address.
        counter: Of the release; smaller than the device's own is a downgrade.
        permit_downgrade: Signed permission to go below the counter.
        expires_ms: Unix milliseconds after which it must not be begun; 0 for never.
        keys: Signed statements about keys (`trust.KeyStatement`) to follow first; known ones do no harm.
        hold: Bring and check it, say "ready", and do not switch (`Knows.HOLD`).
        known_key: Id of the key that the device is known by, once that has changed (`Knows.KEYS`).
        change_key: Id of the key that the device is to change; an order for another key is an old one.
        shadow: Run the bundle beside what answers, on these terms, and switch nothing (`Knows.SHADOW`).
        withdrawn: Bundles that must not answer any more, to follow before the rest (`Knows.WITHDRAWN`).
    """

    v: Literal[1] = 1
    device: Identifier
    number: Count
    bundle: Digest | None = None
    name: Identifier | None = None
    version: VersionName | None = None
    archive: Digest | None = None
    archive_bytes: Count = 0
    url_path: Annotated[str, Meta(max_length=500)] = ""
    counter: Count = 0
    permit_downgrade: bool = False
    expires_ms: Count = 0
    keys: tuple[Annotated[bytes, Meta(max_length=MAX_STATEMENT_BYTES)], ...] = later(())
    shadow: ShadowTerms | None = later(None)
    hold: bool = later(False)
    known_key: KeyNameOrEmpty = later("")
    change_key: KeyNameOrEmpty = later("")
    withdrawn: Withdrawn | None = later(None)
