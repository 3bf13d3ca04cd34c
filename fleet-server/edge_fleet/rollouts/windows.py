"""Maintenance windows: when a device may be given a release, by the clock of the place where it is. Pure.

A device's time zone is its label `tz`, an IANA name such as Europe/Berlin, or the plan's `time_zone`.
Going back does not wait for a window: it is the way to safety.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, StringConstraints, field_validator, model_validator

from edge_fleet.model import Frozen

LABEL = "tz"
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"^([01][0-9]|2[0-3]):([0-5][0-9])$")
Clock = Annotated[str, StringConstraints(pattern=_CLOCK.pattern)]


class MaintenanceWindow(Frozen):
    """A stretch of some days of the week; one that ends before it begins goes over midnight.

    Args:
        days: On which it begins.
    """

    begin: Clock = Field(description="time of day at which it opens, 00:00 to 23:59")
    end: Clock = Field(description="time of day at which it closes, 00:00 to 23:59; before `begin`: next day")
    days: tuple[Day, ...] = Field(
        default=DAYS,
        min_length=1,
        max_length=7,
        description="days on which it opens: mon, tue, wed, thu, fri, sat, sun",
    )

    @field_validator("begin", "end", mode="before")
    @classmethod
    def _time_of_day(cls, raw: Any) -> Any:
        """TOML has times of day of its own."""
        return raw.strftime("%H:%M") if isinstance(raw, time) else raw

    @model_validator(mode="after")
    def _some_time(self) -> Self:
        if self.begin == self.end:
            raise ValueError(f"a window from {self.begin} to {self.end} is never open")
        return self

    def closes(self, local: datetime) -> datetime | None:
        """When the window that is open at a moment closes, or None when it is shut.

        Args:
            local: With the time zone of the place.
        """
        for back in (0, 1):  # one that opened yesterday may still be open
            day = (local - timedelta(days=back)).date()
            if DAYS[day.weekday()] not in self.days:
                continue
            opens = datetime.combine(day, _clock(self.begin), local.tzinfo)
            until = day + timedelta(days=1) if self.end < self.begin else day
            closes = datetime.combine(until, _clock(self.end), local.tzinfo)
            # compared in UTC: on the day that the clocks change, local times alone are ambiguous
            if opens.astimezone(UTC) <= local.astimezone(UTC) < closes.astimezone(UTC):
                return closes
        return None

    def __str__(self) -> str:
        """As people write it."""
        days = "" if len(set(self.days)) == len(DAYS) else f" on {', '.join(self.days)}"
        return f"{self.begin} to {self.end}{days}"


def zone(name: str) -> ZoneInfo:
    """A time zone by its IANA name.

    Raises:
        ValueError: There is none.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"{name!r:.80} is no time zone; expected an IANA name such as Europe/Berlin"
        ) from None


def closes_at(
    windows: Sequence[MaintenanceWindow], labels: Mapping[str, str], default_zone: str, now_s: float
) -> float | None:
    """Unix seconds at which the last window that is open for a device now closes; None when all are shut.

    Raises:
        ValueError: Its label `tz` is no time zone.
    """
    here = datetime.fromtimestamp(now_s, zone(labels.get(LABEL, default_zone)))
    closing = [found for window in windows if (found := window.closes(here)) is not None]
    return max(found.timestamp() for found in closing) if closing else None


def opens_at(
    windows: Sequence[MaintenanceWindow], labels: Mapping[str, str], default_zone: str, after_s: float
) -> float | None:
    """Unix seconds at which a window opens next for a device; None when none does within a fortnight.

    Raises:
        ValueError: Its label `tz` is no time zone.
    """
    place = zone(labels.get(LABEL, default_zone))
    today = datetime.fromtimestamp(after_s, place).date()
    for ahead in range(15):
        day = today + timedelta(days=ahead)
        opening = [
            datetime.combine(day, _clock(window.begin), place).timestamp()
            for window in windows
            if DAYS[day.weekday()] in window.days
        ]
        # an hour that the clocks leave out opens nothing
        found = [
            at for at in opening if at > after_s and closes_at(windows, labels, default_zone, at) is not None
        ]
        if found:
            return min(found)
    return None


def _clock(text: str) -> time:
    hour, minute = text.split(":")
    return time(int(hour), int(minute))
