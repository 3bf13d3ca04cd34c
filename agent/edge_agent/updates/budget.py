"""When a device may download and how much: bytes a day, bytes a month, hours of the day.

Bytes are charged in blocks before they are fetched, in a file that is durable, so that a power cut may
charge a block too many and never one too few. Days and months are the clock's, and only move forward: a
clock that jumps back does not open a new budget. A clock that was never set (before 2020: a device
without a battery) holds no download back for the hour, because a device that cannot be updated until
somebody sets its clock cannot be helped; it has one budget until it knows the day.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from edge_agent.device.home import write_durably
from edge_agent.errors import DownloadWaits
from edge_agent.updates.assignment import CLOCK_IS_SET_MS
from edge_contracts.errors import FormatInvalid
from edge_contracts.model import Count, Frozen, canonical_json, parse_json

FORMAT = "edgefleet.data-used/1"
BLOCK_BYTES = 1 << 20  # one write of the file for each
DAY_S = 86_400
_HOURS = re.compile(r"^([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)$")


@dataclass(frozen=True)
class Hours:
    """Hours of the local day in which downloads may run, in minutes since midnight; may pass midnight."""

    start: int
    end: int

    def wait_s(self, minute: float) -> float:
        """How long until it is open; 0 when it is."""
        if self.start <= self.end:
            is_open = self.start <= minute < self.end
        else:
            is_open = minute >= self.start or minute < self.end
        return 0.0 if is_open else (self.start - minute) % 1440 * 60

    def __str__(self) -> str:
        """As `parse_hours` reads it."""
        return f"{self.start // 60:02}:{self.start % 60:02}-{self.end // 60:02}:{self.end % 60:02}"


def parse_hours(text: str) -> Hours:
    """Read HH:MM-HH:MM.

    Raises:
        FormatInvalid: It is not that, or both ends are the same.
    """
    found = _HOURS.match(text)
    if found is None or found[1] + found[2] == found[3] + found[4]:
        raise FormatInvalid(f"{text!r:.40} is not a time of day such as 01:30-05:00")
    return Hours(int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4]))


@dataclass(frozen=True)
class DataRules:
    """What downloads may use; None for no bound."""

    day_bytes: int | None = None
    month_bytes: int | None = None
    hours: Hours | None = None


class Used(Frozen):
    """What was charged, as stored.

    Args:
        day: Days since 1970, by UTC; -1 while the clock was never set.
        month: Such as 202_611, by UTC; -1 likewise.
    """

    format: Literal["edgefleet.data-used/1"] = "edgefleet.data-used/1"
    day: Annotated[int, Meta(ge=-1)] = -1
    day_bytes: Count = 0
    month: Annotated[int, Meta(ge=-1)] = -1
    month_bytes: Count = 0


def at(used: Used, now_s: float) -> Used:
    """What counts now: a day or month that has begun starts at nothing, an earlier one changes nothing."""
    if now_s * 1000 < CLOCK_IS_SET_MS:
        return used
    utc = time.gmtime(now_s)
    day, month = int(now_s // DAY_S), utc.tm_year * 100 + utc.tm_mon
    if day > used.day:
        # what was used before the clock was set belongs to the first day that it shows
        used = used.model_copy(update={"day": day, "day_bytes": 0 if used.day >= 0 else used.day_bytes})
    if month > used.month:
        kept = 0 if used.month >= 0 else used.month_bytes
        used = used.model_copy(update={"month": month, "month_bytes": kept})
    return used


class DataMeter:
    """Counts what downloads use, and says when they must wait; used from one thread at a time.

    Args:
        path: The file; a damaged one counts as a full day and month, as far as these are bounded.
        clock, minute: Unix seconds, and minutes since midnight by local time.
    """

    def __init__(
        self,
        path: Path,
        rules: DataRules = DataRules(),
        clock: Callable[[], float] = time.time,
        minute: Callable[[], float] | None = None,
    ) -> None:
        """Take the parts; the file is read when it is needed."""
        self._path, self._rules, self._clock = path, rules, clock
        self._minute = minute or self._local_minute
        self._granted = 0  # charged and not fetched yet

    def used(self) -> Used:
        """What was charged to this day and month."""
        return at(read_used(self._path, self._rules), self._clock())

    def take(self, wanted: int) -> int:
        """Ask for so many bytes; how many may be fetched now, at least one.

        Raises:
            DownloadWaits: None may.
            HomeInvalid: The charge cannot be stored.
        """
        self.require_open()
        if not self._granted:
            used, rules = self.used(), self._rules
            room = [
                bound - so_far
                for bound, so_far in (
                    (rules.day_bytes, used.day_bytes),
                    (rules.month_bytes, used.month_bytes),
                )
                if bound is not None
            ]
            block = min([BLOCK_BYTES, wanted, *room])
            if block <= 0:
                raise self._spent(used)
            charged = {"day_bytes": used.day_bytes + block, "month_bytes": used.month_bytes + block}
            write_durably(self._path, canonical_json(used.model_copy(update=charged)))
            self._granted = block
        return min(self._granted, wanted)

    def fetched(self, count: int) -> None:
        """So many of the bytes that were granted have come."""
        self._granted = max(0, self._granted - count)

    def beside(self, count: int) -> None:
        """So many bytes came beside those: a head without an end, the framing of chunks.

        Raises:
            HomeInvalid: The charge cannot be stored.
        """
        used = self.used()
        charged = {"day_bytes": used.day_bytes + count, "month_bytes": used.month_bytes + count}
        write_durably(self._path, canonical_json(used.model_copy(update=charged)))

    def require_open(self) -> None:
        """See that downloads may run at this hour.

        Raises:
            DownloadWaits: Not before a later one.
        """
        hours = self._rules.hours
        if hours is None or self._clock() * 1000 < CLOCK_IS_SET_MS:
            return
        wait_s = hours.wait_s(self._minute())
        if wait_s > 0:
            raise DownloadWaits("hours", f"downloads run from {hours} only", wait_s)

    def _spent(self, used: Used) -> DownloadWaits:
        now_s, rules = self._clock(), self._rules
        day = rules.day_bytes is not None and used.day_bytes >= rules.day_bytes
        spent, bound = (used.day_bytes, rules.day_bytes) if day else (used.month_bytes, rules.month_bytes)
        detail = f"{spent} of {bound} bytes of this {'day' if day else 'month'} are used"
        return DownloadWaits("data-budget", detail, DAY_S - now_s % DAY_S)

    def _local_minute(self) -> float:
        local = time.localtime(self._clock())
        return local.tm_hour * 60 + local.tm_min + local.tm_sec / 60


def read_used(path: Path, rules: DataRules = DataRules()) -> Used:
    """What the file says.

    Args:
        rules: With which a damaged file counts as all used: it may have said so.
    """
    try:
        return parse_json(Used, path.read_bytes(), path.name, FORMAT)
    except FileNotFoundError:
        return Used()
    except (FormatInvalid, OSError):
        return Used(day_bytes=rules.day_bytes or 0, month_bytes=rules.month_bytes or 0)
