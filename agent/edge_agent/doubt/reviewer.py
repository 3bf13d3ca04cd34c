"""Who puts inputs into the review ring: a thread of its own, so that no inference waits for a disk.

The inference thread copies one sample and goes on; when the disk is slower than the doubts come, or
more come than may be kept a minute, the rest is let go.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from queue import Full, Queue
from time import monotonic, time
from typing import Any

from numpy.typing import NDArray

from edge_agent.device.home import Home
from edge_agent.doubt.lineup import Settled
from edge_agent.doubt.ring import Bounds, Head, Reason, ReviewRing
from edge_agent.doubt.settings import ReviewSettings
from edge_agent.errors import HomeInvalid
from edge_agent.inference.request import Request
from edge_agent.inference.serving import Serving

log = logging.getLogger(__name__)

WAITING = 4  # inputs that wait for the disk
Job = tuple[Head, Mapping[str, NDArray[Any]]]


class Allowance:
    """So many a minute, a few at once. Pure: the time is an argument.

    Args:
        per_minute: The rate; also how many may come at once, up to ten.
    """

    def __init__(self, per_minute: int, now_s: float) -> None:
        """Begin with all that may come at once."""
        self._rate_per_s, self._most = per_minute / 60, float(min(per_minute, 10))
        self._left, self._at_s = self._most, now_s

    def take(self, now_s: float) -> bool:
        """Whether one more is allowed now."""
        self._left = min(self._most, self._left + max(0.0, now_s - self._at_s) * self._rate_per_s)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Reviewer:
    """The thread; `see` is for the inference thread, `keep` for any.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(
        self, ring: ReviewRing, settings: ReviewSettings, clock: Callable[[], float] = monotonic
    ) -> None:
        """Take the parts; the thread starts with the first input."""
        self.ring = ring
        self._clock = clock
        self._queue: Queue[Job | None] = Queue(WAITING)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._unkept = ""  # why the last one could not be: said once
        self._settings = settings
        self._allowance = Allowance(settings.per_minute, clock())

    @staticmethod
    def of(home: Home, settings: ReviewSettings) -> Reviewer:
        """The reviewer of a device."""
        return Reviewer(ring_of(home), settings)

    def change(self, settings: ReviewSettings) -> None:
        """Go by other settings from now on; what was kept in this minute counts on."""
        if settings.per_minute != self._settings.per_minute:
            self._allowance = Allowance(settings.per_minute, self._clock())
        self._settings = settings

    @property
    def keeps(self) -> bool:
        """Whether anything may be kept, as it is settled now."""
        return self._settings.keep

    @property
    def bounds(self) -> Bounds:
        """Of the ring, as they are settled now."""
        return Bounds(self._settings.max_bytes, self._settings.max_count)

    def see(self, request: Request, settled: Settled) -> None:
        """Keep the least sure sample of what went out as uncertain."""
        if settled.uncertain and self._settings.keep:
            confidence = settled.confidence
            row = min(range(len(confidence)), key=confidence.__getitem__) if confidence else 0
            self.keep(request.origin, settled.serving, settled, row, "uncertain")

    def keep(self, name: str, serving: Serving, settled: Settled, row: int, reason: Reason) -> bool:
        """Have one sample of an answer kept, if that many may be; the inputs are copied."""
        with self._lock:
            allowed = self._settings.keep and self._allowance.take(self._clock())
            if not allowed or self._queue.full():
                return False
        inputs = {n: values[row : row + 1].copy() for n, values in settled.answer.inputs.items()}
        head = describe(name, serving, settled, row, reason)
        try:
            self._queue.put_nowait((head, inputs))
        except Full:
            return False
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="review", daemon=True)
            self._thread.start()
        return True

    def keep_now(self, head: Head, inputs: Mapping[str, NDArray[Any]]) -> bool:
        """Keep an input at once, if that many may be; for threads that may wait for the disk.

        Raises:
            HomeInvalid: The disk is full or failed.
        """
        with self._lock:
            if not (self._settings.keep and self._allowance.take(self._clock())):
                return False
        return self.ring.keep(head, inputs, self.bounds)

    def stop(self) -> None:
        """Keep what waits, and end."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def settle(self) -> None:
        """Wait until what was handed in is on the disk."""
        self._queue.join()

    def _run(self) -> None:
        while True:
            job = self._queue.get()
            try:
                if job is None:
                    return
                self._write(*job)
            finally:
                self._queue.task_done()

    def _write(self, head: Head, inputs: Mapping[str, NDArray[Any]]) -> None:
        try:
            self.ring.keep(head, inputs, self.bounds)
        except HomeInvalid as error:
            if str(error) != self._unkept:
                log.error("input not kept for review", extra={"reason": str(error)})
            self._unkept = str(error)


def ring_of(home: Home) -> ReviewRing:
    """The review ring of a device."""
    return ReviewRing(home.folder / "review", home.folder / "review.key")


def describe(name: str, serving: Serving, settled: Settled, row: int, reason: Reason) -> Head:
    """What is known of one sample of an answer."""
    manifest = serving.session.manifest
    answer, answer_name = None, ""
    if manifest.task == "classification":
        answer = int(settled.answer.outputs[manifest.outputs[0].name][row].argmax())
        answer_name = manifest.labels[answer][:200] if answer < len(manifest.labels) else ""
    return Head(
        request=name[:300],
        time_ms=max(0, int(time() * 1000)),
        bundle=serving.bundle,
        artifact=serving.session.artifact.id,
        reason=reason,
        confidence=settled.confidence[row] if settled.confidence else None,
        answer=answer,
        answer_name=answer_name,
    )
