"""Changing the director's key: making the next, putting it in force, retiring those of before.

A change is a statement by the present director (`key_statements.say`), or by a publisher where that one is
stolen (`key_statements.take_in`): its word is worth nothing then. docs/decisions/0103 says who wins.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from sqlalchemy import Connection, case, func, select, update
from typing_extensions import TypedDict

from edge_contracts.keys import PrivateKey, PublicKey
from edge_fleet.access import key_statements, two_people
from edge_fleet.access.directors import add, present, read_directors
from edge_fleet.audit import record
from edge_fleet.errors import Conflict, Forbidden, NotFound
from edge_fleet.keys import forget_director, keep_director, put_director
from edge_fleet.model import Instant
from edge_fleet.schema import audit, devices, directors
from edge_fleet.services import Server

ASKED, DAY_MS = "director key retirement asked", 86_400_000
WAITING: Final = "waiting"
IN_FORCE: Final = "in force"
FORMER: Final = "former"
RETIRED: Final = "retired"
STRANGER: Final = "stranger"
DirectorState = Literal["waiting", "in force", "former", "retired", "stranger"]


class DirectorKey(TypedDict):
    """A key of the director.

    Args:
        public_key: Ed25519, 32 bytes in base64; "" for a stranger.
        state: A "stranger" is none of this server's, and devices obey it all the same.
        made_ms, made_by: Null for a stranger.
        since_ms: In force from then on; null while it waits.
        until_ms: When another took its place; null for the one in force.
        retired_ms: From then on it signs nothing; null while it may.
    """

    key_id: str
    public_key: str
    state: DirectorState
    made_ms: Instant | None
    made_by: str | None
    since_ms: Instant | None
    until_ms: Instant | None
    retired_ms: Instant | None


class DirectorObeyed(DirectorKey):
    """A key of the director, and who obeys it.

    Args:
        devices: That have said that they obey it.
        silent: That may obey it: they have not said whom they do.
    """

    devices: int
    silent: int


def make(services: Server, actor: str) -> DirectorKey:
    """The key that is to follow: a new one, or the one that waits already."""
    now_ms = services.now_ms()
    with services.store.write() as connection:
        waiting = connection.execute(_WAITING).first()
        if waiting is not None:
            return _shown(waiting)
        key = PrivateKey.generate()
        keep_director(services.home.keys, key)  # on the disk before anybody hears of it
        add(connection, key, actor, now_ms)
        record(connection, actor, "director key made", key.public.key_id, now_ms)
        made = _shown(connection.execute(_WAITING).one())
    _turn(services, key)
    return made


def rotate(services: Server, key_id: str, actor: str, reason: str) -> int:
    """Put the key that waits in force, by the word of the present one; returns the statement's counter.

    Raises:
        NotFound: No such key.
        Conflict: It does not wait.
        Forbidden: There is a two-person rule, and who made the key cannot put it in force.
    """
    now_ms = services.now_ms()
    with services.store.write() as connection:
        row = _row(connection, key_id)
        if row.since_ms is not None or row.retired_ms is not None:
            raise Conflict(f"{key_id} is {_state(row)}; make another (edge-fleet key new-director)")
        if two_people.rule(connection) is not None and row.made_by == actor[:64]:
            raise Forbidden(
                f"{actor} made {key_id}, and this server wants two people: somebody else must put it in "
                "force (edge-fleet key rotate-director)"
            )
        counter = key_statements.say(
            connection,
            present(connection, services.directors),
            services.config.fleet,
            actor,
            now_ms,
            director=PublicKey(row.public_key),
            reason=reason,
        )
    follow(services)
    return counter


def follow(services: Server) -> None:
    """Go by what the tables say now, as the last step of every change; a start does the same."""
    with services.store.read() as connection:
        held = read_directors(connection, services.directors.standing)
    if held.current.public != services.directors.current.public:
        put_director(services.home.keys, held.current)
    services.directors.take(held)


def retire(services: Server, key_id: str, actor: str, force: bool) -> int:
    """Let a key sign nothing any more, and remove it; returns how many devices depended on it.

    Raises:
        NotFound: No such key.
        Conflict: It is in force, or devices depend on it and `force` is not set.
        Forbidden: There is a two-person rule, and nobody else has asked for it within a day: this was noted.
    """
    now_ms = services.now_ms()
    with services.store.write() as connection:
        row = _row(connection, key_id)
        if row.retired_ms is not None:
            return 0
        if _state(row) == IN_FORCE:
            raise Conflict(f"{key_id} is in force; put another in its place (edge-fleet key rotate-director)")
        counted = next(one for one in _listed(connection) if one["key_id"] == key_id)
        left = int(counted["devices"] + counted["silent"])
        if left and not force:
            raise Conflict(
                f"{counted['devices']} devices obey {key_id}, and {counted['silent']} with an agent of "
                "before may: wait for them (edge-fleet key status), or force it; an agent of before then "
                "needs somebody at the device"
            )
        # one that waits was never obeyed: it may be put away at once, which a stolen one may need
        is_alone = (
            two_people.rule(connection) is not None
            and row.since_ms is not None
            and not _asked_by_another(connection, key_id, actor, force, now_ms)
        )
        if is_alone:
            record(connection, actor, ASKED, key_id, now_ms, devices=left, forced=force)
        else:
            connection.execute(
                update(directors).where(directors.c.key_id == key_id).values(retired_ms=now_ms)
            )
            record(connection, actor, "director key retired", key_id, now_ms, devices=left, forced=force)
            standing = {name: key for name, key in services.directors.standing.items() if name != key_id}
            held = read_directors(connection, standing)
    if is_alone:
        forced = " --force" if force else ""
        raise Forbidden(
            f"{actor} has asked for it, and this server wants two people: within a day somebody else "
            f"must retire {key_id}, too (edge-fleet key retire-director {key_id}{forced})"
        )
    services.directors.take(held)
    forget_director(services.home.keys, key_id)
    return left


def _asked_by_another(connection: Connection, key_id: str, actor: str, force: bool, now_ms: int) -> bool:
    """Whether somebody else has asked for the same lately; the audit log is where that stands."""
    asked = select(audit.c.detail).where(
        audit.c.action == ASKED,
        audit.c.subject == key_id,
        audit.c.actor != actor[:64],
        audit.c.at_ms > now_ms - DAY_MS,
    )
    # who has agreed that one is retired which nobody obeys has not agreed to more
    return any(bool(row.detail["forced"]) or not force for row in connection.execute(asked))


def listed(services: Server) -> list[DirectorObeyed]:
    """Every key, oldest first, with the devices that obey it; strangers that devices obey come last."""
    with services.store.read() as connection:
        return _listed(connection)


def _listed(connection: Connection) -> list[DirectorObeyed]:
    enrolled = devices.c.revoked_ms.is_(None)
    tells = func.sum(case((devices.c.tells_director, 1), else_=0))
    query = select(devices.c.director, func.count().label("all"), tells.label("told"))
    counts = {
        row.director: (int(row.told), int(row.all) - int(row.told))
        for row in connection.execute(query.where(enrolled).group_by(devices.c.director))
    }
    order = (directors.c.made_ms, directors.c.since_ms.is_(None), directors.c.since_ms)
    found: list[DirectorObeyed] = []
    silent = 0
    for row in connection.execute(select(directors).order_by(*order)):
        told, quiet = counts.pop(row.key_id, (0, 0))
        silent += quiet  # they may have followed since: who was in force later counts them too
        in_turn = row.since_ms is not None
        found.append({**_shown(row), "devices": told, "silent": silent if in_turn else 0})
    for name, (told, quiet) in sorted((n, c) for n, c in counts.items() if n is not None):
        strange: DirectorKey = {
            "key_id": name,
            "public_key": "",
            "state": STRANGER,
            "made_ms": None,
            "made_by": None,
            "since_ms": None,
            "until_ms": None,
            "retired_ms": None,
        }
        found.append({**strange, "devices": told, "silent": quiet})
    return found


_WAITING = (
    select(directors)
    .where(directors.c.since_ms.is_(None), directors.c.retired_ms.is_(None))
    .order_by(directors.c.made_ms.desc())
)


def _row(connection: Connection, key_id: str) -> Any:
    row = connection.execute(select(directors).where(directors.c.key_id == key_id)).one_or_none()
    if row is None:
        raise NotFound(f"no director's key {key_id!r:.80}; see edge-fleet key status")
    return row


def _state(row: Any) -> DirectorState:
    if row.retired_ms is not None:
        return RETIRED
    if row.since_ms is None:
        return WAITING
    return IN_FORCE if row.until_ms is None else FORMER


def _shown(row: Any) -> DirectorKey:
    return {
        "key_id": row.key_id,
        "public_key": PublicKey(row.public_key).base64,
        "state": _state(row),
        "made_ms": row.made_ms,
        "made_by": row.made_by,
        "since_ms": row.since_ms,
        "until_ms": row.until_ms,
        "retired_ms": row.retired_ms,
    }


def _turn(services: Server, key: PrivateKey) -> None:
    """Hold one more key."""
    with services.store.read() as connection:
        standing = {**services.directors.standing, key.public.key_id: key}
        services.directors.take(read_directors(connection, standing))
