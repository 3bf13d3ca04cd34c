"""Memory that was freed and that the C library keeps: given back to the kernel, now and then.

glibc gives threads heaps of their own (arenas, eight for each processor), and of a heap only the end goes
back by itself. What passes through the threads of ingest, pages and rollouts leaves holes below something
that lives, which no other thread may fill: in a soak (`benchmarks/soak_fleet.py`) what was in use stayed as
it was, while what was freed and kept trebled in a quarter of an hour. So there are few heaps, holes go
back, and what is large is not in a heap: without being told, glibc takes blocks of up to 32 MiB from the
heaps once one as large was freed.
"""

from __future__ import annotations

import ctypes
import threading

EVERY_S = 10.0  # takes a few milliseconds, without the interpreter's lock
HEAPS = 2  # one thread of Python's works at a time, mostly; the others are in a database or in mathematics
LARGE_BYTES = 128 << 10  # glibc's own first threshold, which it raises unless it is set
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # of glibc's malloc.h


def share_heaps() -> None:
    """Let threads that begin from now on share few heaps, and map large blocks (mallopt(3)); glibc only."""
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.mallopt(_M_ARENA_MAX, HEAPS)
        libc.mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)


def give_back() -> None:
    """Return every page that holds nothing (malloc_trim(3)); nothing where the C library is not glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def run(stop: threading.Event) -> None:
    """Give back now and then, until told to stop."""
    while not stop.wait(EVERY_S):
        give_back()
