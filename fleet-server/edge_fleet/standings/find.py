"""Finding devices: searched, narrowed, sorted and counted by the database, one page at a time.

The fleet is never read as a whole. Health, profile, model and "not on its first choice" are looked up in
indexes; a word is looked for in one narrow column; only the figures are sorted without an index, of which
the database keeps no more than a page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, func, select

from edge_fleet.schema import assignments, bundles, devices, releases, standings
from edge_fleet.standings.condition import ORDER, Health

SIZES = (25, 50, 100, 200)
COUNTED = 10_000  # how far what fits is counted; beyond, it is "more than"
FEW = 500  # as many names as every database takes in one question
_own = standings.c

# what a page may be sorted by: the columns, in order; the device's name settles the rest
SORTS: dict[str, tuple[ColumnElement[Any], ...]] = {
    "urgency": (_own.rank,),
    "name": (),
    "profile": (_own.profile,),
    "model": (_own.model,),
    "longest": (_own.since_ms,),
    "latest": (_own.since_ms.desc(),),
    "inferences": (_own.inferences.desc(),),
    "faults": (_own.faults.desc(),),
    "p95": (func.coalesce(_own.p95_ms, -1.0).desc(),),
    "drift": (func.coalesce(_own.distance, -1.0).desc(),),
}


@dataclass(frozen=True)
class Wanted:
    """What a page of devices is narrowed to and sorted by; "" does not narrow.

    Args:
        text: Words, each part of the name, a label (KEY=VALUE), a profile, model, bundle or runtime.
        degraded: Only those that are not on their profile's first choice.
        sort: One of SORTS.
    """

    text: str = ""
    health: str = ""
    profile: str = ""
    model: str = ""
    degraded: bool = False
    sort: str = "urgency"
    page: int = 1
    size: int = 50


@dataclass(frozen=True)
class Found:
    """One page.

    Args:
        rows: Of `standings`, with `labels`, `last_seen_ms` and `revoked_ms` of the device.
        matching: How many fit in all, at most COUNTED.
        more: Whether there are more than that.
        pages: By that count.
    """

    rows: Sequence[Row[Any]]
    matching: int
    more: bool
    page: int
    pages: int


def find(connection: Connection, wanted: Wanted) -> Found:
    """One page of devices; a page beyond the last is the last."""
    fitting = _narrowed(select(_own.device), wanted)
    some = list(connection.execute(fitting.limit(COUNTED + 1)).scalars())
    matching = min(len(some), COUNTED)
    pages = max(1, -(-matching // wanted.size))
    page = min(max(1, wanted.page), pages)
    # first which devices, by narrow rows alone; then what else is to be shown of those few. Words that few
    # have are not looked for a second time; those that many have are found soon in any order.
    chosen = fitting if len(some) > FEW else select(_own.device).where(_own.device.in_(some))
    chosen = chosen.order_by(*SORTS[wanted.sort], _own.device)
    names = list(connection.execute(chosen.limit(wanted.size).offset((page - 1) * wanted.size)).scalars())
    query = (
        select(standings, devices.c.labels, devices.c.last_seen_ms, devices.c.revoked_ms)
        .join(devices, devices.c.id == _own.device)
        .where(_own.device.in_(names))
    )
    rows = {row.device: row for row in connection.execute(query)}
    return Found([rows[name] for name in names], matching, len(some) > COUNTED, page, pages)


def by_health(connection: Connection) -> dict[Health, int]:
    """How many devices there are of each health, the urgent first."""
    rows = connection.execute(select(_own.rank, func.count().label("n")).group_by(_own.rank))
    counted = {row.rank: row.n for row in rows}
    return {health: counted[rank] for rank, health in enumerate(ORDER) if rank in counted}


def by_model(connection: Connection) -> dict[str, int]:
    """How many devices run each model, the most first; "" for none."""
    counted = func.count().label("n")
    query = select(_own.model, counted).group_by(_own.model).order_by(counted.desc(), _own.model)
    return {row.model: row.n for row in connection.execute(query)}


def by_bundle(connection: Connection, digests: Sequence[str]) -> dict[str, int]:
    """How many devices run each of these bundles."""
    query = select(_own.bundle, func.count().label("n")).where(_own.bundle.in_(digests)).group_by(_own.bundle)
    return {row.bundle: row.n for row in connection.execute(query)}


def by_profile(connection: Connection) -> dict[str, int]:
    """How many devices there are of each nearest profile, by name."""
    query = select(_own.profile, func.count().label("n")).group_by(_own.profile).order_by(_own.profile)
    return {row.profile: row.n for row in connection.execute(query)}


def degraded(connection: Connection) -> int:
    """How many devices are not on their profile's first choice."""
    counted = select(func.count()).select_from(standings).where(_own.degraded == 1)
    return connection.execute(counted).scalar_one()


def newest_assignments(connection: Connection, names: Sequence[str]) -> dict[str, Any]:
    """Of some devices what each was given last: phase, code, detail, rollout, name and version."""
    own = assignments.c
    rows = connection.execute(
        select(
            own.device,
            own.number,
            own.bundle,
            own.phase,
            own.code,
            own.detail,
            own.rollout,
            releases.c.name.label("release_name"),
            releases.c.version.label("release_version"),
        )
        .outerjoin(bundles, bundles.c.digest == own.bundle)
        .outerjoin(releases, releases.c.counter == bundles.c.counter)
        .where(own.device.in_(names))
        .order_by(own.device, own.number)
    )
    return {row.device: row for row in rows}


def _narrowed(query: Select[Any], wanted: Wanted) -> Select[Any]:
    for word in wanted.text.lower().split():
        query = query.where(_own.words.contains(word, autoescape=True))
    if wanted.health:
        ranks = [rank for rank, health in enumerate(ORDER) if health == wanted.health]
        query = query.where(_own.rank.in_(ranks))
    if wanted.profile:
        query = query.where(_own.profile == wanted.profile)
    if wanted.model:
        query = query.where(_own.model == wanted.model)
    if wanted.degraded:
        query = query.where(_own.degraded == 1)
    return query
