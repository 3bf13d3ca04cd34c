"""The one that climbs the ladder: what answers, what is quarantined, what is tried next.

Used from the agent's thread alone. Every step goes the same way: step, store, act, report with its time.
How a bundle is opened, tried and switched on is the host's business (`agent.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, time
from typing import Protocol

from edge_agent.errors import ChildFailed, RuntimeUnavailable, TrialFailed
from edge_agent.guard.ladder import AT_REST, Event, Rung, step
from edge_agent.guard.quarantine import MAX_DETAIL, Entry, GuardStore, subject_of
from edge_agent.guard.restarts import Restarts
from edge_agent.guard.software import changes, read_software
from edge_agent.guard.watch import Trouble
from edge_agent.guard.ways import read_ways
from edge_agent.runtimes.base import CPU
from edge_agent.runtimes.choice import Choice, Option, choose
from edge_agent.updates.slots import Slot, Tell
from edge_agent.updates.trial import TrialReport
from edge_contracts.manifest import Manifest

log = logging.getLogger(__name__)

RESETS = Restarts(limit=3, span_s=3600.0, first_pause_s=1.0)
RETRIES_TOLD_S = 60.0  # retries that helped are told of once in so long, with their number
DAMAGED = "digest-mismatch"
UNJUDGED = frozenset({"too-slow", "too-large"})


@dataclass(frozen=True)
class Subject:
    """A bundle that should answer.

    Args:
        bundle: Digest of the manifest.
        choice: What its trial settled on.
        trial: Whether it is on trial: then nothing is done but to fail it.
    """

    slot: Slot
    bundle: str
    folder: Path
    manifest: Manifest
    choice: Choice | None
    trial: bool


@dataclass(frozen=True)
class Outcome:
    """What became of opening a bundle and asking its golden inputs.

    Args:
        event: PASSED, or for the ladder what went wrong.
    """

    event: Event
    code: str = ""
    detail: str = ""


class Host(Protocol):
    """What the warden needs of the agent."""

    def try_to_serve(self, subject: Subject, choice: Choice) -> Outcome:
        """Open a bundle, ask its golden inputs, and answer with it when they agree."""

    def last_good(self) -> Subject | None:
        """The bundle before, if there is one that verifies."""

    def abstain(self, reason: str) -> None:
        """Answer no more."""

    def damaged(self, slot: Slot, detail: str) -> None:
        """What a slot holds does not verify any more."""

    def tell(self, tell: Tell) -> None:
        """Put an event into the telemetry."""


Probe = Callable[[Subject, Mapping[Option, str]], TrialReport]


class Warden:
    """The ladder of one agent.

    Args:
        probe: Tries a bundle in a child with some options left out.
        ways: Where a bundle could run.
    """

    def __init__(
        self,
        store: GuardStore,
        host: Host,
        probe: Probe,
        ways: Callable[[Path, Manifest], dict[Option, str]] = read_ways,
    ) -> None:
        """Take the parts; `begin` opens the first bundle."""
        self._store, self._host, self._probe, self._ways = store, host, probe, ways
        self._subject: Subject | None = None  # what should answer
        self._opened: tuple[Subject, Choice] | None = None  # what was opened last
        self._rung = Rung.SERVING
        self._why = Outcome(Event.PASSED)  # what the ladder is being climbed for
        self._resets = RESETS
        self._resume_s: float | None = None
        self._retries, self._retries_told_s = 0, -RETRIES_TOLD_S

    @property
    def subject(self) -> Subject | None:
        """What should answer."""
        return self._subject

    def barred(self, ways: Mapping[Option, str], bundle: str) -> dict[Option, str]:
        """The ways to run a bundle that are in quarantine; also for its trial."""
        return self._store.quarantine.barred(ways, bundle)

    def begin(self, subject: Subject) -> Outcome:
        """Answer with a bundle from now on.

        Returns:
            What became of the first try. One that is not on trial goes down the ladder by itself then,
            unless its files are damaged.
        """
        before = self._subject, self._opened, self._rung, self._resume_s
        self._subject, self._opened, self._resume_s = subject, None, None
        self._why, self._rung = Outcome(Event.PASSED), Rung.RESET
        began_s = monotonic()
        outcome = self._open(subject)
        if subject.trial and outcome.event is not Event.PASSED:
            self._subject, self._opened, self._rung, self._resume_s = before  # which goes on answering
            return outcome
        self._resets = RESETS
        if outcome.event is Event.PASSED or outcome.code == DAMAGED:
            self._enter(Rung.SERVING, Outcome(Event.PASSED))
            return outcome
        self._told(Rung.RESET, outcome, monotonic() - began_s)
        self._move(outcome)
        return Outcome(Event.PASSED)

    def forget(self) -> None:
        """Nothing should answer."""
        self._subject = self._opened = self._resume_s = None
        self._rung = Rung.SERVING

    def confirmed(self) -> None:
        """What was on trial is not any more: from now on it is helped."""
        if self._subject is not None and self._opened is not None:
            self._subject = replace(self._subject, trial=False)
            self._opened = (self._subject, self._opened[1])

    def troubled(self, trouble: Trouble) -> None:
        """The open session has failed."""
        outcome = Outcome(trouble.event, trouble.code, trouble.detail)
        if self._rung is not Rung.SERVING or self._opened is None:
            return  # it is being seen to
        if trouble.event is Event.ERROR:
            self._retried(outcome, trouble.took_s)
            return
        counts = trouble.event is Event.LOST or self._opened[1].option.device != CPU
        self._fail(outcome, counts and not trouble.by_input)

    def disagreed(self, outcome: Outcome) -> None:
        """Golden inputs that were asked while serving did not agree, or failed."""
        if self._rung is Rung.SERVING and self._opened is not None:
            self._fail(outcome, True)

    def tick(self, now_s: float) -> None:
        """Do what is due."""
        if self._resume_s is not None and now_s >= self._resume_s:
            self._resume_s = None
            self._act_from(Rung.RESET)

    def lifted(self, subject: Subject, choice: Choice, detail: str) -> None:
        """Something that was in quarantine has proved itself with a bundle: answer with it."""
        if self._subject is subject and self._rung in AT_REST:
            self._subject = replace(subject, choice=choice)
            self._move(Outcome(Event.LIFTED, "lifted", detail))

    def look(self) -> None:
        """Open what answers anew where its accelerator's drivers are others than when it was opened."""
        if self._rung is not Rung.SERVING or self._opened is None or self._opened[0].trial:
            return
        option = self._opened[1].option
        if option.device != CPU:
            new = changes(self._store.record.software, read_software(option.runtime, option.device))
            if new:
                self._move(Outcome(Event.LIFTED, "new-software", new))

    # --- the ladder

    def _fail(self, outcome: Outcome, counts: bool) -> None:
        """The model that serves must not go on."""
        now_s, pause_s = monotonic(), 0.0
        if counts and self._resets.is_worn_out(now_s):
            detail = f"reset {self._resets.limit} times within an hour; {outcome.detail}"
            outcome = Outcome(Event.WORN_OUT, outcome.code, detail)
        elif counts:
            pause_s = self._resets.wait_s(now_s)
            self._resets = self._resets.after(now_s)
        self._move(outcome, pause_s)

    def _move(self, outcome: Outcome, pause_s: float = 0.0) -> None:
        """Step, store, act; and again for what comes of acting, until something answers or nothing can."""
        rung = step(self._rung, outcome.event)
        self._why = outcome
        self._enter(rung, outcome)
        if rung is Rung.RESET and pause_s > 0:
            self._resume_s = monotonic() + pause_s
        else:
            self._act_from(rung)

    def _act_from(self, rung: Rung) -> None:
        while rung not in AT_REST:
            began_s = monotonic()
            outcome = self._act(rung, self._why)
            self._told(rung, outcome, monotonic() - began_s)
            if outcome.code == DAMAGED and self._opened is not None:
                self._enter(Rung.SERVING, Outcome(Event.PASSED))
                self._host.damaged(self._opened[0].slot, outcome.detail)  # calls `begin` for what is left
                return
            rung = step(rung, outcome.event)
            if outcome.event is not Event.EXHAUSTED:
                self._why = outcome
            self._enter(rung, self._why)
        if rung is Rung.ABSTAIN:
            self._host.abstain(f"nothing here can be trusted: {self._why.detail}"[:MAX_DETAIL])
            self._host.tell(Tell("abstaining", self._bundle, None, self._why.code, self._why.detail))

    def _act(self, rung: Rung, why: Outcome) -> Outcome:
        subject = self._subject
        if subject is None:
            raise AssertionError("the ladder needs a bundle")
        if rung is Rung.NEXT:
            self._quarantine(why)
            return self._open(subject)
        if rung is Rung.SMALLER:
            smaller = self._host.last_good()
            if smaller is None:
                return Outcome(Event.EXHAUSTED, "no-last-good", "there is no last good bundle")
            return self._open(smaller, f"the last good bundle, because of {why.code}: {why.detail}")
        # a reset: what answered, unless something better has come out of quarantine
        return self._open(subject)

    def _open(self, subject: Subject, fallback: str = "") -> Outcome:
        try:
            choice = self._choose(subject)
        except RuntimeUnavailable as error:
            return Outcome(Event.EXHAUSTED, error.code, str(error))
        if fallback:
            choice = replace(choice, fallback=fallback[:MAX_DETAIL])
        self._opened = (subject, choice)
        known = self._store.record.software
        now = read_software(choice.option.runtime, choice.option.device)
        new = changes(known, now)
        if new:
            self._host.tell(Tell("software-changed", subject.bundle, None, "new-software", new[:500]))
            # what a new runtime does to the model is seen in a child first: here it could end the agent
            outcome = self._proved(subject, choice)
            if outcome.event is not Event.PASSED:
                return outcome
        outcome = self._host.try_to_serve(subject, choice)
        if outcome.event is Event.PASSED and now != {name: known.get(name) for name in now}:
            self._store.save(self._store.record.model_copy(update={"software": {**known, **now}}))
        return outcome

    def _proved(self, subject: Subject, choice: Choice) -> Outcome:
        """Try one way to run a bundle in a child; its time is not judged: a device that starts is busy."""
        if choice.option.device != CPU:
            return Outcome(Event.PASSED)  # it is opened in a child anyway
        try:
            ways = self._ways(subject.folder, subject.manifest)
            self._probe(subject, {option: "not asked" for option in ways if option != choice.option})
        except (TrialFailed, ChildFailed) as error:
            if error.code not in UNJUDGED:
                event = Event.DISAGREED if error.code == "golden-mismatch" else Event.LOST
                return Outcome(event, error.code, str(error))
        return Outcome(Event.PASSED)

    def _choose(self, subject: Subject) -> Choice:
        """The best way that is not in quarantine; what the trial settled on where that is allowed."""
        held = subject.choice
        if held is not None and not self.barred({held.option: ""}, subject.bundle):
            return held
        ways = self._ways(subject.folder, subject.manifest)
        return choose(ways, self.barred(ways, subject.bundle))

    def _quarantine(self, why: Outcome) -> None:
        if self._opened is None:
            raise AssertionError("nothing was opened that could be quarantined")
        subject, choice = self._opened
        option = choice.option
        entry = Entry(
            subject=subject_of(option, subject.bundle),
            code=why.code,
            detail=why.detail[:MAX_DETAIL],
            since_ms=int(time() * 1000),
            software=read_software(option.runtime, option.device),
        )
        self._store.put(self._store.quarantine.put(entry))
        self._host.tell(Tell("quarantined", subject.bundle, None, why.code, f"{entry.subject}: {why.detail}"))

    def _enter(self, rung: Rung, why: Outcome) -> None:
        self._rung = rung
        text = "" if why.event is Event.PASSED else f"{why.code}: {why.detail}"[:MAX_DETAIL]
        self._store.save(self._store.record.model_copy(update={"rung": rung, "why": text}))

    # --- reporting

    @property
    def _bundle(self) -> str | None:
        return None if self._subject is None else self._subject.bundle

    def _told(self, rung: Rung, outcome: Outcome, took_s: float) -> None:
        subject, choice = self._opened or (self._subject, None)
        what = f"{choice.option}: " if choice is not None else ""
        said = outcome.detail or outcome.event
        detail = f"{what}{said}; took {took_s:.3g} s"
        if outcome.event is Event.PASSED and self._why.detail:
            detail += f"; after {self._why.code}: {self._why.detail}"
        bundle = subject.bundle if subject is not None else None
        self._host.tell(Tell(f"ladder-{rung}", bundle, None, outcome.code or outcome.event, detail[:500]))

    def _retried(self, outcome: Outcome, took_s: float) -> None:
        """An error that a second try has cured: both steps are at rest again before anybody hears of it."""
        if step(step(self._rung, Event.ERROR), Event.PASSED) is not self._rung:
            raise AssertionError("a retry that helped leaves the rung as it was")
        self._retries += 1
        if monotonic() - self._retries_told_s >= RETRIES_TOLD_S:
            detail = f"{self._retries} inputs answered at the second try, the last in {took_s:.3g} s"
            self._host.tell(
                Tell("ladder-retry", self._bundle, None, outcome.code, f"{detail}; {outcome.detail}"[:500])
            )
            self._retries, self._retries_told_s = 0, monotonic()
