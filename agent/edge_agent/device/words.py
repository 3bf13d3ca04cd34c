"""Times and amounts as a person reads them. Pure."""

from __future__ import annotations

from datetime import datetime


def moment(time_ms: int) -> str:
    """A point of time, in the device's own zone, to the minute."""
    return datetime.fromtimestamp(time_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M")


def ago(seconds: float) -> str:
    """A length of time in one unit, such as "3 h"."""
    seconds = max(0.0, seconds)
    for unit, length_s in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.0f} {unit}"
    return f"{seconds:.0f} s"


def size(count: float) -> str:
    """An amount of bytes, to three digits, such as "1.5 MB"."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
