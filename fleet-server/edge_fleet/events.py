"""The server's own news: what changed, for consoles that watch. Never a source of truth.

Threads publish, event loops listen. A listener that does not keep up loses the oldest news and is told
so by a `lost` event; it reads the state again through the API.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any

QUEUE_EVENTS = 256


@dataclass(frozen=True)
class News:
    """One piece of news.

    Args:
        kind: "device", "telemetry", "release", "rollout", "alert", "refusal",
            "standing" (how devices are doing changed), "broker" or "lost".
        fields: Small and flat; enough to know what to read again.
    """

    kind: str
    fields: Mapping[str, Any]


@dataclass(eq=False)
class _Listener:
    loop: asyncio.AbstractEventLoop
    waiting: deque[News] = field(default_factory=deque)
    ready: asyncio.Event = field(default_factory=asyncio.Event)


class EventBus:
    """Hands news from any thread to every listener."""

    def __init__(self) -> None:
        """Start without listeners."""
        self._lock = threading.Lock()
        self._listeners: list[_Listener] = []
        self._closed = False

    def publish(self, kind: str, **fields: Any) -> None:
        """Tell every listener; never waits."""
        with self._lock:
            for listener in self._listeners:
                if len(listener.waiting) >= QUEUE_EVENTS:
                    listener.waiting.clear()
                    listener.waiting.append(News("lost", {}))
                listener.waiting.append(News(kind, fields))
                self._wake(listener)

    def close(self) -> None:
        """End every listener's stream, so that a server can stop while consoles watch."""
        with self._lock:
            self._closed = True
            for listener in self._listeners:
                self._wake(listener)

    @property
    def closed(self) -> bool:
        """Whether the server is going down."""
        return self._closed

    async def listen(self, keep_alive_s: float) -> AsyncGenerator[News | None, None]:
        """News from now on, until the bus is closed; None when there was none for a while."""
        listener = _Listener(asyncio.get_running_loop())
        with self._lock:
            self._listeners.append(listener)
        try:
            while not self._closed:
                try:
                    await asyncio.wait_for(listener.ready.wait(), keep_alive_s)
                except TimeoutError:
                    yield None
                    continue
                listener.ready.clear()
                while listener.waiting:
                    yield listener.waiting.popleft()
        finally:
            with self._lock:
                self._listeners.remove(listener)

    @staticmethod
    def _wake(listener: _Listener) -> None:
        if not listener.loop.is_closed():
            listener.loop.call_soon_threadsafe(listener.ready.set)
