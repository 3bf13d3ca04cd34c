"""What stands between the records of a device and its outbox where differential privacy is asked for.

The ledger is on the disk before a window leaves: a device that starts again does not spend twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import time

from edge_agent.device.home import Home, write_durably
from edge_agent.errors import HomeInvalid, NoiseFailed
from edge_agent.telemetry.noise import add_noise, require
from edge_agent.telemetry.privacy import Ledger, Rules, release, spend
from edge_agent.telemetry.reporting import Reporting
from edge_contracts.errors import ContractError
from edge_contracts.messages import Event, Record, Window
from edge_contracts.model import canonical_json, parse_json

log = logging.getLogger(__name__)

DAY_S = 86400


class Curtain:
    """Lets records through as the rules allow."""

    def __init__(self, home: Home, rules: Rules, clock: Callable[[], float] = time) -> None:
        """Read the ledger; one that cannot be read counts as spent.

        Raises:
            MissingExtra: The library of the noise is not installed.
        """
        require()
        self._path, self._rules, self._clock = home.folder / "privacy.json", rules, clock
        self._ledger = self._read()
        self._told_day = -1

    def let_out(self, record: Record) -> list[Record]:
        """What may leave instead of a record; nothing when the budget is spent.

        Windows get noise. Events leave without their text, which may name counts ("3 of 20 failed").
        """
        if isinstance(record, Event):
            return [record.model_copy(update={"detail": ""})]
        if not isinstance(record, Window):
            return [record]
        now_s = self._clock()
        day = int(now_s // DAY_S)
        paid = spend(self._ledger, self._rules, day)
        if paid is None:
            return self._withheld(day, now_s, record)
        try:
            write_durably(self._path, canonical_json(paid))
            self._ledger = paid
            return [release(record, self._rules, add_noise)]
        except (HomeInvalid, NoiseFailed, OSError) as error:
            log.error("window withheld", extra={"reason": str(error)})
            return [_told("privacy-window-withheld", now_s, record, "noise-failed")]

    def _withheld(self, day: int, now_s: float, window: Window) -> list[Record]:
        """Say once a day that no more windows leave."""
        if self._told_day == max(day, self._ledger.day):
            return []
        self._told_day = max(day, self._ledger.day)
        log.warning("privacy budget spent: windows stay here until tomorrow", extra={"day": day})
        return [_told("privacy-budget-spent", now_s, window, "budget-spent")]

    def _read(self) -> Ledger:
        try:
            return parse_json(Ledger, self._path.read_bytes(), self._path.name)
        except FileNotFoundError:
            return Ledger()
        except (OSError, ContractError) as error:
            log.error("privacy ledger cannot be read: taken as spent", extra={"reason": str(error)})
            return Ledger(day=int(self._clock() // DAY_S), spent=self._rules.day_epsilon)


def raise_curtain(home: Home, reporting: Reporting) -> Curtain | None:
    """The curtain that is asked for, or None."""
    epsilon, day_epsilon = reporting.privacy_epsilon, reporting.privacy_day_epsilon
    if epsilon is None or day_epsilon is None:
        return None
    return Curtain(home, Rules(epsilon, day_epsilon, reporting.privacy_contribution))


def _told(name: str, now_s: float, window: Window, code: str) -> Event:
    return Event(name=name, time_ms=int(now_s * 1000), bundle=window.bundle, code=code)
