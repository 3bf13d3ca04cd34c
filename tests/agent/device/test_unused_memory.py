"""Freed memory goes back to the kernel: asked of a real process with the real C library."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

SPREAD = """
import ctypes
from pathlib import Path
from edge_agent.device.unused_memory import give_back

def anonymous_mib():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) / 1024

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
blocks = [libc.malloc(4000) for _ in range(10_000)]
for block in blocks:
    ctypes.memset(block, 1, 4000)
lives = libc.malloc(4000)  # above them all: the heap cannot just end earlier
for block in blocks:
    libc.free(block)
freed = anonymous_mib()
give_back()
print(freed - anonymous_mib())
"""


def test_what_was_freed_below_something_that_lives_goes_back() -> None:
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("this C library has no malloc_trim")
    done = subprocess.run([sys.executable, "-c", SPREAD], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 30  # of 38 MiB
