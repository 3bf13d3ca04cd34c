"""The durable state of the agent: one small document, replaced as a whole.

A file written beside and renamed, not a database: the state is one value of less than a kilobyte that
is written a few times per update, so what counts is that a power cut leaves the old value or the new
one, and that a damaged sector is noticed. Each document carries the digest of its content, and the
one before it is kept. Going back one document is always safe: the slots' phases are made so that a
state that is too old reads as a trial that failed.

With both documents gone the slots themselves are the memory: see `rebuilt`. What is lost then is the
counters (`floor`, `number`), as after a reset to factory settings; the log says so.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

from msgspec import Meta

from edge_agent.device.home import Home, write_durably
from edge_agent.errors import HomeInvalid
from edge_agent.runtimes.choice import Choice, Option
from edge_agent.updates.slots import Held, Phase, Slot, Slots
from edge_contracts.digest import Digest, digest_of
from edge_contracts.errors import FormatInvalid
from edge_contracts.messages import Progress
from edge_contracts.model import Count, Finite, Frozen, canonical_json, later, parse_json
from edge_contracts.withdrawal import Withdrawn

log = logging.getLogger(__name__)

FORMAT = "edgefleet.agent-state/1"
# Snapshot numbers are given out below a mark that is stored ahead of them: six writes an hour, no more.
RESERVE = 600_000
# How far above the mark a device may go whose disk takes none: a clock that was wrong shuts it up no longer.
UNSTORED_MS = 366 * 86_400_000


class ChoiceRecord(Frozen):
    """The way of running a bundle that its check settled on, as stored."""

    artifact: str
    runtime: str
    device: str
    fallback: str
    latency_p95_ms: Finite | None = later(None)


class HeldRecord(Frozen):
    """What a slot holds, as stored."""

    bundle: Digest
    counter: Count
    assignment: int | None
    choice: ChoiceRecord | None
    hold: bool = later(False)


class StateRecord(Frozen):
    """The document.

    Args:
        snapshots_below: No hello or status of this device carried this number or a larger one yet.
    """

    format: Literal["edgefleet.agent-state/1"] = "edgefleet.agent-state/1"
    phase: Phase
    held: Mapping[Slot, HeldRecord]
    active: Slot | None
    candidate: Slot | None
    last_good: Slot | None
    checks: Count
    floor: Count
    number: Annotated[int, Meta(ge=-1)]
    progress: Progress | None
    snapshots_below: Count
    withdrawn: Withdrawn | None = later(None)
    emptied: str = later("")
    era: int = later(0)


@dataclass(frozen=True)
class Found:
    """A slot whose content verified while the state was being rebuilt.

    Args:
        written_s: When its manifest was written, by the device's clock.
    """

    bundle: str
    written_s: float


class Store:
    """The state document of one agent; the caller holds the home's lock.

    Args:
        lost: Why the state had to be rebuilt from the slots, or "".
    """

    def __init__(self, home: Home) -> None:
        """Read the newest document that is whole."""
        self._home = home
        self._previous = home.state.with_name("state.previous.json")
        self.lost = ""
        record = self._read()
        self._snapshots_below = record.snapshots_below if record else 0
        self._last_snapshot = self._snapshots_below - 1
        self._slots = _slots(record) if record else Slots()
        self._unmarked = False

    @property
    def slots(self) -> Slots:
        """The state as it is on the disk."""
        return self._slots

    def save(self, slots: Slots) -> None:
        """Store a state; it is durable when this returns.

        Raises:
            HomeInvalid: It cannot be written; the state before is still there.
        """
        if slots == self._slots and self._home.state.exists():
            return
        self._write(slots, self._snapshots_below)

    def next_snapshot(self, now_ms: int) -> int:
        """A number for a hello or status, larger than every one before.

        The clock's milliseconds where they grow, so that a device whose state was lost does not
        repeat numbers that the server would take for a replay.

        Raises:
            HomeInvalid: The disk takes no mark, and the clock does not tell a number that is sure to be new.
        """
        number = max(self._last_snapshot + 1, now_ms)
        if number >= self._snapshots_below:
            try:
                self._write(self._slots, number + RESERVE)
            except HomeInvalid:
                number = self._unmarked_number(now_ms)
        self._last_snapshot = number
        return number

    def _unmarked_number(self, now_ms: int) -> int:
        """A number above the mark, where none can be stored: the clock's, which the next start will be above.

        Only the clock's can be new after a start: what an earlier life said above the mark nobody has written
        down (docs/decisions/0123). Raises the error that is being handled where it does not do.
        """
        number = min(now_ms, self._snapshots_below + UNSTORED_MS)
        if number <= self._last_snapshot:
            if not self._unmarked:
                raise
            number = self._last_snapshot + 1
        if not self._unmarked:
            log.error("snapshots are numbered by the clock", extra={"number": number})
        self._unmarked = True
        return number

    def _write(self, slots: Slots, snapshots_below: int) -> None:
        content = canonical_json(_record(slots, snapshots_below))
        try:
            if self._home.state.exists():
                link = self._previous.with_name(self._previous.name + ".new")
                link.unlink(missing_ok=True)
                os.link(self._home.state, link)
                os.replace(link, self._previous)
        except OSError as error:
            raise HomeInvalid(f"cannot write {self._previous}: {error.strerror}") from None
        write_durably(self._home.state, digest_of(content).encode() + b"\n" + content)
        self._slots, self._snapshots_below = slots, snapshots_below

    def _read(self) -> StateRecord | None:
        paths = [path for path in (self._home.state, self._previous) if path.exists()]
        for path in paths:
            try:
                digest, _, content = path.read_bytes().partition(b"\n")
                if digest != digest_of(content).encode():
                    raise FormatInvalid(f"{path} does not have the digest that it states")
                record = parse_json(StateRecord, content, path.name, FORMAT)
            except (FormatInvalid, OSError) as error:
                self.lost = str(error)
                log.error("state document damaged", extra={"reason": str(error)})
                continue
            if path is self._previous:
                log.warning("state taken from the document before", extra={"path": str(path)})
            self.lost = ""
            return record
        if not paths and any((self._home.folder / "slots").glob("?")):
            self.lost = f"{self._home.state} is missing"
        return None


def rebuilt(found: Mapping[Slot, Found]) -> Slots:
    """A state from nothing but slots that verify.

    The older of two is the one that is known to be good: a candidate is always written while
    another bundle answers. The newer one may never have passed its trial, so it is not pinned.
    """
    if not found:
        return Slots()
    oldest = min(found, key=lambda slot: (found[slot].written_s, slot))
    return Slots(held={slot: Held(what.bundle) for slot, what in found.items()}, active=oldest)


def _record(slots: Slots, snapshots_below: int) -> StateRecord:
    return StateRecord(
        phase=slots.phase,
        held={slot: _held_record(held) for slot, held in slots.held.items()},
        active=slots.active,
        candidate=slots.candidate,
        last_good=slots.last_good,
        checks=slots.checks,
        floor=slots.floor,
        number=slots.number,
        era=slots.era,
        progress=slots.progress,
        snapshots_below=snapshots_below,
        withdrawn=slots.withdrawn,
        emptied=slots.emptied,
    )


def _held_record(held: Held) -> HeldRecord:
    choice = None
    if held.choice is not None:
        stated = {name: value for name, value in asdict(held.choice).items() if name != "option"}
        choice = ChoiceRecord(**asdict(held.choice.option), **stated)
    return HeldRecord(
        bundle=held.bundle, counter=held.counter, assignment=held.assignment, choice=choice, hold=held.hold
    )


def _slots(record: StateRecord) -> Slots:
    return Slots(
        phase=record.phase,
        held={slot: _held(held) for slot, held in record.held.items()},
        active=record.active,
        candidate=record.candidate,
        last_good=record.last_good,
        checks=record.checks,
        floor=record.floor,
        number=record.number,
        era=record.era,
        progress=record.progress,
        withdrawn=record.withdrawn,
        emptied=record.emptied,
    )


def _held(record: HeldRecord) -> Held:
    found = record.choice
    choice = None
    if found is not None:
        option = Option(found.artifact, found.runtime, found.device)
        choice = Choice(option, found.fallback, found.latency_p95_ms)
    return Held(record.bundle, record.counter, record.assignment, choice, record.hold)
