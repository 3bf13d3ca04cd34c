"""A source that a thread reads ahead: cameras, video files, pipes. It never holds more than a few frames.

A live stream does not wait for us: the oldest frame makes room and is counted as dropped, and when the
camera goes away it is opened again, later and later. Any other stream waits until there is room.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import monotonic

from edge_agent.errors import StreamLost
from edge_agent.inference.source import BadFile, Frame, Item, Missed, Nothing

log = logging.getLogger(__name__)

CAPACITY = 4  # frames that wait: enough for jitter, too few to grow old
FIRST_RETRY_S, LONGEST_RETRY_S = 0.5, 30.0
POLL_S = 1.0  # how often we are asked again if no arrival wakes anybody
DROPPED, LOST = "dropped", "camera-lost"


@dataclass(frozen=True)
class Stream:
    """Where frames come from.

    Args:
        name: For logs and origins; without passwords.
        frames: Opens it and gives its frames until it ends. It is told by a call whether the next frame is
            wanted at all, so that it need not be decoded. It may raise StreamLost.
        live: It goes on whether we keep up or not, and an end is an outage.
        again: Begin again at its end, unless it had nothing or broke.
        endless: Opening it waits for whoever writes next: go on after any end.
        release: Lets an opening that waits go on, when the source is closed.
    """

    name: str
    frames: Callable[[Callable[[], bool]], Iterator[Frame]]
    live: bool = False
    again: bool = False
    endless: bool = False
    release: Callable[[], None] = lambda: None


class StreamSource:
    """Frames of a stream, read by a thread that begins at once.

    Args:
        rate_per_s: At most so many; of a live stream those between are left out and not counted.
        retry_s: Waits between two attempts to open a live stream: the first and the longest.
    """

    def __init__(
        self,
        stream: Stream,
        rate_per_s: float | None = None,
        retry_s: tuple[float, float] = (FIRST_RETRY_S, LONGEST_RETRY_S),
    ) -> None:
        """Begin to read."""
        self._stream = stream
        self._interval_s = 0.0 if rate_per_s is None else 1 / rate_per_s
        self._retry_s = retry_s
        self._due_s = self._wanted_s = float("-inf")
        self._frames: deque[Frame] = deque()
        self._bad: BadFile | None = None
        self._missed: dict[str, int] = {}
        self._ended = False
        self._closed = threading.Event()
        self._changed = threading.Condition()
        self._wake: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._read, name=f"source {stream.name}", daemon=True)
        self._thread.start()

    def announce(self, wake: Callable[[], None]) -> None:
        """Call this when something has come."""
        self._wake = wake

    def close(self) -> None:
        """Stop reading; a read that hangs is left to end by itself."""
        self._closed.set()
        with self._changed:
            self._changed.notify_all()
        self._stream.release()
        self._thread.join(timeout=2.0)

    def next(self, now_s: float) -> Item:
        """What there is now.

        Args:
            now_s: Monotonic seconds.
        """
        with self._changed:
            if self._missed:
                return Missed(*self._missed.popitem())
            if not self._stream.live and now_s < self._due_s:
                return Nothing(self._due_s - now_s, idle=False)
            if self._frames:
                self._due_s = max(self._due_s, now_s - 2 * self._interval_s) + self._interval_s
                frame = self._frames.popleft()
                self._changed.notify_all()
                return frame
            if self._bad is not None:
                bad, self._bad = self._bad, None
                return bad
            return Nothing(POLL_S, idle=self._ended)

    def _read(self) -> None:
        stream, (wait_s, longest_s) = self._stream, self._retry_s
        while not self._closed.is_set():
            came = False
            try:
                for frame in stream.frames(self._is_wanted):
                    came = True
                    self._keep(frame)
                    if self._closed.is_set():
                        return
                reason = "it ended"
            except StreamLost as error:
                reason = str(error)
                if not stream.live:
                    self._bad = BadFile(stream.name, reason)
            if not (stream.live or stream.endless or (stream.again and came and self._bad is None)):
                break
            if stream.live:
                wait_s = self._retry_s[0] if came else wait_s
                log.warning("source lost", extra={"stream": stream.name, "reason": reason, "retry_s": wait_s})
                self._miss(LOST)
                self._closed.wait(wait_s)
                wait_s = min(2 * wait_s, longest_s)
        self._ended = True
        self._wake()

    def _is_wanted(self) -> bool:
        """Whether the rate has room for the next frame of a live stream."""
        if not self._stream.live or not self._interval_s:
            return True
        now_s = monotonic()
        if now_s < self._wanted_s:
            return False
        # on the beat after a short delay; a new beat after a pause
        late_s = now_s - self._wanted_s
        self._wanted_s = (self._wanted_s if late_s < self._interval_s else now_s) + self._interval_s
        return True

    def _keep(self, frame: Frame) -> None:
        with self._changed:
            if self._stream.live:
                if len(self._frames) == CAPACITY:
                    self._frames.popleft()
                    self._missed[DROPPED] = self._missed.get(DROPPED, 0) + 1
            else:
                self._changed.wait_for(lambda: len(self._frames) < CAPACITY or self._closed.is_set())
            self._frames.append(frame)
        self._wake()

    def _miss(self, reason: str) -> None:
        with self._changed:
            self._missed[reason] = self._missed.get(reason, 0) + 1
        self._wake()
