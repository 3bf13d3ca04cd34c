"""What must not be used for now, why, and when it is tried again: durable, and pure but for the file.

An accelerator is quarantined as such, whatever runs on it; a CPU only for the one artifact that fails
there. Time counts while the agent runs, by the monotonic clock: a device without a clock, or with one
that jumps, tries again neither at once nor never.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from msgspec import field

from edge_agent.device.home import Home, write_durably
from edge_agent.errors import HomeInvalid
from edge_agent.guard.ladder import Rung
from edge_agent.runtimes.base import CPU
from edge_agent.runtimes.choice import Option
from edge_contracts.digest import short
from edge_contracts.errors import ContractError
from edge_contracts.model import Finite, Frozen, canonical_json, parse_json

log = logging.getLogger(__name__)

FORMAT = "edgefleet.guard/1"
FIRST_RETRY_S = 900.0  # then twice as long each time
LONGEST_RETRY_S = 86_400.0
MAX_DETAIL = 300  # characters, as a fallback's reason may have


class Entry(Frozen):
    """One thing in quarantine.

    Args:
        subject: `subject_of`.
        code, detail: Why.
        since_ms: Unix milliseconds of the device's clock, for people.
        software: Versions of what it ran with: other ones are a reason to try again.
        failed: How often it was tried again in vain.
        waited_s: Since it came in or was last tried, while the agent ran.
    """

    subject: str
    code: str
    detail: str
    since_ms: int
    software: Mapping[str, str] = field(default_factory=dict)
    failed: int = 0
    waited_s: Finite = 0.0

    @property
    def retry_s(self) -> float:
        """How long it waits in all."""
        return float(min(FIRST_RETRY_S * 2.0 ** min(self.failed, 20), LONGEST_RETRY_S))

    @property
    def is_due(self) -> bool:
        """Whether it is time to try it again."""
        return self.waited_s >= self.retry_s

    def __str__(self) -> str:
        """For a person."""
        since = datetime.fromtimestamp(self.since_ms / 1000, UTC).isoformat(timespec="seconds")
        left_s = max(0.0, self.retry_s - self.waited_s)
        return (
            f"{self.subject} since {since} ({self.code}: {self.detail}); "
            f"tried again in {left_s / 60:.0f} min of work"
        )


class GuardRecord(Frozen):
    """The document `guard.json`.

    Args:
        rung: Of the ladder, with the reason for it.
        entries: What is in quarantine.
        software: Versions with which the golden inputs last agreed.
    """

    format: Literal["edgefleet.guard/1"] = "edgefleet.guard/1"
    rung: Rung = Rung.SERVING
    why: str = ""
    entries: tuple[Entry, ...] = ()
    software: Mapping[str, str] = field(default_factory=dict)


def subject_of(option: Option, bundle: str) -> str:
    """What is quarantined when a way to run a bundle fails.

    Args:
        bundle: Digest of the manifest.
    """
    if option.device != CPU:
        return f"{option.runtime}/{option.device}"
    return f"{option.runtime}/{option.device}/{option.artifact}@{short(bundle)}"


@dataclass(frozen=True)
class Quarantine:
    """All that is in quarantine."""

    entries: Mapping[str, Entry] = dataclasses.field(default_factory=dict)

    def put(self, entry: Entry) -> Quarantine:
        """With one more, or the same one with another reason."""
        return replace(self, entries={**self.entries, entry.subject: entry})

    def without(self, subject: str) -> Quarantine:
        """With one less; harmless when it is not there."""
        return replace(self, entries={s: e for s, e in self.entries.items() if s != subject})

    def failed_again(
        self, subject: str, code: str, detail: str, software: Mapping[str, str] | None = None
    ) -> Quarantine:
        """After a try in vain: it waits twice as long.

        Args:
            software: What it was tried with; None for what it came in with.
        """
        entry = self.entries[subject]
        update = {"failed": entry.failed + 1, "waited_s": 0.0, "code": code, "detail": detail[:MAX_DETAIL]}
        if software is not None:
            update["software"] = dict(software)
        return self.put(entry.model_copy(update=update))

    def after(self, seconds: float) -> Quarantine:
        """When so much time has gone by."""
        return Quarantine(
            {
                s: e.model_copy(update={"waited_s": min(e.retry_s, e.waited_s + seconds)})
                for s, e in self.entries.items()
            }
        )

    def due(self) -> list[Entry]:
        """What it is time to try again."""
        return [entry for entry in self.entries.values() if entry.is_due]

    def barred(self, ways: Mapping[Option, str], bundle: str) -> dict[Option, str]:
        """The ways to run a bundle that are out, with the reason, as `choice.choose` takes it."""
        found = {}
        for option in ways:
            entry = self.entries.get(subject_of(option, bundle))
            if entry is not None:
                found[option] = f"quarantined ({entry.code}: {entry.detail})"
        return found


class GuardStore:
    """The document of one agent; whoever writes holds the home's lock.

    Args:
        lost: Why what was in it is gone, or "".
    """

    def __init__(self, home: Home) -> None:
        """Read it; one that is damaged counts as empty: golden inputs judge again."""
        self._path = home.folder / "guard.json"
        self.lost = ""
        self.record = GuardRecord()
        if not self._path.exists():
            return
        try:
            self.record = parse_json(GuardRecord, self._path.read_bytes(), self._path.name, FORMAT)
        except (ContractError, OSError) as error:
            self.lost = f"quarantine is forgotten: {error}"

    @property
    def quarantine(self) -> Quarantine:
        """What is in quarantine."""
        return Quarantine({entry.subject: entry for entry in self.record.entries})

    def save(self, record: GuardRecord) -> None:
        """Store it, and go on with it where the disk does not take it: safety does not wait for a disk."""
        if record == self.record and self._path.exists():
            return
        self.record = record
        try:
            write_durably(self._path, canonical_json(record))
        except HomeInvalid as error:
            log.error("quarantine not stored", extra={"reason": str(error)})

    def put(self, quarantine: Quarantine) -> None:
        """Store another quarantine."""
        self.save(self._with(quarantine))

    def count(self, quarantine: Quarantine) -> None:
        """Go on with one in which only time has passed; it is stored with what comes next."""
        self.record = self._with(quarantine)

    def _with(self, quarantine: Quarantine) -> GuardRecord:
        return self.record.model_copy(update={"entries": tuple(quarantine.entries.values())})
