"""The inference thread: one open model answering all inputs, whatever else goes on.

It alone touches the session and its counts; while it sleeps, a client's thread may do so in its place (`ask`,
`turn.py`). Inputs come as requests of clients (`submit`) and from a source that it asks, which is one more
client in the round. The agent's thread asks it to do things between two inferences (`switch`, `cut`), or when
nothing else is to be done (`when_idle`); nothing here waits for the network, the disk or the server.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from time import monotonic
from typing import TypeVar

from edge_agent.doubt.lineup import Lineup, Members, Settled
from edge_agent.errors import AgentError, DeadlinePassed, InferenceFailed, InputRefused, ModelHung, NoModel
from edge_agent.inference.request import Reply, Request
from edge_agent.inference.request_queue import QueueLimits, RequestQueue
from edge_agent.inference.serving import Serving, Totals
from edge_agent.inference.source import Announcing, BadFile, Frame, Missed, Nothing, Sample, Source
from edge_agent.inference.turn import Turn
from edge_agent.inference.waiting import Waiting
from edge_agent.input.framing import framed
from edge_agent.updates import health
from edge_contracts.messages import Window

log = logging.getLogger(__name__)
T = TypeVar("T")

NO_MODEL = "no model is open on this device; install one, or see edge-agent status"
DIED = "the inference thread has died"
SOURCE = "source"  # the client in whose name the source asks
QUICK_S = 0.01  # a model that takes longer is the inference thread's alone: nothing is gained beside it
NO_MODEL_S = 0.5  # inputs are left where they are until there is a model to answer them


class Engine:
    """The thread.

    Args:
        source: None for a device whose inputs all come by `submit`.
        answered: Called in the inference thread with each answer to the source's inputs; must be quick.
        limits: Of the requests that may wait.
        lineup: How the models share the requests; without one the open model answers all.
    """

    def __init__(
        self,
        source: Source | None = None,
        answered: Callable[[Settled, Sample], None] | None = None,
        limits: QueueLimits | None = None,
        lineup: Lineup | None = None,
    ) -> None:
        """Take the parts; `start` runs the thread."""
        self._queue = RequestQueue(limits)
        self._source = source
        self._answered = answered
        self._lineup = lineup or Lineup()
        self._serving: Serving | None = None
        self._requests: deque[Callable[[], None]] = deque()
        self._spare: deque[tuple[float, Callable[[], None]]] = deque()  # until when it may wait
        self._no_model = NO_MODEL
        self._said = ""  # why the source's last input was not answered, by code
        self._turn = Turn()
        self._took_s: float | None = None  # by the last request that was answered
        self._is_broken = False
        self._wake = threading.Event()
        self._stopping = False
        self._idle_since_s: float | None = None
        self._busy_since_s: float | None = None
        if isinstance(source, Announcing):
            source.announce(self._wake.set)
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Answer what waits, and end."""
        self._queue.close("the agent stops")
        self._stopping = True
        self._wake.set()
        self._thread.join()

    def submit(self, request: Request) -> Future[Reply]:
        """Have a request answered in its turn. Any thread may ask; cancelling the future calls it off.

        Returns:
            What will hold the reply, or one of: InputRefused (the contract does not allow it),
            InferenceFailed (the runtime failed on it), DeadlinePassed, NoModel (it went away meanwhile).

        Raises:
            RequestRefused: At once: QueueFull, RateLimited, DeadlinePassed or NoModel.
        """
        if self._serving is None:
            raise NoModel(self._no_model)
        future = self._queue.put(request, monotonic())
        self._wake.set()
        return future

    def ask(self, request: Request, timeout_s: float) -> Reply:
        """Have a request answered and wait for it; at once and in this thread when nothing else goes on.

        Raises:
            AgentError: What `submit` raises, or what its future holds.
            DeadlinePassed: No reply within the time.
        """
        if self._took_s is not None and self._took_s < QUICK_S and self._turn.borrow():
            try:
                if self._may_go_first(request):
                    return self._answer_in_place(request)
            finally:
                self._busy_since_s = None
                self._turn.give()
                if self._is_broken:
                    self._wake.set()
        future = self.submit(request)
        try:
            return future.result(timeout_s)
        except TimeoutError:
            future.cancel()
            raise DeadlinePassed(f"no answer within {timeout_s:g} s") from None

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._queue)

    @property
    def serving(self) -> Serving | None:
        """What answers now. Its session is the inference thread's; its manifest and names are anybody's."""
        return self._serving

    @property
    def why_none(self) -> str:
        """What to tell who asks while nothing does."""
        return self._no_model

    def switch(self, serving: Serving | None, why_none: str = NO_MODEL) -> Window | None:
        """Answer with another model from the next input on; gives the last window of the one before.

        Args:
            why_none: What requests are told when there is none.
        """
        return self._between(lambda: self._switch(serving, why_none))

    def suspend(self) -> None:
        """Close the open model and let requests wait until the next `switch`."""
        self._between(self._suspend)

    def when_idle(self, work: Callable[[], T], within_s: float) -> Future[T]:
        """Have something short done when no request waits, or when that does not happen within a time."""
        future: Future[T] = Future()
        self._spare.append((monotonic() + within_s, _into(future, work)))
        self._wake.set()
        return future

    def cut(self, trial: bool) -> Window | None:
        """Close the telemetry window and open the next; None when there is no model."""
        return self._between(lambda: self._cut(trial))

    def cut_others(self) -> list[Window]:
        """Close the windows of the models beside the active one."""
        return self._between(self._lineup.cut_others)

    def change(self, members: Members) -> list[Window]:
        """Have other models beside the active one from the next input on; last windows of those gone."""
        return self._between(lambda: self._lineup.change(members))

    def between(self, work: Callable[[], T]) -> T:
        """Have something done between two inferences, and wait for it."""
        return self._between(work)

    @property
    def has_died(self) -> bool:
        """Whether the thread ended by a fault of our own."""
        return not self._stopping and self._thread.ident is not None and not self._thread.is_alive()

    def busy_s(self, now_s: float) -> float:
        """For how long the thread has been at the same thing; 0 while it waits for something to do."""
        since_s = self._busy_since_s
        return 0.0 if since_s is None else now_s - since_s

    @property
    def totals(self) -> Totals:
        """What the open model did since it was switched on."""
        serving = self._serving
        return Totals(**vars(serving.totals)) if serving is not None else Totals()

    def idle_s(self, now_s: float) -> float:
        """For how long there was no input."""
        since_s = self._idle_since_s
        return 0.0 if since_s is None else now_s - since_s

    def _between(self, work: Callable[[], T]) -> T:
        """Have something done in the inference thread, and wait for it.

        Raises:
            ModelHung: The inference that is under way does not end.
        """
        if not self._thread.is_alive():  # before the start, or after the end: nobody to disturb
            return work()
        done: Future[T] = Future()
        self._requests.append(_into(done, work))
        self._wake.set()
        while True:
            try:
                return done.result(timeout=1.0)
            except TimeoutError:
                if not self._thread.is_alive() and not done.done():
                    raise RuntimeError("the inference thread has died") from None
                stuck_s = self.busy_s(monotonic())
                if stuck_s >= health.STUCK_S:
                    raise ModelHung(f"one inference has not ended in {stuck_s:.0f} s") from None

    def _run(self) -> None:
        self._turn.take()
        try:
            while not self._stopping:
                self._busy_since_s = monotonic()
                self._work_off()
                wait_s = NO_MODEL_S
                if not self._is_held:
                    self._round()
                    wait_s = self._from_source()
                idle = wait_s > 0 and not self._queue
                if self._spare and (idle or monotonic() > self._spare[0][0]):
                    self._spare.popleft()[1]()
                elif wait_s > 0 and not self._requests and (self._is_held or not self._queue):
                    self._sleep(wait_s)
                self._wake.clear()
            while self._queue and not self._is_held:
                self._round()
            self._work_off()
        finally:  # by a fault of ours too: nobody may wait for ever for a reply
            self._queue.close(DIED)
            self._queue.refuse_all()
            self._turn.give()

    def _sleep(self, wait_s: float) -> None:
        """Wait for something to do, and let others answer meanwhile."""
        self._busy_since_s = None
        self._turn.give()
        self._wake.wait(wait_s)
        self._turn.take()
        if self._is_broken:
            raise RuntimeError(
                "a request that was answered in place of this thread failed by a fault of ours"
            )

    @property
    def _is_held(self) -> bool:
        """Whether inputs wait where they are, because the model must not go on."""
        return self._serving is not None and self._serving.watch.tripped

    def _work_off(self) -> None:
        while self._requests:
            self._requests.popleft()()

    def _round(self) -> None:
        """Answer one request of every account that has one, with one model: a switch waits for the end."""
        taken = self._queue.take_round()
        try:
            for waiting in taken:
                self._busy_since_s = monotonic()
                if waiting.future.set_running_or_notify_cancel():
                    self._reply(waiting)
        finally:
            for waiting in taken:
                if not waiting.future.done():  # by a fault of ours
                    waiting.future.set_exception(NoModel(DIED))

    def _may_go_first(self, request: Request) -> bool:
        """Whether a request need not wait for its turn, which this thread holds.

        Raises:
            RequestRefused: It may not be run at all.
        """
        serving = self._serving
        if serving is None or self._is_held or not self._thread.is_alive():
            return False
        # what runs in a child process may hang, and then its clients are told so in time
        return serving.session.child is None and self._queue.passes(request, monotonic())

    def _answer_in_place(self, request: Request) -> Reply:
        self._busy_since_s = monotonic()
        self._is_broken = True  # until it is known to be none of our faults
        try:
            reply = self._answer(request)
        except AgentError:
            self._is_broken = False
            raise
        self._is_broken = False
        return reply

    def _reply(self, waiting: Waiting) -> None:
        """Answer one request, or say why not."""
        try:
            waiting.future.set_result(self._answer(waiting.request))
        except AgentError as error:
            waiting.future.set_exception(error)

    def _answer(self, request: Request) -> Reply:
        """Have the models answer a request.

        Raises:
            AgentError: Why not.
        """
        serving = self._serving
        if serving is None:
            raise NoModel(self._no_model)
        self._idle_since_s = None
        began_s = monotonic()
        if request.deadline_s is not None and request.deadline_s <= began_s:
            late = DeadlinePassed("the request's deadline passed before its turn came; it was not run")
            self._queue.not_served(late)
            raise late
        settled = self._lineup.answer(serving, request)
        self._took_s = monotonic() - began_s
        return settled.reply()

    def _from_source(self) -> float:
        """Answer one input of the source; how long to wait before the next."""
        serving = self._serving
        if serving is None or self._source is None:
            return NO_MODEL_S
        sample = self._source.next(monotonic())
        if isinstance(sample, Nothing):
            if not sample.idle:
                self._idle_since_s = None
            elif self._idle_since_s is None and sample.wait_s > 0:
                self._idle_since_s = monotonic()
            return sample.wait_s
        self._idle_since_s = None
        if isinstance(sample, Missed):
            serving.counter.unserved(sample.reason, sample.count)
            return 0.0
        if isinstance(sample, Frame):
            sample = framed(sample, serving.session.manifest)
        if isinstance(sample, BadFile):
            log.warning("input refused", extra={"file": sample.name, "reason": sample.detail})
            serving.counter.refused(sample.code)
            return 0.0
        try:
            settled = self._lineup.answer(serving, Request(sample.inputs, SOURCE, origin=sample.origin))
        except (InputRefused, InferenceFailed) as error:
            if error.code != self._said:  # a lens that stays covered is told of once
                log.warning("input not answered", extra={"input": sample.origin, "reason": str(error)})
            self._said = error.code
            return 0.0
        self._said = ""
        if self._answered is not None:
            self._answered(settled, sample)
        return 0.0

    def _suspend(self) -> None:
        if self._serving is not None:
            self._serving.watch.tripped = True
            self._serving.session.close()

    def _switch(self, serving: Serving | None, why_none: str) -> Window | None:
        before, self._serving, self._no_model = self._serving, serving, why_none
        if before is None:
            return None
        self._count_unserved(before)
        last = self._lineup.cut(before)
        before.session.close()
        return last

    def _cut(self, trial: bool) -> Window | None:
        serving = self._serving
        if serving is None:
            return None
        self._count_unserved(serving)
        return self._lineup.cut(serving, trial)

    def _count_unserved(self, serving: Serving) -> None:
        for reason, count in self._queue.take_unserved().items():
            serving.counter.unserved(reason, count)


def _into(future: Future[T], work: Callable[[], T]) -> Callable[[], None]:
    """Work whose result or error goes into a future."""

    def request() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # handed to the thread that asked
            future.set_exception(error)

    return request
