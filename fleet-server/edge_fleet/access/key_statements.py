"""Signed statements about keys: made or taken in here, sent with every assignment, applied to our own list.

Who may say what is the contract's (`edge_contracts.trust`): the server's director key retires and revokes
publishers, and names the director after it; to add a publisher, or to replace a director that was stolen, a
publisher must sign (`edge-convert keys change`), for a server that could add publishers could make bundles.
A statement that names a director is followed here in the transaction that stores it. Devices follow them
in order; those that they know already do no harm. A device gets those that were made after it enrolled: the
enrolment itself told it the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NotRequired, cast

from sqlalchemy import ColumnElement, Connection, func, insert, or_, select, update
from typing_extensions import TypedDict

from edge_contracts.keys import PrivateKey, PublicKey, TrustedKeys
from edge_contracts.model import parse_object
from edge_contracts.trust import KeyStatement, open_keys, sign_keys
from edge_fleet.access.directors import enforce
from edge_fleet.audit import record
from edge_fleet.errors import Conflict, Forbidden, NotFound
from edge_fleet.model import Instant
from edge_fleet.schema import bundles, devices, directors, key_statements, publishers
from edge_fleet.storage.bulk import rows_of

# all of them travel with each assignment: a hundred are 60 kB, and a year's worth is a handful
MOST = 100


def say(
    connection: Connection,
    signer: PrivateKey,
    fleet: str,
    actor: str,
    now_ms: int,
    *,
    retire: Sequence[str] = (),
    revoke: Sequence[str] = (),
    stop: bool = False,
    director: PublicKey | None = None,
    reason: str = "",
) -> int:
    """Make a statement with the director's key; returns its counter.

    Args:
        signer: The director that is in force.
        director: The one that is to follow; its row waits.

    Raises:
        FormatInvalid: What is said is not the name of a key.
        NotFound: A key is not one of a publisher here.
        Conflict: It would leave no publisher, or says nothing new.
    """
    counter = _last_counter(connection, signer.public.key_id) + 1
    named = director.base64 if director else ""
    stated = {"retire": list(retire), "revoke": list(revoke), "stop": stop, "director": named}
    stated["reason"] = reason
    statement = parse_object(KeyStatement, {"fleet": fleet, "counter": counter, **stated}, "key statement")
    _keep(connection, statement, sign_keys(statement, signer), signer.public.key_id, actor, now_ms)
    return counter


def take_in(
    connection: Connection, envelope: bytes, director: PublicKey, fleet: str, actor: str, now_ms: int
) -> int:
    """Take a publisher's statement in, to hand it out; returns its counter.

    Raises:
        KeyUnknown, SignatureInvalid, FormatInvalid: No publisher that counts here has signed it.
        Forbidden: It is for another fleet, names a director that does not wait here, or says more than a
            publisher may that a director has retired or revoked.
        NotFound, Conflict: As `say`; or its counter is not above that of the last one of a publisher.
    """
    good, muted = _standing(connection), _muted(connection, director.key_id)
    statement, signer = open_keys(envelope, TrustedKeys.of((*good.values(), *muted.values())))
    if statement.fleet not in (None, fleet):
        raise Forbidden(f"the statement is for fleet {statement.fleet}, this one is {fleet}")
    if statement.director:
        _require_waiting(connection, PublicKey.from_base64(statement.director))
    if signer in muted and (not statement.director or statement.add or statement.retire or statement.revoke):
        raise Forbidden(f"publisher {signer} was retired or revoked: it may say who directs, and only that")
    last = _last_counter_of(connection, _publishers_of(connection, director.key_id, signer in muted, signer))
    if statement.counter <= last:
        raise Conflict(
            f"the statement has counter {statement.counter}, the last one had {last}; give a larger"
        )
    _keep(connection, statement, envelope, signer, actor, now_ms)
    return statement.counter


def for_devices(connection: Connection, names: Sequence[str]) -> dict[str, tuple[bytes, ...]]:
    """The statements that each of some devices may not know, oldest first; none is left out."""
    made = connection.execute(
        select(key_statements.c.made_ms, key_statements.c.envelope).order_by(key_statements.c.id)
    ).all()
    if not made:  # as in most fleets: nothing is asked of the devices
        return dict.fromkeys(names, ())
    rows = rows_of(connection, devices, ("id",), [(name,) for name in names], ("id", "enrolled_ms"))
    since = {row[0]: row[1] for row in rows}
    return {
        name: tuple(one.envelope for one in made if name in since and one.made_ms >= since[name])
        for name in names
    }


class StatementSaid(TypedDict):
    """What a statement says.

    Args:
        add: Ids of publishers to trust from now on.
        retire: Ids of publishers that sign nothing new.
        revoke: Ids of publishers that count for nothing.
        stop: Whether a device with nothing else stops answering with a bundle of a revoked key.
        director: Id of the director's key that follows.
    """

    add: list[str]
    retire: NotRequired[list[str]]
    revoke: NotRequired[list[str]]
    stop: NotRequired[bool]
    reason: NotRequired[str]
    director: NotRequired[str]


class StatementShown(TypedDict):
    """A statement about keys, as every device is told it.

    Args:
        signer: Id of the key that signed it.
        counter: Of the signer: grows with each.
        actor: Who had it made or handed it in.
    """

    id: int
    signer: str
    counter: int
    said: StatementSaid
    made_ms: Instant
    actor: str


def listed(connection: Connection) -> list[StatementShown]:
    """Every statement, oldest first, without its envelope."""
    columns = [column for column in key_statements.c if column.name != "envelope"]
    return [
        cast("StatementShown", dict(row))
        for row in connection.execute(select(*columns).order_by(key_statements.c.id)).mappings()
    ]


def require_signers(connection: Connection, counter: int) -> None:
    """Refuse a rollout of a release that devices would not install any more.

    Raises:
        Conflict: A bundle of it is signed by a key that was revoked.
    """
    row = connection.execute(
        select(bundles.c.profile, bundles.c.key_id)
        .join(publishers, publishers.c.key_id == bundles.c.key_id)
        .where(bundles.c.counter == counter, publishers.c.revoked_ms.is_not(None))
    ).first()
    if row is not None:
        raise Conflict(
            f"the bundle for {row.profile} is signed by {row.key_id}, which was revoked; "
            "publish it again with another key"
        )


def _keep(
    connection: Connection, statement: KeyStatement, envelope: bytes, signer: str, actor: str, now_ms: int
) -> None:
    # who can fill this up must not keep the director from being replaced
    most = 2 * MOST if statement.director else MOST
    if connection.execute(select(func.count()).select_from(key_statements)).scalar_one() >= most:
        raise Conflict(f"there are {most} statements about keys already; no device could take more at once")
    known = {row.key_id: row for row in connection.execute(select(publishers))}
    for key_id in (*statement.retire, *statement.revoke):
        if key_id not in known:
            raise NotFound(f"no publisher {key_id!r}; see edge-fleet trust list")
    added = {key.key_id: key for key in map(PublicKey.from_base64, statement.add)}
    again = sorted(key_id for key_id in added if key_id in known and known[key_id].revoked_ms is not None)
    if again:
        raise Conflict(f"publisher {again[0]} was revoked, and a revoked key does not come back")
    left = (set(_standing(connection)) | set(added)) - {*statement.retire, *statement.revoke}
    if not left and (statement.retire or statement.revoke):
        raise Conflict("that would leave no publisher, and devices would refuse it; add the new one first")
    for key_id, key in added.items():
        values = {"public_key": key.raw, "label": statement.reason[:128], "added_ms": now_ms}
        if key_id in known:
            connection.execute(
                update(publishers).where(publishers.c.key_id == key_id).values(retired_ms=None)
            )
        else:
            connection.execute(insert(publishers).values(key_id=key_id, **values))
    for column, names in (("retired_ms", statement.retire), ("revoked_ms", statement.revoke)):
        connection.execute(update(publishers).where(publishers.c.key_id.in_(names)).values({column: now_ms}))
    said = statement.model_dump(mode="json", include={"retire", "revoke", "stop", "reason"})
    said["add"] = sorted(added)
    if statement.director:
        said["director"] = PublicKey.from_base64(statement.director).key_id
        enforce(connection, said["director"], now_ms)
    connection.execute(
        insert(key_statements).values(
            envelope=envelope,
            signer=signer,
            counter=statement.counter,
            said=said,
            made_ms=now_ms,
            actor=actor[:64],
        )
    )
    record(connection, actor, "statement about keys", signer, now_ms, counter=statement.counter, **said)


def _standing(connection: Connection) -> dict[str, PublicKey]:
    """The publishers that are neither retired nor revoked."""
    query = select(publishers).where(publishers.c.retired_ms.is_(None), publishers.c.revoked_ms.is_(None))
    return {row.key_id: PublicKey(row.public_key) for row in connection.execute(query)}


def _muted(connection: Connection, director: str) -> dict[str, PublicKey]:
    """The publishers that only a director has retired or revoked: they may still say who directs."""
    directed = _directors(connection, director)
    against: set[str] = set()
    for signer, said in connection.execute(select(key_statements.c.signer, key_statements.c.said)):
        if signer not in directed:
            against |= {*said["retire"], *said["revoke"]}
    out = or_(publishers.c.retired_ms.is_not(None), publishers.c.revoked_ms.is_not(None))
    rows = connection.execute(select(publishers).where(out))
    return {row.key_id: PublicKey(row.public_key) for row in rows if row.key_id not in against}


def _require_waiting(connection: Connection, named: PublicKey) -> None:
    here = directors.c.key_id == named.key_id
    row = connection.execute(select(directors).where(here)).one_or_none()
    if row is None or row.since_ms is not None or row.retired_ms is not None:
        raise Forbidden(
            f"the statement names director {named.key_id}, which does not wait here; this server would not "
            "be obeyed any more: name the key of edge-fleet key new-director"
        )


def _directors(connection: Connection, present: str) -> set[str]:
    return {present, *connection.execute(select(directors.c.key_id)).scalars()}


def _last_counter(connection: Connection, director: str) -> int:
    """Of the statements of all directors: agents of before count them together."""
    return _last_counter_of(connection, key_statements.c.signer.in_(_directors(connection, director)))


def _publishers_of(connection: Connection, director: str, muted: bool, signer: str) -> ColumnElement[bool]:
    """Whose statements a publisher's counter must be above: all publishers', or its own when it is muted."""
    if muted:
        return key_statements.c.signer == signer
    return key_statements.c.signer.not_in(_directors(connection, director))


def _last_counter_of(connection: Connection, whose: ColumnElement[bool]) -> int:
    last = connection.execute(select(func.max(key_statements.c.counter)).where(whose)).scalar()
    return -1 if last is None else int(last)
