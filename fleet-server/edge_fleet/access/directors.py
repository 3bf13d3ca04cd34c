"""The director's keys of a running server: which is in force, and which of them seals what a device is told.

    HOME/keys/director.pem          the one in force; other programs of this machine read it
    HOME/keys/directors/KEYID.pem   every one that is not retired, written before any row names it

Which is in force stands in one place, the table `directors`: a change is one transaction with the statement
that names it. What a crash leaves undone of the files, `begin` does at the next start.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, insert, select, update

from edge_contracts.keys import PrivateKey
from edge_fleet.audit import record
from edge_fleet.keys import forget_director, keep_director, put_director, read_keys
from edge_fleet.schema import devices, directors
from edge_fleet.storage.bulk import rows_of
from edge_fleet.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Held:
    """What is held at one moment.

    Args:
        order: Those that were in force, oldest first.
    """

    keys: Mapping[str, PrivateKey]
    current: str
    order: tuple[str, ...]


class Directors:
    """The keys; read from every thread, changed by `take`."""

    def __init__(self, keys: Mapping[str, PrivateKey], current: str, order: Sequence[str]) -> None:
        """Hold them.

        Args:
            order: Ids of those that were in force, oldest first, the present one last.
        """
        self._held = _Held(dict(keys), current, tuple(order))

    @staticmethod
    def only(key: PrivateKey) -> Directors:
        """One that never had another."""
        name = key.public.key_id
        return Directors({name: key}, name, (name,))

    @property
    def current(self) -> PrivateKey:
        """The one in force."""
        held = self._held
        return held.keys[held.current]

    @property
    def standing(self) -> Mapping[str, PrivateKey]:
        """All whose private half is here."""
        return self._held.keys

    def take(self, other: Directors) -> None:
        """Hold what another holds."""
        self._held = other._held

    def signers(self, connection: Connection, names: Sequence[str]) -> dict[str, tuple[PrivateKey, ...]]:
        """Who seals what these devices are told: each once by each of them.

        A device that says whom it obeys is told by that one; one that obeys somebody else by the one in
        force, which leads it back. An agent of before says nothing: it obeys who directed when it enrolled,
        or one after that, and passes over what is by the others.
        """
        held = self._held
        newest: tuple[PrivateKey, ...] = (held.keys[held.current],)
        found: dict[str, tuple[PrivateKey, ...]] = dict.fromkeys(names, newest)
        if len(held.order) == 1:
            return found
        columns = ("id", "director", "tells_director")
        for name, obeyed, tells in rows_of(connection, devices, ("id",), [(n,) for n in names], columns):
            if tells:
                found[name] = (held.keys[obeyed],) if obeyed in held.keys else newest
            elif obeyed in held.order:
                since = held.order[held.order.index(obeyed) :]
                found[name] = tuple(held.keys[one] for one in since if one in held.keys)
        return found


def read_directors(connection: Connection, keys: Mapping[str, PrivateKey]) -> Directors:
    """As the tables say, of those whose private half is here."""
    rows = connection.execute(
        select(directors.c.key_id, directors.c.until_ms)
        .where(directors.c.since_ms.is_not(None))
        .order_by(directors.c.since_ms, directors.c.until_ms.is_(None))
    ).all()
    current = next(row.key_id for row in rows if row.until_ms is None)
    return Directors(keys, current, [row.key_id for row in rows])


def present(connection: Connection, held: Directors) -> PrivateKey:
    """The one in force by the tables, which another thread may have changed a moment ago."""
    return read_directors(connection, held.standing).current


def begin(store: Store, folder: Path, now_ms: int) -> Directors:
    """Bring files and rows together at the start of a server.

    Args:
        folder: HOME/keys.

    Raises:
        HomeInvalid: A key cannot be read or written.
    """
    keys = read_keys(folder)
    keep_director(folder, keys.director)
    here = {**keys.directors, keys.director.public.key_id: keys.director}
    with store.write() as connection:
        rows = {row.key_id: row for row in connection.execute(select(directors))}
        retired = {name for name, row in rows.items() if row.retired_ms is not None}
        current = next((n for n, r in rows.items() if r.since_ms is not None and r.until_ms is None), None)
        for name in here.keys() - rows.keys():  # made, and the row was lost, or never written
            add(connection, here[name], "", now_ms)
        if current is None or current not in here:
            _enthrone(connection, keys.director.public.key_id, current, now_ms)
        held = read_directors(connection, {n: key for n, key in here.items() if n not in retired})
    if held.current.public != keys.director.public:
        put_director(folder, held.current)
    for name in retired & here.keys():
        forget_director(folder, name)
    return held


def add(connection: Connection, key: PrivateKey, actor: str, now_ms: int) -> None:
    """A row for a key whose file is on the disk."""
    connection.execute(
        insert(directors).values(
            key_id=key.public.key_id, public_key=key.public.raw, made_ms=now_ms, made_by=actor[:64]
        )
    )


def enforce(connection: Connection, key_id: str, now_ms: int) -> None:
    """Put a key in force in place of the present one."""
    in_force = directors.c.since_ms.is_not(None) & directors.c.until_ms.is_(None)
    connection.execute(update(directors).where(in_force).values(until_ms=now_ms))
    connection.execute(
        update(directors).where(directors.c.key_id == key_id).values(since_ms=now_ms, until_ms=None)
    )


def _enthrone(connection: Connection, key_id: str, lost: str | None, now_ms: int) -> None:
    """The home's key directs: of a new database, or of one whose director is not in this home."""
    enforce(connection, key_id, now_ms)
    if lost is None:
        connection.execute(update(devices).where(devices.c.director.is_(None)).values(director=key_id))
        return
    log.error("the director of this database is not in this home", extra={"lost": lost, "instead": key_id})
    record(connection, "local", "director lost", key_id, now_ms, lost=lost)
