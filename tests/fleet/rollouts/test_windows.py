"""Maintenance windows by the device's own clock, over midnight and over the days when clocks change."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from edge_fleet.rollouts.windows import MaintenanceWindow, closes_at

NIGHT = MaintenanceWindow(begin="22:00", end="04:00")
MONDAYS = MaintenanceWindow(begin="22:00", end="04:00", days=("mon",))


def unix(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("window", "local", "closes"),
    [
        (NIGHT, "2030-01-07T21:59", None),
        (NIGHT, "2030-01-07T22:00", "2030-01-08T04:00"),
        (NIGHT, "2030-01-08T03:59", "2030-01-08T04:00"),
        (NIGHT, "2030-01-08T04:00", None),
        (MONDAYS, "2030-01-07T23:00", "2030-01-08T04:00"),  # 7 January 2030 is a Monday
        (MONDAYS, "2030-01-08T02:00", "2030-01-08T04:00"),  # it began on Monday
        (MONDAYS, "2030-01-08T23:00", None),
        (MONDAYS, "2030-01-07T02:00", None),  # that one would have begun on Sunday
        (MaintenanceWindow(begin="09:00", end="17:00"), "2030-01-07T16:59", "2030-01-07T17:00"),
    ],
)
def test_a_window_is_open_from_its_beginning_to_its_end(
    window: MaintenanceWindow, local: str, closes: str | None
) -> None:
    found = closes_at([window], {}, "Europe/Berlin", unix(local, "Europe/Berlin"))
    assert found == (None if closes is None else unix(closes, "Europe/Berlin"))


def test_each_device_goes_by_its_own_clock() -> None:
    now_s = unix("2030-01-07T14:00")  # 23:00 in Tokyo
    assert closes_at([NIGHT], {"tz": "Asia/Tokyo"}, "UTC", now_s) == unix("2030-01-07T19:00")
    assert closes_at([NIGHT], {}, "UTC", now_s) is None


def test_the_night_on_which_clocks_change_has_one_hour_more_or_less() -> None:
    # Berlin goes from 03:00 CEST to 02:00 CET on 27 October 2030, and forward on 31 March 2030
    autumn = closes_at([NIGHT], {"tz": "Europe/Berlin"}, "UTC", unix("2030-10-26T20:00"))
    assert autumn == unix("2030-10-27T03:00")  # seven hours after it opened
    spring = closes_at([NIGHT], {"tz": "Europe/Berlin"}, "UTC", unix("2030-03-30T21:00"))
    assert spring == unix("2030-03-31T02:00")  # five


def test_an_hour_that_comes_twice_is_one_in_which_the_window_is_shut_after_its_end() -> None:
    until_two = MaintenanceWindow(begin="22:00", end="02:30")
    first = datetime(2030, 10, 27, 0, 15, tzinfo=UTC).timestamp()  # 02:15, summer time
    second = datetime(2030, 10, 27, 1, 15, tzinfo=UTC).timestamp()  # 02:15 again
    assert closes_at([until_two], {"tz": "Europe/Berlin"}, "UTC", first) is not None
    assert closes_at([until_two], {"tz": "Europe/Berlin"}, "UTC", second) is None


def test_of_several_windows_the_last_to_close_counts() -> None:
    short = MaintenanceWindow(begin="23:00", end="23:30")
    assert closes_at([short, NIGHT], {}, "UTC", unix("2030-01-07T23:10")) == unix("2030-01-08T04:00")


def test_a_label_that_is_no_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="'Mars/Base' is no time zone"):
        closes_at([NIGHT], {"tz": "Mars/Base"}, "UTC", 0.0)
    with pytest.raises(ValueError, match="no time zone"):
        closes_at([NIGHT], {"tz": "../../etc/passwd"}, "UTC", 0.0)
