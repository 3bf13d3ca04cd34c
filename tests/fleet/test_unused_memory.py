"""What threads freed goes back to the kernel while the server works: asked of a real process."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from edge_fleet.unused_memory import HEAPS

WORKING = """
import ctypes, threading, time
from pathlib import Path
from edge_fleet import unused_memory

def anonymous_mib():
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) / 1024

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)

def work():  # in a thread: glibc gives it a heap of its own
    blocks = [libc.malloc(4000) for _ in range(10_000)]
    for block in blocks:
        ctypes.memset(block, 1, 4000)
    lives.append(libc.malloc(4000))  # above them all: the heap cannot just end earlier
    for block in blocks:
        libc.free(block)

lives, stop = [], threading.Event()
worker = threading.Thread(target=work)
worker.start()
worker.join()
freed, until = anonymous_mib(), time.monotonic() + 30
unused_memory.EVERY_S = 0.01
giving = threading.Thread(target=unused_memory.run, args=(stop,))
giving.start()
while freed - anonymous_mib() < 30 and time.monotonic() < until:
    time.sleep(0.01)
stop.set()
giving.join()
print(freed - anonymous_mib())
"""

BEGINNING = """
import ctypes, sys, threading
from edge_fleet import unused_memory

libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
libc.malloc_info.argtypes, libc.fclose.argtypes = (ctypes.c_int, ctypes.c_void_p), (ctypes.c_void_p,)
if sys.argv[2] == "shared":
    unused_memory.share_heaps()
all_there = threading.Barrier(9)

def work():
    libc.malloc(1000)
    all_there.wait()

for _ in range(8):
    threading.Thread(target=work).start()
all_there.wait()
told = libc.fopen(sys.argv[1].encode(), b"w")
libc.malloc_info(0, told)
libc.fclose(told)
"""

LARGE = """
import ctypes, sys
from edge_fleet import unused_memory

class Info(ctypes.Structure):  # of mallinfo2(3)
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split())]

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes, libc.mallinfo2.restype = ctypes.c_void_p, (ctypes.c_void_p,), Info
if sys.argv[1] == "mapped":
    unused_memory.share_heaps()
libc.free(libc.malloc(8 << 20))  # after this glibc would take as much from its heaps
before = libc.mallinfo2().hblkhd
block = libc.malloc(4 << 20)
print(libc.mallinfo2().hblkhd - before)
"""


def heaps(path: Path, way: str) -> int:
    command = [sys.executable, "-c", BEGINNING, str(path), way]
    subprocess.run(command, check=True, timeout=60)
    return path.read_text().count("<heap nr=")


def test_threads_share_few_heaps(tmp_path: Path) -> None:
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("this C library is not glibc")
    assert heaps(tmp_path / "told", "shared") == HEAPS
    assert heaps(tmp_path / "told", "as they come") > HEAPS


def mapped_bytes(way: str) -> int:
    done = subprocess.run([sys.executable, "-c", LARGE, way], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_what_is_large_is_not_in_a_heap_whatever_was_freed_before() -> None:
    if not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("this C library does not say what it mapped")
    assert mapped_bytes("mapped") >= 4 << 20
    assert mapped_bytes("as it comes") == 0


def test_what_a_thread_freed_goes_back_while_others_work() -> None:
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("this C library has no malloc_trim")
    done = subprocess.run([sys.executable, "-c", WORKING], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 30  # of 38 MiB
