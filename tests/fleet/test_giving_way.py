"""Work that can wait rests while messages wait, and not for ever."""

import threading
import time

from edge_fleet.giving_way import PRESSURE, GivingWay, never


class Stop(threading.Event):
    """Lets a time pass at each wait instead of waiting."""

    def __init__(self, at_each: object = None) -> None:
        super().__init__()
        self.rests = 0

    def wait(self, timeout: float | None = None) -> bool:
        self.rests += 1
        return self.is_set()


def test_it_rests_until_little_waits() -> None:
    waiting, stop = [PRESSURE, PRESSURE + 1, PRESSURE + 9], Stop()
    GivingWay(waiting.pop, late_s=1e9).rest(stop)
    assert stop.rests == 2 and not waiting


def test_work_that_is_late_rests_no_more_until_it_is_up_to_date_again() -> None:
    way, stop = GivingWay(lambda: PRESSURE + 1, late_s=0.0), Stop()
    way.rest(stop)
    assert stop.rests == 0
    way = GivingWay(lambda: PRESSURE + 1, late_s=1e9)
    way._up_to_date_at = time.monotonic() - 2e9
    way.rest(stop)
    assert stop.rests == 0
    way.up_to_date()
    stop.set()
    way.rest(stop)
    assert stop.rests == 1


def test_with_nobody_to_give_way_to_it_never_rests() -> None:
    stop = Stop()
    never().rest(stop)
    assert stop.rests == 0
