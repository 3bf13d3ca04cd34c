"""Reading what the agent itself uses: processor time, memory, temperature.

From Linux's own files: loading psutil for three numbers would itself take a megabyte. Where those files are
not (a developer's machine), psutil is asked.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from edge_agent.telemetry.windows import Moment, Resources

# both name the same sensors on some devices, and either may be missing
SENSORS = ("sys/class/hwmon/hwmon*/temp*_input", "sys/class/thermal/thermal_zone*/temp")


def read_resources(root: Path = Path("/")) -> Resources:
    """What this process has used, and the hottest sensor of the device.

    Args:
        root: Where /proc and /sys are.
    """
    return Resources(time.process_time(), _rss_bytes(root), max(_temperatures(root), default=None))


def now() -> Moment:
    """Both clocks."""
    return Moment(time.time_ns() // 1_000_000, time.monotonic())


def _rss_bytes(root: Path) -> int:
    try:
        pages = (root / "proc/self/statm").read_bytes().split()[1]  # proc(5): the second is resident
    except FileNotFoundError:
        import psutil

        return int(psutil.Process().memory_info().rss)
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _temperatures(root: Path) -> Iterator[float]:
    """Degrees Celsius of every sensor that can be read: the kernel gives thousandths."""
    for pattern in SENSORS:
        for path in root.glob(pattern):
            try:
                yield int(path.read_bytes()) / 1000
            except (OSError, ValueError):  # a sensor that sleeps, or a driver that says no number
                continue
