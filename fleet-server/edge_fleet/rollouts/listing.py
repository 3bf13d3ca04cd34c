"""Rollouts a page at a time, found and counted by the database."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, func, or_, select

from edge_fleet.rollouts.phases import ENDED, Phase
from edge_fleet.rollouts.progress import Counts, count
from edge_fleet.rollouts.rows import Rollout, load_these
from edge_fleet.schema import releases, rollouts


@dataclass(frozen=True)
class Wanted:
    """What a list is narrowed to.

    Args:
        text: A part of the id, the release, the maker or the reason; "" does not narrow.
    """

    phases: Collection[Phase] = tuple(Phase)
    text: str = ""


GROUPS: dict[str, frozenset[Phase]] = {
    "open": frozenset(Phase) - ENDED,
    "ended": ENDED,
    "all": frozenset(Phase),
}


def page(
    connection: Connection, wanted: Wanted, offset: int, most: int
) -> tuple[int, list[tuple[Rollout, Counts]]]:
    """How many rollouts fit, and some of them with the counts of their devices, newest first."""
    own = rollouts.c
    query = select(own.id).join(releases, releases.c.counter == own.counter)
    query = query.where(own.phase.in_(sorted(wanted.phases)))
    for word in wanted.text.split():
        name = releases.c.name + "@" + releases.c.version
        parts = (own.id, name, own.created_by, own.why)
        query = query.where(or_(*(part.icontains(word, autoescape=True) for part in parts)))
    total = connection.execute(select(func.count()).select_from(query.subquery())).scalar_one()
    ordered = query.order_by(own.created_ms.desc(), own.id.desc()).offset(offset).limit(most)
    ids = list(connection.execute(ordered).scalars())
    counts = count(connection, ids)
    found = {rollout.id: rollout for rollout in load_these(connection, ids)}
    return total, [(found[name], counts[name]) for name in ids]
