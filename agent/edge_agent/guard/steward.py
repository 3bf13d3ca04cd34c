"""What answers inferences now, and all that is done so that it goes on: the ladder's hands.

Used from the agent's thread. The agent says which slot should answer; how it is opened, proved with its
golden inputs and switched on, and what is done when it fails, is settled here and in `warden.py`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from time import monotonic

from edge_agent.device.home import Home
from edge_agent.errors import AgentError
from edge_agent.guard.gate import DAY_S, GoldenGate, ask_all
from edge_agent.guard.ladder import Event
from edge_agent.guard.quarantine import GuardStore
from edge_agent.guard.retrials import Retrials, prune
from edge_agent.guard.warden import DAMAGED, Outcome, Subject, Warden
from edge_agent.guard.watch import Suspects, Trouble, Watch
from edge_agent.inference.engine import NO_MODEL, Engine
from edge_agent.inference.serving import Serving
from edge_agent.inference.session import Session
from edge_agent.runtimes.base import CPU
from edge_agent.runtimes.choice import Choice, Option
from edge_agent.updates import installer, updater
from edge_agent.updates.health import Finding, Verdict
from edge_agent.updates.slots import Fact, Slot, Slots, Tell
from edge_agent.updates.trial import Limits, TrialReport, run_trial
from edge_agent.worker import Worker
from edge_contracts.errors import BundleInvalid, ContractError, DigestMismatch, FormatInvalid, NoMemory
from edge_contracts.keys import TrustedKeys
from edge_contracts.messages import Window

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Open:
    """What answers inferences now.

    Args:
        fault: Why its trial has failed, where that is known already.
    """

    slot: Slot
    serving: Serving
    since_s: float
    trial: bool
    golden_agrees: bool = True
    fault: Finding | None = None


@dataclass(frozen=True)
class Terms:
    """How models are opened.

    Args:
        threads: Of a CPU's runtime.
        isolate: Whether a CPU's runtime lives in a child too.
        golden_s: Between two runs of the golden inputs while a model serves.
        limits: What a trial may take.
    """

    threads: int = 1
    isolate: bool = False
    golden_s: float = DAY_S
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Ties:
    """What the steward needs of the agent.

    Args:
        slots: Where the device stands.
        trusted: Whose bundles may run.
        damaged: A slot's content does not verify any more.
        keep: Takes the last window of a model that answers no more.
        later: Has something done in the agent's thread; called in any.
        alive: Tells the service manager so: opening a model may take a minute, and several may follow.
    """

    slots: Callable[[], Slots]
    trusted: Callable[[], TrustedKeys]
    damaged: Callable[[Fact], None]
    keep: Callable[[Window], None]
    tell: Callable[[Tell], None]
    later: Callable[[Callable[[], None]], None]
    alive: Callable[[], None]


class Steward:
    """The one that keeps a model answering.

    Args:
        open: What answers now; the agent may not close its session.
    """

    def __init__(self, home: Home, engine: Engine, ties: Ties, terms: Terms, random: Random) -> None:
        """Take the parts; nothing is opened yet."""
        self._home, self._engine, self._ties, self._terms = home, engine, ties, terms
        self._suspects = Suspects()
        self._store = GuardStore(home)
        self._gate = GoldenGate(engine.when_idle, random, terms.golden_s)
        self._warden = Warden(self._store, self, self._probe)
        prober = Worker(lambda done: ties.later(partial(prober.finish, done)))
        self._retrials = Retrials(self._store, self._warden, prober, self._probe, ties.tell, monotonic())
        self.barred = self._warden.barred
        self.lift = self._retrials.lift
        self.open: Open | None = None

    @property
    def lost(self) -> str:
        """Why the quarantine of before is forgotten, or ""."""
        return self._store.lost

    @property
    def is_on_trial(self) -> bool:
        """Whether what answers is on trial."""
        return self.open is not None and self.open.trial

    def serve(self, slot: Slot, trial: bool) -> Finding | None:
        """Answer with what a slot holds from the next input on; a finding when that is impossible."""
        slots = self._ties.slots()
        held = slots.held[slot]
        opened = self.open
        if opened is not None and (opened.serving.bundle, opened.trial) == (held.bundle, trial):
            return None
        try:
            # of a key that is retired since, too: it was verified when it was installed
            verified = installer.verify_slot(self._home, slot, self._ties.trusted().ever, held.bundle)
        except NoMemory:  # ends the agent, and the next start tries again: the slot is not at fault
            raise
        except ContractError as error:
            damaged = isinstance(error, DigestMismatch | BundleInvalid | FormatInvalid)
            return self._not_served(slot, error.code, str(error), damaged)
        prune(self._store, {what.bundle for what in slots.held.values()})
        subject = Subject(slot, held.bundle, self._home.slot(slot), verified.manifest, held.choice, trial)
        outcome = self._warden.begin(subject)
        if outcome.event is Event.PASSED:
            self._improve(held.choice)
            return None
        return self._not_served(slot, outcome.code, outcome.detail, outcome.code == DAMAGED)

    def serve_nothing(self, why: str = "") -> None:
        """Answer no more: there is nothing to answer with, or the agent ends.

        Args:
            why: What to say to those who ask for answers, where there is more to say.
        """
        self._warden.forget()
        self._switch(None, f"no model answers on this device: {why}" if why else NO_MODEL)

    def confirmed(self) -> None:
        """What was on trial is not any more."""
        if self.open is not None:
            self.open = replace(self.open, trial=False)
            self._warden.confirmed()
            self._improve(self.open.serving.session.choice)

    def tick(self, now_s: float) -> None:
        """Do what is due: golden inputs, what the ladder waits for, what is in quarantine."""
        outcome = self._gate.tick(now_s)
        if outcome is not None and self.open is not None:
            log.info("golden inputs", extra={"result": outcome.event, "detail": outcome.detail})
            if outcome.event is not Event.PASSED:
                self._disagreed(self.open, outcome)
        self._warden.tick(now_s)
        self._retrials.tick(now_s)

    # --- what the warden asks for

    def try_to_serve(self, subject: Subject, choice: Choice) -> Outcome:
        """Open a bundle, ask its golden inputs, and answer with it when they agree."""
        self._ties.alive()
        if self.open is not None and _is_same(self.open.serving.session.choice.option, choice.option):
            self._engine.suspend()  # an accelerator belongs to one process at a time
        isolate = self._terms.isolate or None
        try:
            session = Session.open(subject.folder, subject.manifest, choice, self._terms.threads, isolate)
        except (AgentError, ContractError) as error:
            return Outcome(Event.LOST, error.code, str(error))
        watch = Watch(session, self._report, self._suspects)
        serving = Serving.begin(subject.bundle, session, subject.trial, watch=watch)
        outcome = ask_all(serving, subject.folder)
        if outcome.event is not Event.PASSED:
            log.error("bundle not switched on", extra={"code": outcome.code, "reason": outcome.detail})
            session.close()
            return outcome
        self._switch(Open(subject.slot, serving, monotonic(), subject.trial))
        return outcome

    def last_good(self) -> Subject | None:
        """The bundle before, if there is one that verifies."""
        slots = self._ties.slots()
        slot, digest = slots.last_good, slots.bundle_in(slots.last_good)
        if slot is None or digest is None:
            return None
        try:
            verified = installer.verify_slot(self._home, slot, self._ties.trusted().ever, digest)
        except ContractError as error:
            log.error("last good bundle cannot be served", extra={"slot": slot, "reason": str(error)})
            return None
        choice = slots.held[slot].choice
        return Subject(slot, digest, self._home.slot(slot), verified.manifest, choice, False)

    def abstain(self, reason: str) -> None:
        """Answer no more, and say why."""
        self._switch(None, reason)

    def damaged(self, slot: Slot, detail: str) -> None:
        """What a slot holds does not verify any more."""
        self._ties.damaged(Fact(slot=slot, code=DAMAGED, detail=detail))

    def tell(self, tell: Tell) -> None:
        """Put an event into the telemetry."""
        self._ties.tell(tell)

    def _improve(self, choice: Choice | None) -> None:
        if choice is not None and choice.fallback:
            self._retrials.improve()  # waits until what is on trial has passed it

    # --- what goes wrong

    def _report(self, trouble: Trouble) -> None:
        """Called in the inference thread."""
        self._ties.later(lambda: self._troubled(trouble))

    def _troubled(self, trouble: Trouble) -> None:
        opened = self.open
        if opened is None or opened.serving.session is not trouble.session:
            return  # another model answers by now
        if not opened.trial:
            self._warden.troubled(trouble)
        elif trouble.event is not Event.ERROR:
            self.open = replace(opened, fault=Finding(Verdict.UNHEALTHY, trouble.code, trouble.detail))

    def _disagreed(self, opened: Open, outcome: Outcome) -> None:
        self.tell(Tell("golden-mismatch", opened.serving.bundle, None, outcome.code, outcome.detail))
        if opened.trial:
            self.open = replace(opened, golden_agrees=False)
        else:
            self._warden.disagreed(outcome)

    def _not_served(self, slot: Slot, code: str, detail: str, damaged: bool) -> Finding:
        log.error("bundle cannot be served", extra={"slot": slot, "code": code, "reason": detail})
        if self.open is not None and self.open.slot is slot:
            self._switch(None)
        return Finding(Verdict.UNHEALTHY, updater.DAMAGED if damaged else code, detail)

    def _switch(self, opened: Open | None, why_none: str = NO_MODEL) -> None:
        self.open = opened
        serving = opened.serving if opened is not None else None
        last = self._engine.switch(serving, why_none)
        if last is not None:
            self._ties.keep(last)
        folder = self._home.slot(opened.slot) if opened is not None else self._home.folder
        self._gate.opened(serving, folder, monotonic())

    def _probe(self, subject: Subject, out: Mapping[Option, str]) -> TrialReport:
        """Try a bundle in a child with some options left out; also runs in the prober's thread."""
        terms = self._terms
        return run_trial(subject.folder, subject.manifest, terms.limits, terms.threads, barred=lambda _: out)


def _is_same(one: Option, other: Option) -> bool:
    """Whether both need the same accelerator."""
    return one.device != CPU and (one.runtime, one.device) == (other.runtime, other.device)
