"""How many devices of a rollout stand how: kept in a table, so that nobody counts 100,000 of them.

Whoever changes a device of a rollout says from which kind to which it moves (`moved`), in the transaction
that changes it. What moved is added up and stored once, at the transaction's end: a stage that begins 50,000
devices changes a handful of rows, and not the same row 50,000 times, which PostgreSQL would keep each time
until the commit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Executable, delete, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from edge_fleet.schema import rollout_counts, rollout_members
from edge_fleet.storage.portions import portions
from edge_fleet.store import at_end


class Kind(NamedTuple):
    """Devices that are counted together.

    Args:
        standing: In a word: standing.Standing, or standing.GONE.
        state: Of the assignment that brings the release: assignment.State.
        returns: Whether there is something that it would go back to.
    """

    rollout: str
    stage: int
    standing: str
    state: str
    returns: bool


_own = rollout_counts.c
_KEY = [column.name for column in rollout_counts.primary_key]
_moves: WeakKeyDictionary[Connection, Counter[Kind]] = WeakKeyDictionary()


def moved(connection: Connection, was: Kind | None, now: Kind) -> None:
    """Note that a device is of another kind from now on, or is reached only now."""
    moves = _moves.get(connection)
    if moves is None:
        moves = _moves[connection] = Counter()
        at_end(connection, _store)
    if was is not None:
        moves[was] -= 1
    moves[now] += 1


def counted(connection: Connection, rollouts: Iterable[str]) -> dict[Kind, int]:
    """The kinds of devices that these rollouts have, each with how many there are."""
    _store(connection)  # of a transaction that asks about its own changes
    found: dict[Kind, int] = {}
    for portion in portions(list(rollouts)):
        query = select(rollout_counts).where(_own.rollout.in_(portion), _own.devices > 0)
        for row in connection.execute(query):
            kind = Kind(row.rollout, row.stage, row.standing, row.state, bool(row.returns))
            found[kind] = row.devices
    return found


def recount(connection: Connection) -> None:
    """Count every device again; for rows that were written by other means than this package's."""
    _moves.pop(connection, None)
    member = rollout_members.c
    kind = (member.rollout, member.stage, member.standing, member.state, member.previous.is_not(None))
    connection.execute(delete(rollout_counts))
    every = select(*kind, func.count()).group_by(*kind)
    connection.execute(insert(rollout_counts).from_select([*_KEY, "devices"], every))


def _store(connection: Connection) -> None:
    """Add what moved in this transaction to what is stored."""
    moves = _moves.pop(connection, None) or Counter()
    rows = [{**kind._asdict(), "devices": devices} for kind, devices in moves.items() if devices]
    if rows:
        connection.execute(_ADD[connection.dialect.name], rows)


def _add(dialect: Any) -> Executable:
    statement = dialect.insert(rollout_counts)
    more = {"devices": _own.devices + statement.excluded.devices}
    added: Executable = statement.on_conflict_do_update(index_elements=_KEY, set_=more)
    return added


_ADD = {"sqlite": _add(sqlite), "postgresql": _add(postgresql)}
