"""When downloads may run and how much they may use, with clocks that jump and files that are damaged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge_agent.errors import DownloadWaits, HomeInvalid
from edge_agent.updates.budget import (
    BLOCK_BYTES,
    DataMeter,
    DataRules,
    Used,
    at,
    parse_hours,
    read_used,
)
from edge_agent.updates.fetching import LONGEST_WAIT_S
from edge_contracts.errors import FormatInvalid

NOON = 1_795_694_400.0  # 2026-11-26 12:00 UTC
DAY = 86_400.0
TODAY = int(NOON // DAY)
MB = 1_000_000


class Clock:
    """A clock that a test turns."""

    def __init__(self, now_s: float = NOON) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def meter(folder: Path, rules: DataRules, clock: Clock | None = None, minute: float = 720) -> DataMeter:
    return DataMeter(folder / "data.json", rules, clock or Clock(), lambda: minute)


def use(meter: DataMeter, count: int) -> int:
    """Fetch as much as is allowed; how much that was."""
    done = 0
    while done < count:
        try:
            some = meter.take(count - done)
        except DownloadWaits:
            break
        meter.fetched(some)
        done += some
    return done


def test_no_more_than_the_days_budget_is_fetched_and_the_next_day_goes_on(tmp_path: Path) -> None:
    clock = Clock()
    made = meter(tmp_path, DataRules(day_bytes=3 * MB), clock)
    assert use(made, 10 * MB) == 3 * MB
    with pytest.raises(DownloadWaits, match="3000000 of 3000000 bytes of this day") as caught:
        made.take(1)
    assert (caught.value.code, caught.value.wait_s) == ("data-budget", DAY / 2)
    clock.now_s += DAY / 2
    assert use(made, 10 * MB) == 3 * MB


def test_the_months_budget_holds_over_days_and_restarts(tmp_path: Path) -> None:
    clock, rules = Clock(), DataRules(day_bytes=3 * MB, month_bytes=4 * MB)
    assert use(meter(tmp_path, rules, clock), 10 * MB) == 3 * MB
    clock.now_s += DAY
    assert use(meter(tmp_path, rules, clock), 10 * MB) == MB
    clock.now_s += DAY
    assert use(meter(tmp_path, rules, clock), 10 * MB) == 0
    clock.now_s = 1_796_083_200.0  # 2026-12-01 00:00 UTC
    assert use(meter(tmp_path, rules, clock), 10 * MB) == 3 * MB


def test_where_only_a_month_is_bounded_it_is_the_month_that_is_spent(tmp_path: Path) -> None:
    made = meter(tmp_path, DataRules(month_bytes=MB))
    assert use(made, 2 * MB) == MB
    with pytest.raises(DownloadWaits, match="1000000 of 1000000 bytes of this month") as caught:
        made.take(1)
    assert caught.value.wait_s == DAY / 2  # it is asked again each day


def test_what_came_beside_is_charged_to_day_and_month_and_stored(tmp_path: Path) -> None:
    made = meter(tmp_path, DataRules(day_bytes=MB))
    made.beside(300_000)
    made.beside(100_000)
    assert read_used(tmp_path / "data.json") == Used(
        day=TODAY, day_bytes=400_000, month=202611, month_bytes=400_000
    )
    assert use(made, MB) == 600_000


def test_a_process_that_ends_in_the_middle_has_paid_too_much_and_never_too_little(tmp_path: Path) -> None:
    meter(tmp_path, DataRules()).take(100 * MB)
    assert read_used(tmp_path / "data.json").day_bytes == BLOCK_BYTES


def test_a_clock_that_jumps_back_opens_no_new_budget(tmp_path: Path) -> None:
    clock, rules = Clock(), DataRules(day_bytes=MB)
    assert use(meter(tmp_path, rules, clock), 2 * MB) == MB
    for there in (NOON - 40 * DAY, 0.0, NOON):
        clock.now_s = there
        assert use(meter(tmp_path, rules, clock), 2 * MB) == 0


def test_what_is_used_before_the_clock_is_set_belongs_to_the_first_day_it_shows() -> None:
    unset = Used(day_bytes=5, month_bytes=7)
    assert at(unset, 60.0) == unset
    assert at(unset, NOON) == Used(day=TODAY, day_bytes=5, month=202611, month_bytes=7)
    assert at(Used(day=TODAY - 1, day_bytes=5, month=202610, month_bytes=7), NOON) == Used(
        day=TODAY, month=202611
    )


def test_a_damaged_file_counts_as_all_used_where_there_is_a_bound(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_bytes(b"{}")
    assert use(meter(tmp_path, DataRules(day_bytes=MB)), MB) == 0
    assert use(meter(tmp_path, DataRules()), MB) == MB


def test_a_charge_that_cannot_be_stored_is_no_permission(tmp_path: Path) -> None:
    (tmp_path / "data.json.new").mkdir()
    with pytest.raises(HomeInvalid):
        meter(tmp_path, DataRules()).take(1)


@pytest.mark.parametrize(
    ("text", "minute", "wait_min"),
    [
        ("01:30-05:00", 90, 0),
        ("01:30-05:00", 300, 1230),
        ("01:30-05:00", 80, 10),
        ("01:30-05:45", 344, 0),
        ("01:30-05:45", 345, 1185),
        ("23:00-01:00", 1439, 0),
        ("23:00-01:00", 59, 0),
        ("23:00-01:00", 60, 1320),
    ],
)
def test_downloads_wait_for_their_hours(tmp_path: Path, text: str, minute: int, wait_min: int) -> None:
    made = meter(tmp_path, DataRules(hours=parse_hours(text)), minute=minute)
    if not wait_min:
        assert made.take(10) == 10
        return
    with pytest.raises(DownloadWaits, match=f"from {text} only") as caught:
        made.take(10)
    assert caught.value.wait_s == wait_min * 60
    assert not (tmp_path / "data.json").exists(), "charged for nothing"


def test_a_clock_that_was_never_set_holds_no_download_back(tmp_path: Path) -> None:
    assert meter(tmp_path, DataRules(hours=parse_hours("01:30-05:00")), Clock(100.0)).take(10) == 10


@pytest.mark.parametrize("text", ["", "1:30-05:00", "24:00-05:00", "01:30", "05:00-05:00", "01:60-02:00"])
def test_what_is_not_a_time_of_day_is_refused(text: str) -> None:
    with pytest.raises(FormatInvalid, match="such as 01:30-05:00"):
        parse_hours(text)


# POSIX rules: no file of zones is needed. Lord Howe's summer is half an hour, Kathmandu is 5:45 ahead.
BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"
LORD_HOWE = "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0"
KATHMANDU = "<+0545>-5:45"


@pytest.fixture
def live_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """The time zone of this process, for one test."""

    def there(zone: str) -> None:
        monkeypatch.setenv("TZ", zone)
        time.tzset()

    yield there
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("zone", "utc", "text", "wait_s"),
    [
        (BERLIN, "2030-01-07T00:29:30", "01:30-05:00", 30),
        (BERLIN, "2030-01-07T00:30:00", "01:30-05:00", 0),
        (BERLIN, "2030-03-31T00:30:00", "03:30-05:00", 3600),  # 01:30, and 03:00 comes after 01:59
        (BERLIN, "2030-10-27T00:00:00", "03:30-05:00", 9000),  # 02:00, and 02:00 comes again
        (BERLIN, "2030-10-27T00:45:00", "02:15-02:45", 1800),  # open in both hours of that name
        (BERLIN, "2030-03-31T00:45:00", "02:15-02:45", 84_600),  # in neither of one that is left out
        (LORD_HOWE, "2030-10-05T15:00:00", "02:30-04:00", 1800),  # 01:30, and 02:30 comes after 01:59
        (LORD_HOWE, "2030-04-06T14:30:00", "02:00-04:00", 3600),  # 01:30, twice
        (KATHMANDU, "2030-01-07T19:30:00", "01:30-05:00", 900),  # 01:15
        (KATHMANDU, "2030-01-07T19:45:00", "01:30-05:00", 0),
        (KATHMANDU, "2030-01-07T23:15:00", "01:30-05:00", 73_800),  # 05:00
    ],
)
def test_hours_are_those_of_the_wall_clock_also_when_it_is_set(
    tmp_path: Path, live_in: Callable[[str], None], zone: str, utc: str, text: str, wait_s: int
) -> None:
    live_in(zone)
    began_s = datetime.fromisoformat(utc).replace(tzinfo=UTC).timestamp()
    clock = Clock(began_s)
    made = DataMeter(tmp_path / "data.json", DataRules(hours=parse_hours(text)), clock)
    while True:
        try:
            made.require_open()
            break
        except DownloadWaits as waits:
            clock.now_s += min(waits.wait_s, LONGEST_WAIT_S)  # as a fetch asks again
    assert clock.now_s - began_s == wait_s
