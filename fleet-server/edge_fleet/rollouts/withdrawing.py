"""Withdrawing a release: whatever runs it stops, and nobody gets it any more, until it is reopened.

All of it is one transaction: the release's stage, the rollouts that bring it, and the audit log. What devices
are told, and how it is known that they have stopped, is `lineage/withdrawn.py`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from edge_fleet.audit import record
from edge_fleet.lineage import stages
from edge_fleet.lineage.find import require_release
from edge_fleet.lineage.withdrawn import concerned
from edge_fleet.rollouts import rows
from edge_fleet.rollouts.looking import look_for
from edge_fleet.rollouts.phases import RETURNING, WATCHED, Event, Phase
from edge_fleet.rollouts.rows import Rollout
from edge_fleet.rollouts.storing import announce, move
from edge_fleet.services import Services

# a draft cannot begin any more; what goes back goes on
_ENDS = (WATCHED | {Phase.PAUSED}) - RETURNING


@dataclass(frozen=True)
class Withdrawal:
    """What was done.

    Args:
        devices: Those that are told.
        rollouts: Those that were aborted.
    """

    counter: int
    devices: tuple[str, ...]
    rollouts: tuple[str, ...]


def withdraw(services: Services, release: str, actor: str, why: str) -> Withdrawal:
    """Have every device stop answering with a release, and abort what brings it.

    Raises:
        NotFound: It has not been published.
        Conflict: It is withdrawn already.
    """
    now_ms = services.now_ms()
    said = f"its release was withdrawn by {actor}" + (f": {why}" if why else "")
    ended: list[tuple[Rollout, list[str]]] = []
    with services.store.write() as connection:
        counter = require_release(connection, release)
        stages.note(connection, counter, stages.Event.WITHDRAWN, actor, now_ms, why)
        for found in at_work(connection, counter):
            view = look_for(connection, found, Event.ABORTED, now_ms)
            ended.append((found, move(connection, found, view, Event.ABORTED, actor, said, now_ms)))
            record(connection, actor, f"rollout {Event.ABORTED}", found.id, now_ms, why=said)
        devices = concerned(connection, counter)
    for rollout, sent in ended:
        announce(services, rollout, Event.ABORTED, said, sent)
    services.dispatch.soon(devices)
    services.bus.publish("release", counter=counter)
    return Withdrawal(counter, tuple(devices), tuple(rollout.id for rollout, _ in ended))


def at_work(connection: Connection, counter: int) -> list[Rollout]:
    """The rollouts of a release that a withdrawal aborts."""
    return [found for found in rows.load_all(connection, _ENDS) if found.counter == counter]
