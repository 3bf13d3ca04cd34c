"""Reading what the agent itself uses: processor time, memory, temperature."""

from __future__ import annotations

import time

import psutil

from edge_agent.telemetry.windows import Moment, Resources

_PROCESS = psutil.Process()


def read_resources() -> Resources:
    """What this process has used, and the hottest thermal zone of the device."""
    return Resources(time.process_time(), int(_PROCESS.memory_info().rss), _hottest())


def now() -> Moment:
    """Both clocks."""
    return Moment(time.time_ns() // 1_000_000, time.monotonic())


def _hottest() -> float | None:
    # only where psutil can read sensors at all (Linux, FreeBSD)
    read = getattr(psutil, "sensors_temperatures", None)
    zones = read() if read else {}
    temperatures = [float(entry.current) for entries in zones.values() for entry in entries]
    return max(temperatures, default=None)
