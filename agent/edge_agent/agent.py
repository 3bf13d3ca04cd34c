"""The daemon: one thread that owns the state and wakes for messages, finished work and timers.

Inference has its own thread (`engine.py`) and stops for nothing that happens here; the broker's
network thread (`mqtt.py`) and the worker only put things into this thread's queue.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from random import Random
from time import monotonic, time
from types import FrameType
from typing import TYPE_CHECKING

from edge_agent.allegiance import Allegiance
from edge_agent.device.certificate import ClientCertificate
from edge_agent.device.home import Home
from edge_agent.device.service import Service
from edge_agent.device.succession import Succession
from edge_agent.device.unused_memory import give_back
from edge_agent.doubt.keeper import Keeper
from edge_agent.doubt.lineup import Settled
from edge_agent.doubt.ordered import OrderedShadows
from edge_agent.doubt.outbound import Sender
from edge_agent.drift.watch import DriftWatch
from edge_agent.errors import ModelHung, NotEnrolled
from edge_agent.guard.steward import Steward, Terms, Ties
from edge_agent.inbox import Inbox, Item
from edge_agent.inference.engine import Engine
from edge_agent.inference.source import Sample, Source
from edge_agent.known_by import KnownBy, rotate
from edge_agent.settings import Settings
from edge_agent.snapshot import agent_version, device_state, facts
from edge_agent.telemetry.curtain import raise_curtain
from edge_agent.telemetry.mqtt import Link, LinkDown, LinkUp
from edge_agent.telemetry.witness import Facts, Witness
from edge_agent.updates.health import HANG, STUCK_S, Finding, Verdict, Vitals, judge
from edge_agent.updates.installer import salvage
from edge_agent.updates.media import Media
from edge_agent.updates.order_counter import OrderCounter
from edge_agent.updates.slots import Event, Phase, Slot, Tell
from edge_agent.updates.store import Store, rebuilt
from edge_agent.updates.trial import check_limits
from edge_agent.updates.updater import Updater
from edge_agent.worker import Done, Worker
from edge_contracts import messages
from edge_contracts.messages import DeviceState, Record
from edge_contracts.topics import Channel

if TYPE_CHECKING:
    from edge_agent.telemetry.outbox import Outbox
    from edge_agent.telemetry.reporter import Reporter

log = logging.getLogger(__name__)

TICK_S = 0.25
DRAIN_S = 10.0  # at a stop, how long to wait for the server's last ack: twice what one resend may take


class Agent:
    """One device. The caller holds the home's lock.

    Args:
        source: Where inputs come from, None to answer none.
        answered: Called in the inference thread with each answer.
        service: Who is told that the agent works.

    Attributes:
        feedback: Takes labels of answered requests, from any thread: `feedback(request_id, label)`.
    """

    def __init__(
        self,
        home: Home,
        settings: Settings,
        source: Source | None = None,
        answered: Callable[[Settled, Sample], None] | None = None,
        random: Random | None = None,
        service: Service | None = None,
    ) -> None:
        """Read the state and put the parts together; nothing runs yet.

        Raises:
            HomeInvalid: A file of the home cannot be used.
            NotEnrolled: The device belongs to no fleet and holds no bundle: there is nothing to do.
        """
        home.make()
        self._home, self._settings, self._service = home, settings, service or Service()
        self._random = random or Random()
        self._allegiance = Allegiance(home, self.tell, self._keys_changed)
        config = self._allegiance.config
        self._store = Store(home)
        if config is None and not self._store.slots.held and not self._store.lost:
            raise NotEnrolled(
                f"no device is enrolled in {home.folder} and no bundle is installed; "
                "run edge-agent enroll, or edge-agent install, first"
            )
        self._inbox = Inbox()
        self._worker = Worker(self._inbox.put)
        self._keeper = Keeper(home, lambda: self._allegiance.trusted, self.tell, self._keep, settings.threads)
        self.feedback = self._keeper.feedback
        self._engine = Engine(source, answered, settings.requests, lineup=self._keeper.lineup)
        limits = check_limits(config.profile if config is not None else None)
        self._steward = Steward(
            home,
            self._engine,
            Ties(
                lambda: self._updater.slots,
                lambda: self._allegiance.trusted,
                lambda fact: self._updater.advance(Event.DAMAGED, fact),
                self._keep,
                self.tell,
                self._inbox.put,
                lambda: self._service.alive(monotonic()),
            ),
            Terms(settings.threads, settings.isolate, settings.golden_s, limits),
            self._random,
        )
        self._updater = Updater(
            home,
            self._store,
            config,
            self._allegiance.trusted,
            self,
            self._worker,
            self._random,
            settings.threads,
            settings.downloads,
            self._steward.barred,
            OrderedShadows(home),
        )
        self._keeper.gave_up = self._updater.shadow_stopped
        self._counter = OrderCounter(
            home,
            config,
            self._updater,
            self._allegiance.refresh,
            self.feedback,
            self._steward.lift,
            lambda: rotate(self._known_by),
        )
        self._watch = DriftWatch(home, self.tell, settings.drift_alarms)
        self._media = Media(settings.media, home, config, self._updater, self._allegiance.follow, self.tell)
        self._stopping = False
        self._link: Link | None = None
        self._reporter: Reporter | None = None
        self._known_by: KnownBy | None = None
        self._curtain = raise_curtain(home, settings.reporting)
        self.witness = Witness(
            home,
            settings.reporting,
            agent_version(),
            config.device if config is not None else None,
            config.fleet if config is not None else None,
            self._facts,
        )
        key = self._allegiance.key
        if config is not None and key is not None:
            from edge_agent.telemetry.reporter import Reporter  # SQLite: a megabyte, only in a fleet

            self._keeper.sender = Sender.of(config, key)
            certificate = ClientCertificate(home, config)
            self._link = Link(config, self._inbox.hear, self._random, certificate)
            terms = (settings.hello_s, settings.limits, settings.reporting.durability)
            self._reporter = Reporter(home, config, key, self._link, self._describe, self._random, *terms)
            who = (self._allegiance, self._keeper, self._link, self._reporter, self.tell)
            self._known_by = KnownBy(Succession(home, config, key), *who)

    @property
    def engine(self) -> Engine:
        """What answers; requests can be submitted to it from any thread."""
        return self._engine

    def run(self) -> None:
        """Work until `stop`, or until all inputs are answered (`Settings.settled_s`).

        Raises:
            ModelHung: An inference does not end, and nothing can be switched in this process any more.
        """
        self._begin()
        self._service.ready()
        try:
            self._work()
        except ModelHung as error:
            if not self._steward.is_on_trial:
                raise
            self._updater.give_up(Finding(Verdict.UNHEALTHY, HANG, str(error)))
            raise ModelHung(f"the model on trial hangs: {error}; the next start goes back") from None
        self._end()

    def _work(self) -> None:
        next_window_s = monotonic() + self._settings.window_s
        while not self._stopping:
            for item in self._inbox.take(TICK_S):
                self._happened(item)
            now_s = monotonic()
            if self._engine.has_died:
                raise RuntimeError("the inference thread has died")
            if self._engine.busy_s(now_s) < STUCK_S:
                self._service.alive(now_s)
            if now_s >= next_window_s:
                next_window_s = max(next_window_s + self._settings.window_s, now_s)
                self._cut_window()
            self._judge_trial(now_s)
            self._steward.tick(now_s)
            self._updater.tick(now_s)
            self._counter.serve()
            self._media.tick(now_s, self._allegiance.trusted)
            self._keeper.tick(now_s, self._engine, self._updater.slots)
            if self._reporter is not None:
                self._reporter.tick(now_s)
            if self._known_by is not None:
                self._known_by.tick(now_s)
            self.witness.tick(now_s)
            if self._is_done(now_s):
                break

    def stop(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """End `run` in good order; may be called from a signal handler."""
        self._stopping = True

    def stop_on_signals(self) -> None:
        """End in good order on SIGTERM and SIGINT."""
        signal.signal(signal.SIGTERM, self.stop)
        signal.signal(signal.SIGINT, self.stop)

    def serve(self, slot: Slot | None) -> Finding | None:
        """Answer with what a slot holds from the next input on; what is gone back to is not on trial."""
        slots = self._updater.slots
        if slot is None or slots.bundle_in(slot) is None:
            self._steward.serve_nothing(slots.emptied)
            return None
        finding = self._steward.serve(slot, slots.phase is Phase.TRIAL and slot is slots.candidate)
        give_back()
        return finding

    def tell(self, tell: Tell) -> None:
        """Put an event into the telemetry."""
        self._counter.tell(tell)
        self._media.happened(tell)
        said = {"bundle": tell.bundle, "assignment": tell.assignment, "code": tell.code}
        log.info(tell.event, extra={**said, "detail": tell.detail})
        self._keep(
            messages.Event(
                name=tell.event,
                time_ms=_now_ms(),
                bundle=tell.bundle,
                assignment=tell.assignment,
                code=tell.code[:64],
                detail=tell.detail[:500],
            )
        )

    def changed(self) -> None:
        """Say at once where the device stands now."""
        opened = self._steward.open
        if opened is not None and opened.trial and self._updater.slots.phase is Phase.IDLE:
            self._steward.confirmed()
            self._cut_window()
        if self._reporter is not None:
            self._reporter.status()

    def _begin(self) -> None:
        if self._store.lost:
            self._store.save(rebuilt(salvage(self._home, self._allegiance.trusted)))
            self.tell(Tell("state-rebuilt", detail=self._store.lost))
        outbox_lost = self._reporter.outbox.lost if self._reporter is not None else ""
        mended = [("identity-mended", line) for line in self._allegiance.mended]
        for event, why in (*mended, ("guard-lost", self._steward.lost), ("outbox-lost", outbox_lost)):
            if why:
                self.tell(Tell(event, detail=why))
        self.tell(Tell("started", detail=f"edge-agent {agent_version()}"))
        self._allegiance.warn()
        self._engine.start()
        if self._link is not None:
            self._link.start()
        self._updater.start()
        self.witness.start()

    def _end(self) -> None:
        """Stop answering, keep what was counted, and give the server a moment to acknowledge it."""
        log.info("stopping")
        self._service.stopping()
        self._updater.stop()
        self._engine.stop()
        self._keep(*self._keeper.windows(self._engine))
        self._keeper.stop(self._engine)
        self.witness.stop()
        self._steward.serve_nothing()
        self._watch.store(monotonic())
        if self._reporter is not None and self._link is not None:
            deadline_s = monotonic() + DRAIN_S
            self._reporter.send_again(monotonic())
            while self._link.is_up and len(self._reporter.outbox) and monotonic() < deadline_s:
                self._reporter.tick(monotonic())
                for item in self._inbox.take(TICK_S):
                    self._happened(item)
            self._link.stop()
            self._reporter.close()

    def _happened(self, item: Item) -> None:
        reporter, now_s = self._reporter, monotonic()
        if callable(item):
            item()
        elif isinstance(item, Done):
            self._worker.finish(item)
        elif reporter is None:
            raise AssertionError("a message without a fleet")
        elif isinstance(item, LinkUp):
            reporter.link_up(now_s)
        elif isinstance(item, LinkDown):
            reporter.link_down(item.reason, item.refused)
        elif item.channel is Channel.ACK:
            reporter.acknowledged(item.payload, now_s)
        else:
            self._assigned(item.payload)

    def _assigned(self, payload: bytes) -> None:
        assignment = self._allegiance.read(payload)
        if assignment is None or self._reporter is None:
            return
        self._reporter.heard(monotonic())
        if self._known_by is not None:
            self._known_by.heard(assignment)
        if assignment.withdrawn is not None and not self._stopping:
            self._updater.withdraw(assignment.withdrawn, self._allegiance.era)
        if not self._stopping:
            self._updater.assigned(assignment, _now_ms(), self._allegiance.era)

    def _keys_changed(self) -> None:
        config = self._allegiance.config
        if config is not None and self._reporter is not None:
            self._reporter.obey(config.director, monotonic())
        self._updater.trust(self._allegiance.trusted)

    def _judge_trial(self, now_s: float) -> None:
        opened = self._steward.open
        if opened is None or not opened.trial or self._updater.is_stuck:
            return
        if opened.fault is not None:
            self._updater.judged(opened.fault)
            return
        totals = self._engine.totals
        vitals = Vitals(
            now_s - opened.since_s,
            totals.answered,
            totals.failed,
            totals.refused,
            opened.golden_agrees,
            self._engine.busy_s(now_s),
        )
        allowed = opened.serving.session.manifest.gates.max_error_rate
        finding = judge(vitals, self._settings.health, allowed)
        if finding.code == HANG:
            raise ModelHung(finding.detail)
        self._updater.judged(finding)

    def _cut_window(self) -> None:
        window = self._engine.cut(self._steward.is_on_trial)
        active = [] if window is None else [window]
        self._keep(*active, *self._keeper.windows(self._engine))

    def _keep(self, *records: Record) -> None:
        """Put records into the telemetry: all of them for one wait for the disk."""
        let_out: list[Record] = []
        for record in records:
            if isinstance(record, messages.Window):
                opened = self._steward.open
                record = self._watch.judged(record, None if opened is None else opened.serving, monotonic())
            self.witness.take(record)  # before the curtain: what is shown here is exact
            let_out += [record] if self._curtain is None else self._curtain.let_out(record)
        if self._reporter is not None:
            self._reporter.keep(let_out)

    def _describe(self, kind: str, outbox: Outbox) -> DeviceState:
        """Where the device stands, as hello and status say it."""
        config, now_ms = self._allegiance.config, _now_ms()
        if config is None:
            raise AssertionError("a snapshot without a fleet")
        n = self._store.next_snapshot(now_ms)
        told = self._known_by.told(kind) if self._known_by is not None else None
        return device_state(kind, config, n, outbox, self._updater.reported, self._steward.open, now_ms, told)

    def _facts(self) -> Facts:
        return facts(self._steward.open, self._link, self._reporter, monotonic(), _now_ms())

    def _is_done(self, now_s: float) -> bool:
        return (
            self._settings.settled_s is not None
            and self._engine.idle_s(now_s) > self._settings.settled_s
            and self._updater.slots.phase is Phase.IDLE
            and not self._worker.busy
        )


def _now_ms() -> int:
    return int(time() * 1000)
