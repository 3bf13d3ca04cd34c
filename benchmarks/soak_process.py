"""What a soak reads of the process that it watches, and the loop in which it does."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

SAMPLE_S = 2.0


def watched(
    minutes: float,
    workers: Sequence[threading.Thread],
    process: Callable[[], subprocess.Popen[bytes]],
    sample: Callable[[], dict[str, float] | None],
    log: Path,
    begins_s: float = 0.0,
) -> tuple[list[float], list[dict[str, float]]]:
    """Start those who ask and disturb, and sample until the time is over; seconds, and what was found then.

    Args:
        process: The one that is watched now; it may be killed, and be another one then.
        sample: Every quantity now; None while the process starts.
        log: What it writes.
        begins_s: How long it is left alone at first.

    Raises:
        SystemExit: A worker has ended, or the process has, otherwise than by being killed.
    """
    times: list[float] = []
    samples: list[dict[str, float]] = []
    begun_s = time.monotonic()
    for worker in workers:
        worker.start()
    while time.monotonic() < begun_s + minutes * 60:
        time.sleep(SAMPLE_S)
        if not all(worker.is_alive() for worker in workers):
            raise SystemExit("one of those who ask or disturb has ended early; see above")
        if (code := process().poll()) not in (None, -signal.SIGKILL):
            raise SystemExit(f"the process that is watched ended with {code}: {log.read_text()[-2000:]}")
        if (found := sample()) is not None and time.monotonic() > begun_s + begins_s:
            times.append(time.monotonic() - begun_s)
            samples.append(found)
    return times, samples


def quantities(pid: int) -> tuple[dict[str, float], list[psutil.Process]]:
    """What a process takes by the names of its bounds, and its children.

    Raises:
        FileNotFoundError, NoSuchProcess: It is gone.
    """
    process = psutil.Process(pid)
    with process.oneshot():
        memory, files = process.memory_info(), process.num_fds()
        threads, children = process.num_threads(), process.children()
    return {
        "RSS MiB": memory.rss / 2**20,
        "anonymous MiB": anonymous_mib(pid),
        "open files": float(files),
        "threads": float(threads),
        "children": float(len(children)),
    }, children


def anonymous_mib(pid: int) -> float:
    """Memory of a process that no file backs: its heaps and stacks, whoever else maps its libraries.

    Raises:
        FileNotFoundError: It is gone.
        NoSuchProcess: It was killed and nobody has waited for it yet: what is left of it has no memory.
    """
    _, found, rest = Path(f"/proc/{pid}/status").read_text().partition("RssAnon:")
    if not found:
        raise psutil.NoSuchProcess(pid)
    return int(rest.split()[0]) / 1024
