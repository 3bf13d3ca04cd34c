"""A thread for work that takes long: downloads, unpacking, checks. One job at a time.

Only the newest job counts: what an older one finds is dropped, so that nothing comes out of work that
the server has called off. The thread is a daemon: a stop of the agent does not wait for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any

CalledOff = Callable[[], bool]
Work = Callable[[CalledOff], Any]
Then = Callable[[Future[Any]], None]


@dataclass(frozen=True)
class Done:
    """A job has ended; `finish` runs what was to follow, in the thread that calls it."""

    serial: int
    future: Future[Any]
    then: Then


class Worker:
    """The thread.

    Args:
        finished: Called in the worker's thread when a job ends; must not wait.
    """

    def __init__(self, finished: Callable[[Done], None]) -> None:
        """Take the callback; the thread starts with the first job."""
        self._finished = finished
        self._jobs: SimpleQueue[
            tuple[int, Callable[[Callable[[], bool]], Any], Callable[[Future[Any]], None]]
        ]
        self._jobs = SimpleQueue()
        self._serial = 0
        self._busy = False
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether a job that counts is waiting or running."""
        return self._busy

    def begin(self, work: Work, then: Then) -> None:
        """Start a job; what went before counts no longer.

        Args:
            work: Runs in the worker's thread; gets a question to ask now and then: am I called off?
            then: Runs in the agent's thread, through `finish`, with the result or the error.
        """
        self._serial += 1
        self._busy = True
        self._jobs.put((self._serial, work, then))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="worker", daemon=True)
            self._thread.start()

    def cancel(self) -> None:
        """Call off what waits or runs."""
        self._serial += 1
        self._busy = False

    def finish(self, done: Done) -> None:
        """Go on after a job, unless it was called off meanwhile."""
        if done.serial == self._serial:
            self._busy = False
            done.then(done.future)

    def _run(self) -> None:
        while True:
            serial, work, then = self._jobs.get()
            future: Future[Any] = Future()
            if serial == self._serial:
                try:
                    future.set_result(work(partial(self._called_off, serial)))
                except BaseException as error:  # raised again where the result is asked for
                    future.set_exception(error)
                self._finished(Done(serial, future, then))

    def _called_off(self, serial: int) -> bool:
        return serial != self._serial
