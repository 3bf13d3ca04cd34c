"""Deleting windows and envelopes after their time, a few at a time, so that ingest hardly waits.

Kept for ever: sums (`rollups.py`), events, gaps, forks with the envelope that each contradicts, and for
each stream the chain value of the last envelope that went. The rest of the chain still follows from it,
and whoever has an export of what was deleted can show that it is what the server had: the values chain.

The newest row of a table is kept until another has come: SQLite gives the number of a last row that went
to the next one, and who follows a table by its numbers (sums, verified telemetry) would pass that over.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, Row, and_, delete, select, tuple_, update

from edge_fleet.schema import envelopes, forks, streams, windows
from edge_fleet.storage.rollups import rolled_up_to
from edge_fleet.telemetry import last_id

ROWS_PER_STEP = 500
STREAMS_PER_STEP = 50

Stream = tuple[str, str]  # device and epoch
FIRST: Stream = ("", "")


@dataclass(frozen=True)
class Pruned:
    """What a step did, and where the next one goes on; None: every stream was looked at."""

    envelopes: int
    after: Stream | None


def prune_windows(connection: Connection, before_ms: int, most: int = ROWS_PER_STEP) -> int:
    """Delete the oldest windows that arrived before a time and are in the sums; returns how many.

    The last one that was summed stays: those that come have numbers above it.
    """
    oldest = list(
        connection.execute(select(windows.c.id, windows.c.received_ms).order_by(windows.c.id).limit(most))
    )
    summed = rolled_up_to(connection)
    gone = [row.id for row in oldest if row.received_ms < before_ms and row.id < summed]
    connection.execute(delete(windows).where(windows.c.id.in_(gone)))
    return len(gone)


def prune_envelopes(
    connection: Connection,
    before_ms: int,
    after: Stream = FIRST,
    most: int = ROWS_PER_STEP,
    streams_at_once: int = STREAMS_PER_STEP,
) -> Pruned:
    """Delete the beginnings of the next streams, as far as they arrived before a time.

    What is beyond a hole stays: a device may still fill it, and the acknowledged position must not point
    at nothing. Nor does a chain get holes of ours: it is cut from its beginning only.
    """
    page = connection.execute(
        select(streams)
        .where(tuple_(streams.c.device, streams.c.epoch) > tuple_(*after))
        .order_by(streams.c.device, streams.c.epoch)
        .limit(streams_at_once)
    ).all()
    count = 0
    newest = last_id(connection)
    for stream in page:
        # the one at `high` stays: it is what the next envelope follows from
        count += _cut(connection, stream, before_ms, newest, most - count)
        if count >= most:
            return Pruned(count, after)
        after = (stream.device, stream.epoch)
    return Pruned(count, after if page else None)


def _cut(
    connection: Connection, stream: Row[tuple[object, ...]], before_ms: int, newest: int, most: int
) -> int:
    """Delete the first envelopes of one stream; returns how many were passed."""
    own = envelopes.c
    here = and_(own.device == stream.device, own.epoch == stream.epoch)
    first = connection.execute(
        select(own.id, own.seq, own.received_ms)
        .where(here, own.seq > stream.pruned_to, own.seq < stream.high)
        .order_by(own.seq)
        .limit(most)
    )
    last: int | None = None
    passed = 0
    for row in first:
        if row.received_ms >= before_ms or row.id == newest:
            break
        last = row.seq
        passed += 1
    if last is None:
        return 0
    contradicted = select(forks.c.seq).where(forks.c.device == stream.device, forks.c.epoch == stream.epoch)
    connection.execute(
        delete(envelopes).where(
            here, own.seq > stream.pruned_to, own.seq <= last, own.seq.not_in(contradicted)
        )
    )
    connection.execute(
        update(streams)
        .where(streams.c.device == stream.device, streams.c.epoch == stream.epoch)
        .values(pruned_to=last)
    )
    return passed
