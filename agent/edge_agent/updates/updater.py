"""Driving the slots: from an assignment or a file to a confirmed bundle, or back.

Every change goes the same way (`advance`): step, store, act. Long work runs in the worker; what it
finds comes back as the next event. What "serve" means is the agent's business.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from random import Random
from time import monotonic

from edge_agent.device.config import DeviceConfig
from edge_agent.device.home import Home, discard
from edge_agent.errors import AgentError, HomeInvalid, NoSpace
from edge_agent.updates import installer
from edge_agent.updates.assignment import Ignore, Keep, Refuse, Reuse, Satisfied, decide, is_news
from edge_agent.updates.budget import DataMeter, DataRules
from edge_agent.updates.fetching import Fetching, Ties
from edge_agent.updates.health import Finding, Verdict
from edge_agent.updates.kept import revoked_signer, still_good
from edge_agent.updates.slots import (
    Check,
    Erase,
    Event,
    Fact,
    Held,
    Phase,
    Serve,
    Slot,
    Slots,
    Tell,
)
from edge_agent.updates.store import Store
from edge_agent.updates.surroundings import Barred, Host, Jobs, Shadows
from edge_agent.updates.transitions import beginning, step
from edge_agent.updates.trial import TrialReport, check_limits, run_trial
from edge_agent.updates.unstored import Unstored, meanwhile
from edge_agent.updates.withdrawing import is_newer, next_parting, require_standing
from edge_contracts.bundle import Bundle
from edge_contracts.errors import ContractError
from edge_contracts.keys import TrustedKeys
from edge_contracts.messages import FINAL_PHASES, Assignment
from edge_contracts.withdrawal import Withdrawn

log = logging.getLogger(__name__)


class Updater:
    """The one that changes the slots; used from the agent's thread alone.

    Args:
        config: None on a device without a fleet: its checks have no bounds but the bundle's.
        downloads: When they may run, and how much they may fetch.
        barred: The ways to run a bundle that a check must not take, with reasons.
        shadows: Where assigned shadows lie; None where none can come.
    """

    def __init__(
        self,
        home: Home,
        store: Store,
        config: DeviceConfig | None,
        trusted: TrustedKeys,
        host: Host,
        worker: Jobs,
        random: Random,
        threads: int = 1,
        downloads: DataRules | None = None,
        barred: Barred | None = None,
        shadows: Shadows | None = None,
    ) -> None:
        """Take the parts; `start` does the first step."""
        self._home, self._store, self._config, self._trusted = home, store, config, trusted
        self._host, self._worker, self._random, self._threads = host, worker, random, threads
        self._barred = barred
        self._events: deque[tuple[Event, Fact]] = deque()
        self._acting = False
        self._unstored = Unstored()
        self._to_place: list[tuple[Bundle, Held, Path | None]] = []
        meter = DataMeter(home.data_used, downloads or DataRules())
        ties = Ties(worker, random, lambda: self.slots, lambda: self._trusted, self.advance, self.stage)
        self._fetching = Fetching(home, config, meter, shadows, barred, ties)

    @property
    def slots(self) -> Slots:
        """Where the device stands."""
        return self._store.slots

    def start(self) -> None:
        """Take up what was left, whatever ended the agent before."""
        for slot in list(self.slots.held):
            if slot is self.slots.candidate or slot is self.slots.active:
                continue  # the check reads the one, `serve` the other
            if slot not in self.slots.held:
                continue  # it was served in place of one that is damaged, and is damaged too
            try:
                installer.verify_slot(self._home, slot, self._trusted.ever, self.slots.bundle_in(slot))
            except ContractError as error:
                self.advance(Event.DAMAGED, Fact(slot=slot, code=error.code, detail=str(error)))
            except HomeInvalid as error:  # its key is missing, and may come back
                log.error("slot cannot be read", extra={"slot": slot, "reason": str(error)})
        self._part_from_withdrawn()
        self.advance(*beginning(self.slots))
        self._part_from_revoked()

    def stop(self) -> None:
        """Put away what is under way, so that the next start can take it up."""
        self._worker.cancel()
        self.advance(Event.STOPPED)

    def advance(self, event: Event, fact: Fact | None = None) -> None:
        """Step, store, act; and again for what comes of acting.

        An event that cannot be stored has not happened: it waits and is tried again (`tick`).
        """
        self._events.append((event, fact or Fact()))
        if not self._acting:  # else the loop that is acting takes it up
            self._drain()

    @property
    def is_busy(self) -> bool:
        """Whether an update is under way, or about to be."""
        return self._worker.busy or self._fetching.waits or self.slots.phase is not Phase.IDLE

    def trust(self, trusted: TrustedKeys) -> None:
        """Go by other publishers' keys from now on, for what is here already, too."""
        self._trusted = trusted
        self._part_from_revoked()

    @property
    def is_stuck(self) -> bool:
        """Whether an event waits because the disk does not take it; nothing else is begun then."""
        return bool(self._events)

    @property
    def reported(self) -> Slots:
        """The same as the fleet is told it: an assignment may wait for the disk."""
        return self._unstored.reported(self.slots)

    def tick(self, now_s: float) -> None:
        """Try again what is due."""
        if self._events and self._unstored.is_due(now_s):
            self._drain()
        self._part_from_withdrawn()
        if not self.is_stuck:
            self._fetching.tick(now_s)

    def _drain(self) -> None:
        self._acting = True
        try:
            while self._events:
                event, fact = self._events[0]
                slots, actions = step(self.slots, event, fact)
                try:
                    self._store.save(slots)
                except HomeInvalid as error:
                    self._cannot_store(event, str(error))
                    return
                mended = self._unstored.mended(monotonic())
                if mended is not None:
                    self._host.tell(mended)
                log.info("slots", extra={"event": event, "phase": slots.phase, "code": fact.code})
                for action in actions:
                    self._act(action)
                self._events.popleft()
                if event is Event.STAGING and self._to_place:
                    self._place()
                self._host.changed()
        finally:
            self._acting = False

    def _cannot_store(self, event: Event, reason: str) -> None:
        """Say so once, and answer with what a start from the state on the disk would answer with."""
        ahead = meanwhile(self.slots, self._events)
        if self._unstored.failed(reason, monotonic()):
            log.error("state not stored", extra={"event": event, "reason": reason})
            self._host.changed()
        if ahead is not None and ahead.active is not None and ahead.active is not self._unstored.serves:
            self._unstored.serves = ahead.active
            self._host.serve(ahead.active)

    def assigned(self, assignment: Assignment, now_ms: int, era: int = 0) -> None:
        """Take note of an assignment that the director signed for this device.

        Args:
            era: How often a publisher has said who directs.
        """
        if self.is_stuck:
            return  # the server says it again
        if is_news(assignment, self.slots, era):
            self._worker.cancel()
            self._fetching.begin_anew()
            anew = assignment.withdrawn if era != self.slots.era else None
            self.advance(Event.ASSIGNED, Fact(number=assignment.number, era=era, withdrawn=anew))
            self._part_from_withdrawn()
        if self._brings_withdrawn(assignment):
            self._worker.cancel()
            self._fetching.call_off()
        busy = self._worker.busy or self._fetching.waits or self.is_stuck
        decision = decide(assignment, self.slots, now_ms, busy)
        if isinstance(decision, Ignore):
            log.debug("assignment ignored", extra={"number": assignment.number, "reason": decision.reason})
        elif isinstance(decision, Keep):
            self.advance(Event.KEPT)
        elif isinstance(decision, Refuse):
            self.advance(Event.REFUSED, Fact(code=decision.code, detail=decision.detail))
        elif isinstance(decision, Satisfied):
            self.advance(Event.SATISFIED, Fact(held=decision.held))
        elif isinstance(decision, Reuse) and still_good(self._home, decision, self._trusted):
            self.advance(Event.STAGED, Fact(held=decision.held))
        else:
            self.advance(Event.DOWNLOADING)
            if not self.is_stuck:
                self._fetching.fetch(assignment, decision.held)

    def withdraw(self, word: Withdrawn, era: int = 0) -> None:
        """Part from what the fleet has withdrawn: stored first, then done, whatever is under way."""
        if era != self.slots.era:
            return  # of a director that a publisher has named since: `assigned` takes it with the number
        if self.is_stuck or not is_newer(word, self.slots):
            return  # the server says it again until it reads that it was stored
        self.advance(Event.BARRED, Fact(withdrawn=word))
        self._part_from_withdrawn()

    def judged(self, finding: Finding) -> None:
        """The health of the bundle on trial is known."""
        if finding.verdict is Verdict.HEALTHY:
            self.advance(Event.HEALTHY)
        elif finding.verdict is Verdict.UNHEALTHY:
            self.advance(Event.UNHEALTHY, Fact(code=finding.code, detail=finding.detail))

    def give_up(self, finding: Finding) -> None:
        """Store that the trial has failed and tell it, but do nothing: for a process that hangs in its model.

        Raises:
            HomeInvalid: It cannot be stored; the next start finds an unfinished trial, and goes back too.
        """
        fact = Fact(code=finding.code, detail=finding.detail)
        slots, actions = step(self.slots, Event.UNHEALTHY, fact)
        self._store.save(slots)
        for action in actions:
            if isinstance(action, Tell):
                self._host.tell(action)

    def stage(self, bundle: Bundle, held: Held, archive: Path | None = None) -> None:
        """Bring a verified bundle into the spare slot and check it there.

        Args:
            archive: To be removed when it is unpacked.
        """
        self._to_place = [(bundle, held, archive)]
        self.advance(Event.STAGING)

    def _place(self) -> None:
        """The state is stored by which the spare slot may be touched."""
        (bundle, held, archive), spare = self._to_place.pop(), self.slots.spare
        self._worker.begin(
            lambda _: installer.place(self._home, bundle, spare),
            lambda future: self._placed(future, held, archive),
        )

    def _part_from_withdrawn(self) -> None:
        """See that nothing withdrawn answers, is tried or kept."""
        while not self.is_stuck and (parting := next_parting(self.slots)) is not None:
            if parting[0] is Event.CHECK_FAILED:
                self._worker.cancel()
            self.advance(*parting)

    def _brings_withdrawn(self, assignment: Assignment) -> bool:
        """Whether the assignment that is being worked on names a withdrawn bundle."""
        told = self.slots.progress
        is_open = told is not None and told.assignment == assignment.number and told.phase not in FINAL_PHASES
        return is_open and self.slots.is_withdrawn(assignment.bundle)

    def _part_from_revoked(self) -> None:
        """See that nothing of a revoked key is tried or kept, nor answers while there is something else.

        With nothing else it goes on answering, and says so, unless the revocation says stop: a device
        that is silent helps nobody, and who may revoke keys must not switch fleets off by accident.
        """
        slots = self.slots
        first_to_go = (slots.candidate, slots.last_good, slots.spare, slots.active)
        for slot in dict.fromkeys(slot for slot in first_to_go if slot is not None):
            if self.is_stuck or slot not in self.slots.held:
                continue
            key = revoked_signer(self._home, slot, self._trusted, self.slots.bundle_in(slot))
            if key is None:
                continue
            why = f"its publisher's key {key} is revoked"
            fact = Fact(slot=slot, code=KEY_REVOKED, detail=why)
            if slot is self.slots.candidate:
                self._worker.cancel()
                on_trial = self.slots.phase is Phase.TRIAL
                self.advance(Event.UNHEALTHY if on_trial else Event.CHECK_FAILED, fact)
            elif slot is not self.slots.active or self.slots.last_good or key in self._trusted.stopped:
                self.advance(Event.DAMAGED, fact)
            else:
                goes_on = f"{why}; nothing else is here, so it goes on answering"
                self._host.tell(Tell("revoked-runs", self.slots.bundle_in(slot), None, KEY_REVOKED, goes_on))

    def bring(
        self,
        work: Callable[[], tuple[Bundle, Held]],
        refused: Callable[[AgentError | ContractError], None],
    ) -> None:
        """Open a bundle in the worker, then stage it; what is wrong with it goes to `refused`."""

        def brought(future: Future[tuple[Bundle, Held]]) -> None:
            try:
                bundle, held = future.result()
            except (AgentError, ContractError) as error:
                refused(error)
            else:
                self.stage(bundle, held)

        self._worker.begin(lambda _: work(), brought)

    def _act(self, action: Serve | Check | Erase | Tell) -> None:
        if isinstance(action, Serve):
            fault = self._host.serve(action.slot)
            if fault is not None and action.slot is not None:
                self._cannot_serve(action.slot, fault)
        elif isinstance(action, Check):
            self._check(action.slot)
        elif isinstance(action, Erase):
            try:
                installer.erase(self._home, action.slot)
            except OSError as error:  # it does not count as held any more, and is erased before it is written
                log.error("slot not erased", extra={"slot": action.slot, "reason": str(error)})
        else:
            self._host.tell(action)

    def _cannot_serve(self, slot: Slot, fault: Finding) -> None:
        if self.slots.phase is Phase.TRIAL and slot is self.slots.candidate:
            self._events.append((Event.UNHEALTHY, Fact(code=fault.code, detail=fault.detail)))
        elif fault.code == DAMAGED:
            self._events.append((Event.DAMAGED, Fact(slot=slot, detail=fault.detail)))
        # otherwise the content is right but nothing here runs it (a runtime was removed): it is kept

    def shadow_stopped(self, code: str, detail: str) -> None:
        """The assigned shadow runs no longer."""
        self.advance(Event.SHADOW_STOPPED, Fact(code=code, detail=detail))

    def _placed(self, future: Future[None], held: Held, archive: Path | None) -> None:
        failed = future.exception()
        if isinstance(failed, HomeInvalid | NoSpace) and held.assignment is not None:
            self._fetching.disk_failed(failed)  # the archive stays: it is paid for
            return
        if archive is not None:
            discard(archive)
        try:
            future.result()
            require_standing(self.slots, held.bundle)  # it may have been withdrawn meanwhile
        except AgentError as error:
            if held.assignment is not None:
                self.advance(Event.REFUSED, Fact(code=error.code, detail=str(error)))
            else:
                self._host.tell(Tell("refused", held.bundle, None, error.code, str(error)))
        else:
            self.advance(Event.STAGED, Fact(held=held))

    def _check(self, slot: Slot) -> None:
        profile = self._config.profile if self._config is not None else None
        digest = self.slots.bundle_in(slot)

        def work(_: Callable[[], bool]) -> TrialReport:
            verified = installer.verify_slot(self._home, slot, self._trusted, digest)
            barred = partial(self._barred, bundle=verified.digest) if self._barred is not None else None
            limits = check_limits(profile)
            return run_trial(self._home.slot(slot), verified.manifest, limits, self._threads, barred=barred)

        self._worker.begin(work, self._checked)

    def _checked(self, future: Future[TrialReport]) -> None:
        try:
            report = future.result()
        except (AgentError, ContractError) as error:
            self.advance(Event.CHECK_FAILED, Fact(code=error.code, detail=str(error)))
            return
        log.info(
            "bundle checked",
            extra={
                "option": str(report.choice.option),
                "golden": f"{report.golden.agree}/{report.golden.total}",
                "latency_p95_ms": round(report.latency_p95_ms, 3),
            },
        )
        candidate = self.slots.held.get(self.slots.candidate) if self.slots.candidate is not None else None
        waits = candidate is not None and candidate.hold
        self.advance(Event.READIED if waits else Event.CHECKED, Fact(choice=report.choice))


DAMAGED = "damaged"
KEY_REVOKED = "key-revoked"
