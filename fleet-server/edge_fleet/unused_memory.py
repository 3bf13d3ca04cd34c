"""Memory that was freed and that the C library keeps: given back to the kernel, once a minute.

glibc gives each thread a heap of its own (an arena), and of a heap only the end goes back by itself. What
passes through the threads of ingest, pages and rollouts leaves holes below something that lives: in a soak
(`benchmarks/soak_fleet.py`) what was in use stayed as it was, while what was freed and kept trebled in a
quarter of an hour.
"""

from __future__ import annotations

import ctypes
import threading

EVERY_S = 60.0


def give_back() -> None:
    """Return every page that holds nothing (malloc_trim(3)); nothing where the C library is not glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def run(stop: threading.Event) -> None:
    """Give back now and then, until told to stop."""
    while not stop.wait(EVERY_S):
        give_back()
