"""Saying that a device is to be looked at soon, in the transaction that changes something about it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, or_, update

from edge_fleet.schema import standings
from edge_fleet.standings.condition import Health
from edge_fleet.storage.portions import portions

RECHECK_MS, LONGEST_MS = 120_000, 300_000  # of one that is well: its figures are at most so old
RECHECKS_PER_S = 100  # of all of them: with more than 12,000 devices each is looked at less often
AGAIN_MS = 30_000  # one that does badly is judged by new windows at most so often

_own = standings.c
_SOON = update(standings).values(due_ms=bindparam("now_")).where(_own.due_ms > bindparam("now_"))
# silent, without a model at work, or not to be looked at again: of those a word is news
_ASLEEP = or_(
    _own.health.in_((Health.SILENT, Health.IDLE)), _own.due_ms > bindparam("now_") + bindparam("recheck_")
)
# built once: they are run for every message that devices send
_TOUCH = _SOON.where(_own.device == bindparam("device_"))
_HEARD_ALL = _SOON.where(_own.device.in_(bindparam("devices_", expanding=True)), _ASLEEP)
_BAD = _SOON.where(
    _own.device.in_(bindparam("devices_", expanding=True)), _own.judged_ms < bindparam("before_")
)


def recheck_ms(devices: int) -> int:
    """After how long a device that is well is looked at again, in a fleet of so many."""
    return min(LONGEST_MS, max(RECHECK_MS, 1000 * devices // RECHECKS_PER_S))


def touch(connection: Connection, device: str, now_ms: int) -> None:
    """Something happened to a device."""
    connection.execute(_TOUCH, {"device_": device, "now_": now_ms})


def heard(connection: Connection, names: Sequence[str], now_ms: int) -> None:
    """Devices said something: news of those that were silent."""
    for some in portions(names):
        connection.execute(_HEARD_ALL, {"devices_": some, "now_": now_ms, "recheck_": LONGEST_MS})


def reported(connection: Connection, names: Sequence[str], bad: Sequence[str], now_ms: int) -> None:
    """Windows arrived.

    Args:
        names: Of the devices.
        bad: Those of whom the windows say something bad.
    """
    heard(connection, names, now_ms)
    for some in portions(bad):
        connection.execute(_BAD, {"devices_": some, "now_": now_ms, "before_": now_ms - AGAIN_MS})
