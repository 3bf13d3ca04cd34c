"""What a device says of itself, hello and status, into the tables: state, epoch and assignment."""

from __future__ import annotations

from contextlib import suppress
from enum import Enum

from sqlalchemy import (
    JSON,
    Connection,
    Executable,
    String,
    bindparam,
    case,
    func,
    literal_column,
    select,
    text,
    update,
)

from edge_contracts.messages import CHAIN_START, DeviceState, Knows
from edge_fleet.assignment import TransitionInvalid
from edge_fleet.audit import record
from edge_fleet.orders import note_progress
from edge_fleet.schema import NEXT_DEVICE_CHANGE, devices, streams
from edge_fleet.schema.choice import choice_as_sql
from edge_fleet.standings.due import touch
from edge_fleet.store import insert_new


def _newer(dialect: str) -> Executable:
    told = text(f"({choice_as_sql(dialect, ':state', ':profile')})").bindparams(
        bindparam("state", type_=JSON), bindparam("profile", type_=JSON)
    )
    return (
        update(devices)
        .where(devices.c.id == bindparam("device_"), devices.c.state_n < bindparam("n_"))
        .values(
            state=bindparam("state"),
            state_n=bindparam("n_"),
            last_seen_ms=bindparam("last_seen_ms"),
            profile=bindparam("profile"),
            director=func.coalesce(bindparam("obeys", type_=String), devices.c.director),
            tells_director=bindparam("tells"),
            # nearly every word says again what rollouts choose by, and is nothing for them to look at
            change=case((literal_column("choice") == told, devices.c.change), else_=NEXT_DEVICE_CHANGE),
        )
        .returning(devices.c.epoch)
    )


class Word(Enum):
    """What a verified snapshot is to what is stored of its device."""

    OLD = "old"  # not newer than the last: not taken
    NEWS = "news"
    IN_TURNS = "in turns"  # taken, and there are two memories: see `_announce_epoch`


# built once: they are run for every word of a device, and building one costs more than running it
_NEWER = {dialect: _newer(dialect) for dialect in ("sqlite", "postgresql")}


def store_state(connection: Connection, state: DeviceState, now_ms: int) -> Word:
    """Store a verified snapshot, if it is newer than the one that is stored.

    That a device was heard, which is news where it was silent, is said of many at once: `intake.py`.
    """
    told = {
        "device_": state.device,
        "n_": state.n,
        "state": state.model_dump(mode="json", exclude={"next_key"}),
        "last_seen_ms": now_ms,
        "profile": list(state.profile),
        "obeys": state.obeys or None,
        "tells": Knows.DIRECTOR in state.knows,
    }
    changed = connection.execute(_NEWER[connection.dialect.name], told).one_or_none()
    if changed is None:
        return Word.OLD
    word = Word.NEWS
    if state.type == "hello":
        if changed.epoch != state.epoch:
            word = _announce_epoch(connection, state, changed.epoch, now_ms)
    else:
        touch(connection, state.device, now_ms)  # it says one when something changed
    if state.progress is not None:
        # a device cannot take back a refusal: what it said first stands
        with suppress(TransitionInvalid):
            note_progress(connection, state.device, state.progress, now_ms)
    return word


def _announce_epoch(connection: Connection, state: DeviceState, before: str | None, now_ms: int) -> Word:
    """Open the stream of a new epoch; a second one means that the device's memory was wiped.

    A device whose disk takes nothing speaks under an epoch of its memory and then under the older one again
    (docs/decisions/0123). Under the newer one after the older it never does: that is another, with its key.
    """
    own = streams.c
    rows = connection.execute(
        select(own.epoch, own.started_ms).where(
            own.device == state.device, own.epoch.in_([state.epoch, before])
        )
    )
    known = {row.epoch: row.started_ms for row in rows}
    in_turns = before in known and state.epoch in known and known[before] < known[state.epoch]
    word = Word.IN_TURNS if in_turns else Word.NEWS
    row = {
        "device": state.device,
        "epoch": state.epoch,
        "high": -1,
        "chain": CHAIN_START,
        "started_ms": now_ms,
    }
    insert_new(connection, streams, [row], ("device", "epoch"))
    connection.execute(update(devices).where(devices.c.id == state.device).values(epoch=state.epoch))
    if before is not None:
        record(
            connection,
            f"device/{state.device}",
            "telemetry epoch changed",
            state.device,
            now_ms,
            before=before,
            after=state.epoch,
        )
    return word
