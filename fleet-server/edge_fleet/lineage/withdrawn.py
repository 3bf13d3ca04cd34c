"""Which releases are withdrawn, what their devices are told, and how far they have come with it.

A device is told with every assignment until its own word says that it has stored it
(`DeviceState.withdrawn`): so it does not matter what else was assigned to it meanwhile, nor which message was
lost.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, or_, select

from edge_contracts.messages import Knows
from edge_contracts.withdrawal import MOST, Withdrawn
from edge_fleet.lineage.stages import Event, Stage, last_word
from edge_fleet.schema import assignments, bundles, devices, release_steps, releases, standings

REASON = 300  # characters that the contract has for it
NAMED = 50  # devices that are named, of those that have not stopped


@dataclass(frozen=True)
class Waiting:
    """A device that may still answer with what is withdrawn.

    Args:
        answers: By its own last word it does.
    """

    device: str
    answers: bool
    why: str


@dataclass(frozen=True)
class Standing:
    """How far the devices of a withdrawn release have come.

    Args:
        devices: Those that were ever given it, or run it.
        stopped: Those that have stored the word.
        waiting: The others, those first that answer with it, and not all of very many.
    """

    at_ms: int
    actor: str
    why: str
    devices: int
    stopped: int
    waiting: tuple[Waiting, ...]


def words(connection: Connection, wanted: Sequence[str]) -> dict[str, Withdrawn]:
    """What to tell these devices, of those that know the word and have not stored the newest."""
    newest = last_word(connection)
    if not newest:
        return {}
    rows = connection.execute(
        select(devices.c.id, devices.c.profile, devices.c.state).where(devices.c.id.in_(wanted))
    )
    behind = [row for row in rows if knows(row.state) and told(row.state) < newest]
    if not behind:
        return {}
    gone = _withdrawn(connection)
    found = {}
    for row in behind:
        concerned = [one for one in gone if one.profile in row.profile]
        if concerned or told(row.state):
            found[row.id] = _word(newest, concerned)
    return found


def _word(n: int, gone: Sequence[Row[*tuple[Any, ...]]]) -> Withdrawn:
    reason = ""
    if gone:
        last = gone[-1]
        reason = f"{last.name} {last.version}" + (f": {last.why}" if last.why else "")
    return Withdrawn(n=n, bundles=tuple(one.digest for one in gone[-MOST:]), reason=reason[:REASON])


def _withdrawn(connection: Connection) -> Sequence[Row[*tuple[Any, ...]]]:
    """The bundles of every release that is withdrawn now, the latest last."""
    own, last = release_steps.c, select(func.max(release_steps.c.id)).group_by(release_steps.c.counter)
    return connection.execute(
        select(bundles.c.digest, bundles.c.profile, releases.c.name, releases.c.version, own.why)
        .join(releases, releases.c.counter == own.counter)
        .join(bundles, bundles.c.counter == own.counter)
        .where(own.id.in_(last), own.stage == Stage.WITHDRAWN)
        .order_by(own.at_ms, bundles.c.profile)
    ).all()


def knows(state: Mapping[str, Any] | None) -> bool:
    """Whether a device can be told."""
    return Knows.WITHDRAWN in ((state or {}).get("knows") or ())


def told(state: Mapping[str, Any] | None) -> int:
    """Number of the word that a device has stored."""
    return int((state or {}).get("withdrawn") or 0)


def concerned(connection: Connection, counter: int) -> list[str]:
    """Devices that were ever given a release, or run it: all that may hold a bundle of it."""
    return [row.id for row in _concerned(connection, counter)]


def _concerned(connection: Connection, counter: int) -> Sequence[Row[*tuple[Any, ...]]]:
    own = select(bundles.c.digest).where(bundles.c.counter == counter)
    given = select(assignments.c.device).where(assignments.c.bundle.in_(own))
    runs = select(standings.c.device).where(standings.c.bundle.in_(own))
    return connection.execute(
        select(devices.c.id, devices.c.state, devices.c.last_seen_ms)
        .where(devices.c.revoked_ms.is_(None), or_(devices.c.id.in_(given), devices.c.id.in_(runs)))
        .order_by(devices.c.id)
    ).all()


def standing(connection: Connection, counter: int) -> Standing | None:
    """How far a withdrawal has come; None when the release is not withdrawn."""
    own = release_steps.c
    steps = connection.execute(
        select(release_steps).where(own.counter == counter).order_by(own.id.desc())
    ).all()
    if not steps or steps[0].stage != Stage.WITHDRAWN:
        return None
    step = next(one for one in steps if one.event == Event.WITHDRAWN)
    digests = set(connection.execute(select(bundles.c.digest).where(bundles.c.counter == counter)).scalars())
    rows = _concerned(connection, counter)
    behind = [row for row in rows if told(row.state) < steps[0].at_ms]  # a further bundle is a further word
    waiting = sorted((_waiting(row, digests) for row in behind), key=lambda one: not one.answers)
    return Standing(
        step.at_ms, step.actor, step.why, len(rows), len(rows) - len(behind), tuple(waiting[:NAMED])
    )


def _waiting(row: Row[*tuple[Any, ...]], digests: Collection[Any]) -> Waiting:
    active = (row.state or {}).get("active") or {}
    answers = active.get("bundle") in digests
    if row.state is None:
        return Waiting(row.id, answers, "it never spoke")
    why = "has not said yet that it was told" if knows(row.state) else "its agent is too old to be told"
    return Waiting(row.id, answers, why)
