"""Maintenance windows by the device's own clock, over midnight and over the days when clocks change."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from edge_fleet.rollouts.windows import MaintenanceWindow, closes_at, opens_at

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


@pytest.mark.parametrize(
    ("zone", "opens", "closes"),
    [
        ("Asia/Kathmandu", "2030-01-07T16:15", "2030-01-07T22:15"),  # 5:45 ahead
        ("Asia/Kolkata", "2030-01-07T16:30", "2030-01-07T22:30"),  # 5:30
        ("America/St_Johns", "2030-01-08T01:30", "2030-01-08T07:30"),  # 3:30 behind
        # the Chatham Islands are 12:45 ahead, 13:45 in summer
        ("Pacific/Chatham", "2030-09-28T09:15", "2030-09-28T14:15"),
        ("Pacific/Chatham", "2030-04-06T08:15", "2030-04-06T15:15"),
        # on Lord Howe Island 10:30, 11 in summer: clocks are set by half an hour
        ("Australia/Lord_Howe", "2030-10-05T11:30", "2030-10-05T17:00"),
        ("Australia/Lord_Howe", "2030-04-06T11:00", "2030-04-06T17:30"),
        # New York from 02:00 EST to 03:00 EDT on 10 March, and back on 3 November
        ("America/New_York", "2030-03-10T03:00", "2030-03-10T08:00"),
        ("America/New_York", "2030-11-03T02:00", "2030-11-03T09:00"),
    ],
)
def test_a_night_is_from_ten_to_four_by_the_clock_of_every_zone(zone: str, opens: str, closes: str) -> None:
    first_s, end_s = unix(opens), unix(closes)
    for now_s, found in ((first_s - 1, None), (first_s, end_s), (end_s - 1, end_s), (end_s, None)):
        assert closes_at([NIGHT], {"tz": zone}, "UTC", now_s) == found


def test_a_day_of_the_week_is_that_of_the_place() -> None:
    early = MaintenanceWindow(begin="00:15", end="01:00", days=("mon",))
    sunday = unix("2030-01-06T18:45")  # Monday, 00:30 in Kathmandu
    assert closes_at([early], {"tz": "Asia/Kathmandu"}, "UTC", sunday) == unix("2030-01-06T19:15")
    assert closes_at([early], {"tz": "Asia/Kathmandu"}, "UTC", sunday + 86_400) is None
    assert closes_at([early], {}, "UTC", unix("2030-01-07T00:30")) == unix("2030-01-07T01:00")


def test_a_time_that_clocks_leave_out_is_that_of_the_offset_before() -> None:
    """RFC 5545, 3.3.5: 02:15 on a morning that goes from 02:00 to 03:00 is 75 minutes after 01:00."""
    gap = MaintenanceWindow(begin="02:15", end="02:45")
    labels = {"tz": "Europe/Berlin"}
    opens, closes = unix("2030-03-31T01:15"), unix("2030-03-31T01:45")  # 03:15 to 03:45, summer time
    for now_s, found in ((opens - 1, None), (opens, closes), (closes - 1, closes), (closes, None)):
        assert closes_at([gap], labels, "UTC", now_s) == found
    until_gap = MaintenanceWindow(begin="22:00", end="02:30")
    assert closes_at([until_gap], labels, "UTC", unix("2030-03-31T00:59")) == unix("2030-03-31T01:30")


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


@pytest.mark.parametrize(
    ("window", "after", "opens"),
    [
        (NIGHT, "2030-01-07T21:59", "2030-01-07T22:00"),
        (NIGHT, "2030-01-07T22:00", "2030-01-08T22:00"),  # it is open already: the next one
        (MONDAYS, "2030-01-08T03:00", "2030-01-14T22:00"),
        # the night in which the clocks leave the hour from 2 to 3 out
        (MaintenanceWindow(begin="02:15", end="02:45"), "2030-03-30T12:00", "2030-03-31T03:15"),
        (MaintenanceWindow(begin="02:30", end="03:15"), "2030-03-30T12:00", "2030-04-01T02:30"),
    ],
)
def test_a_window_opens_at_its_beginning_by_the_clock_of_the_place(
    window: MaintenanceWindow, after: str, opens: str
) -> None:
    found = opens_at([window], {}, "Europe/Berlin", unix(after, "Europe/Berlin"))
    assert found == unix(opens, "Europe/Berlin")
    assert opens_at([window], {"tz": "Europe/Berlin"}, "UTC", unix(after, "Europe/Berlin")) == found
