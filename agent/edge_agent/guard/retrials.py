"""Trying again what is in quarantine, in a child and next to what answers.

Three things are a reason to: its time is up, it came in with another driver than there is now, or a
person has lifted it. An accelerator that a bundle's trial could not have is tried once more, too. What
passes all golden inputs answers again (`Warden.lifted`), what fails waits twice as long. Used from the
agent's thread; the trials run in a worker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol

from edge_agent.errors import ChildFailed, NotQuarantined, TrialFailed
from edge_agent.guard.quarantine import Entry, GuardStore, subject_of
from edge_agent.guard.software import changes, read_software
from edge_agent.guard.warden import Probe, Subject, Warden
from edge_agent.guard.ways import read_ways
from edge_agent.runtimes.base import CPU
from edge_agent.runtimes.choice import Option
from edge_agent.updates.slots import Tell
from edge_agent.updates.trial import TrialReport
from edge_agent.worker import Then, Work
from edge_contracts.digest import short
from edge_contracts.manifest import Manifest

COUNTED_S = 60.0  # how often the time in quarantine is counted, and ...
STORED_S = 3600.0  # ... stored
LOOK_S = 3600.0  # how often the versions of drivers are read


class Jobs(Protocol):
    """Who does the long work; see `worker.Worker`."""

    @property
    def busy(self) -> bool:
        """Whether a job is under way."""

    def begin(self, work: Work, then: Then) -> None:
        """Start a job."""


class Retrials:
    """The retrials of one agent.

    Args:
        probe: Tries a bundle in a child with some options left out; runs in the worker.
        ways: Where a bundle could run; runs there too.
    """

    def __init__(
        self,
        store: GuardStore,
        warden: Warden,
        jobs: Jobs,
        probe: Probe,
        tell: Callable[[Tell], None],
        now_s: float,
        ways: Callable[[Path, Manifest], dict[Option, str]] = read_ways,
    ) -> None:
        """Take the parts; versions are looked at with the first tick."""
        self._store, self._warden, self._jobs = store, warden, jobs
        self._probe, self._tell, self._ways = probe, tell, ways
        self._waiting: list[tuple[Entry, bool]] = []  # each with whether it must prove itself first
        self._improve = False
        self._counted_s = self._stored_s = now_s
        self._looked_s = now_s - LOOK_S

    def lift(self, subject: str) -> str:
        """Take something out of quarantine, because a person says so; what was done, one line.

        Args:
            subject: As `quarantine list` shows it, or "all".

        Raises:
            NotQuarantined: It is not in there.
        """
        lifted = lift(self._store, subject)
        for entry in lifted:
            self._tell(Tell("quarantine-lifted", code="operator", detail=entry.subject))
        self._waiting += [(entry, False) for entry in lifted]
        return f"lifted: {', '.join(entry.subject for entry in lifted)}; golden inputs decide"

    def tick(self, now_s: float) -> None:
        """Do what is due."""
        if now_s - self._counted_s >= COUNTED_S:
            self._count(now_s)
        if now_s - self._looked_s >= LOOK_S:
            self._looked_s = now_s
            self._look()
        subject = self._warden.subject
        if subject is None or subject.trial or self._jobs.busy:
            return
        if self._waiting:
            self._begin(subject, *self._waiting.pop(0))
        elif self._improve:
            self._improve = False
            self._begin_better(subject)

    def improve(self) -> None:
        """Try once whether an accelerator that the trial could not have is to be had now.

        One that belongs to one process at a time is held by the running model while the next is on trial.
        """
        self._improve = True

    def _count(self, now_s: float) -> None:
        quarantine = self._store.quarantine.after(now_s - self._counted_s)
        self._counted_s = now_s
        due = quarantine.due()
        if quarantine.entries and (due or now_s - self._stored_s >= STORED_S):
            self._stored_s = now_s
            self._store.put(quarantine)
        else:
            self._store.count(quarantine)
        for entry in due:
            self._wait(entry)

    def _look(self) -> None:
        for entry in self._store.quarantine.entries.values():
            runtime, device = entry.subject.split("/")[:2]
            new = changes(entry.software, read_software(runtime, device))
            if new:
                detail = f"{entry.subject}: {new}"
                self._tell(Tell("quarantine-retry", code="new-software", detail=detail[:500]))
                self._wait(entry)
        self._warden.look()

    def _wait(self, entry: Entry) -> None:
        if entry.subject not in {waiting.subject for waiting, _ in self._waiting}:
            self._waiting.append((entry, True))

    def _begin(self, subject: Subject, entry: Entry, prove: bool) -> None:
        """Try it.

        Args:
            prove: Whether it stays in quarantine unless it passes; else it comes back in when it fails.
        """

        def work(_: Callable[[], bool]) -> TrialReport:
            ways = self._ways(subject.folder, subject.manifest)
            mine = [o for o in ways if subject_of(o, subject.bundle) == entry.subject and not ways[o]]
            if not mine:
                missing = "; ".join(w for o, w in ways.items() if w and subject_of(o, "") == entry.subject)
                reason = missing or f"{subject.manifest.name} does not run there"
                raise TrialFailed("not-here", f"{entry.subject} cannot be tried: {reason}")
            out: Mapping[Option, str] = {o: "not asked" for o in ways if o != mine[0]}
            return self._probe(subject, out)

        self._jobs.begin(work, lambda future: self._ended(future, subject, entry, prove))

    def _begin_better(self, subject: Subject) -> None:
        held = subject.choice.option if subject.choice is not None else None

        def work(_: Callable[[], bool]) -> TrialReport | None:
            ways = self._ways(subject.folder, subject.manifest)
            barred = self._warden.barred(ways, subject.bundle)
            for option, missing in ways.items():
                if option == held:
                    break
                if not missing and option not in barred and option.device != CPU:
                    return self._probe(subject, {o: "not asked" for o in ways if o != option})
            return None

        self._jobs.begin(work, lambda future: self._bettered(future, subject))

    def _bettered(self, future: Future[TrialReport | None], subject: Subject) -> None:
        try:
            report = future.result()
        except (TrialFailed, ChildFailed) as error:
            self._tell(Tell("better-way-failed", subject.bundle, None, error.code, str(error)[:500]))
            return
        if report is not None:
            detail = f"{report.choice.option}: it is free now, and its golden inputs agree"
            self._tell(Tell("better-way", subject.bundle, None, "passed", detail))
            self._warden.lifted(subject, report.choice, detail)

    def _ended(self, future: Future[TrialReport], subject: Subject, entry: Entry, prove: bool) -> None:
        quarantine = self._store.quarantine
        try:
            report = future.result()
        except (TrialFailed, ChildFailed) as error:
            if not prove:
                quarantine = quarantine.put(entry)
            if entry.subject in quarantine.entries:
                runtime, device = entry.subject.split("/")[:2]
                software = read_software(runtime, device)
                detail = f"tried again in vain: {error}"
                self._store.put(quarantine.failed_again(entry.subject, error.code, detail, software))
                self._tell(
                    Tell("quarantined", subject.bundle, None, error.code, f"{entry.subject}: {detail}"[:500])
                )
            return
        self._store.put(quarantine.without(entry.subject))
        detail = f"{entry.subject}: {report.golden.agree} of {report.golden.total} golden inputs agree"
        self._tell(Tell("quarantine-lifted", subject.bundle, None, "passed", detail))
        self._warden.lifted(subject, report.choice, detail)


def lift(store: GuardStore, subject: str) -> list[Entry]:
    """Take something out of quarantine; what it was.

    Raises:
        NotQuarantined: It is not in there.
    """
    entries = store.quarantine.entries
    found = list(entries.values()) if subject == "all" else [e for s, e in entries.items() if s == subject]
    if not found:
        there = ", ".join(sorted(entries)) or "nothing"
        raise NotQuarantined(f"{subject!r} is not in quarantine; there is {there}")
    quarantine = store.quarantine
    for entry in found:
        quarantine = quarantine.without(entry.subject)
    store.put(quarantine)
    return found


def prune(store: GuardStore, bundles: set[str]) -> None:
    """Forget what was quarantined for bundles that are not here any more."""
    held = {short(bundle) for bundle in bundles}
    gone = [s for s in store.quarantine.entries if "@" in s and s.rpartition("@")[2] not in held]
    quarantine = store.quarantine
    for subject in gone:
        quarantine = quarantine.without(subject)
    if gone:
        store.put(quarantine)
