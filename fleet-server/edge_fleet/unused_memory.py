"""Memory that was freed and that the C library keeps: given back to the kernel, once a minute.

glibc gives threads heaps of their own (arenas, eight for each processor), and of a heap only the end goes
back by itself. What passes through the threads of ingest, pages and rollouts leaves holes below something
that lives, which no other thread may fill: in a soak (`benchmarks/soak_fleet.py`) what was in use stayed as
it was, while what was freed and kept trebled in a quarter of an hour. So there are few heaps, and holes go
back.
"""

from __future__ import annotations

import ctypes
import threading

EVERY_S = 60.0
HEAPS = 2  # one thread of Python's works at a time, mostly; the others are in a database or in mathematics
_M_ARENA_MAX = -8  # of glibc's malloc.h


def share_heaps() -> None:
    """Let threads that begin from now on share few heaps (mallopt(3)); nothing where this is not glibc."""
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.mallopt(_M_ARENA_MAX, HEAPS)


def give_back() -> None:
    """Return every page that holds nothing (malloc_trim(3)); nothing where the C library is not glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def run(stop: threading.Event) -> None:
    """Give back now and then, until told to stop."""
    while not stop.wait(EVERY_S):
        give_back()
