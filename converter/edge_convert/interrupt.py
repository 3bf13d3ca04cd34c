"""Signals during a build: the first Ctrl-C ends the search, the second one and SIGTERM abandon everything."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from edge_convert.budget import Budget


@contextmanager
def ended_by_hand(budget: Budget) -> Iterator[None]:
    """Let a person at the terminal end a search early; only for a program's main thread."""

    def interrupted(number: int, frame: FrameType | None) -> None:
        if budget.stopped:
            raise KeyboardInterrupt
        budget.stop()
        print("finishing with the best so far; Ctrl-C once more abandons the build", file=sys.stderr)

    def terminated(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupted), signal.signal(signal.SIGTERM, terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])
