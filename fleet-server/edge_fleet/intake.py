"""Storing verified messages: one transaction for a batch, and what may be acknowledged after it.

Judging an envelope against its stream is `stream.py`; threads and the broker are `ingest.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from sqlalchemy import Connection, select

from edge_contracts.envelope import chain_value
from edge_contracts.messages import DeviceState, Event, Gap, Telemetry, Window
from edge_fleet.access.device_keys import bound, succeed
from edge_fleet.alerts.obedience import keep
from edge_fleet.device_state import Word, store_state
from edge_fleet.schema import devices, envelopes, events, forks, gaps, streams, windows
from edge_fleet.standings.due import heard
from edge_fleet.storage.bulk import insert_many, rows_of, update_many
from edge_fleet.storage.record_rows import (
    EVENT_COLUMNS,
    GAP_COLUMNS,
    WINDOW_COLUMNS,
    Where,
    event_row,
    gap_row,
    window_row,
)
from edge_fleet.store import insert_new
from edge_fleet.stream import Link, Position, Standing, advance, judge
from edge_fleet.verification import Refused, Verified

_AHEAD_PER_QUERY = 512
_ENVELOPE_COLUMNS = ("device", "epoch", "seq", "received_ms", "prev", "chain", "raw")

Stream = tuple[str, str]  # device and epoch
NOTHING = Position()


@dataclass
class Outcome:
    """What a batch did.

    Args:
        acks: Position by device and epoch, of every stream that was touched.
        greeted: Devices that said hello and wait for their assignment.
        changed: Devices whose state or assignment changed.
        refused: Messages that verified but were not believed.
        envelopes, records: Newly stored.
    """

    acks: dict[tuple[str, str], Position] = field(default_factory=dict)
    greeted: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    envelopes: int = 0
    records: int = 0


class _Item(msgspec.Struct, frozen=True):
    """An envelope of telemetry with what the chain needs."""

    stream: Stream
    message: Telemetry
    link: Link
    raw: bytes
    received_ms: int
    topic: str

    @property
    def where(self) -> Where:
        device, epoch = self.stream
        return device, epoch, self.message.seq, self.received_ms


@dataclass(frozen=True, slots=True)
class _Tail:
    """What the table says of a stream.

    Args:
        top: Its largest stored number, above the position after a hole.
        pruned_to: Numbers up to this were stored, acknowledged, and deleted after their time.
    """

    position: Position
    top: int
    pruned_to: int


def store_batch(connection: Connection, batch: Sequence[Verified]) -> Outcome:
    """Store what is new of a batch; everything in it is committed together.

    States come first: the hello that announces an epoch may be in the same batch as its envelopes.
    """
    outcome = Outcome()
    for verified in batch:
        if isinstance(verified.message, DeviceState):
            _take_state(connection, verified.message, verified, outcome)
    if outcome.greeted:
        names = list(dict.fromkeys(outcome.greeted))
        heard(connection, names, max(verified.received_ms for verified in batch))
    if outcome.acks:
        tails = _tails(connection, outcome.acks)
        outcome.acks.update((stream, tail.position) for stream, tail in tails.items())
    items = [
        _Item(
            (v.device, v.message.epoch),
            v.message,
            Link(v.message.prev, chain_value(v.raw)),
            v.raw,
            v.received_ms,
            v.topic,
        )
        for v in batch
        if isinstance(v.message, Telemetry)
    ]
    if items:
        _take_telemetry(connection, items, outcome)
    return outcome


def _take_state(connection: Connection, state: DeviceState, verified: Verified, outcome: Outcome) -> None:
    if verified.repeated:
        outcome.greeted.append(state.device)  # the assignment says which key counts
        return
    word = store_state(connection, state, verified.received_ms)
    if word is Word.OLD:
        detail = f"a {state.type} with number {state.n}"
        outcome.refused.append(Refused("replayed", state.device, detail, verified.topic, verified.raw))
        return
    if word is Word.IN_TURNS:  # it is taken: this may be the device itself, and it has no other epoch
        detail = f"a hello of epoch {state.epoch}, after one of an older epoch that it had followed"
        outcome.refused.append(Refused("two-memories", state.device, detail, verified.topic, verified.raw))
    outcome.changed.append(state.device)
    keep(connection, state, verified.topic, verified.raw, verified.received_ms)
    if verified.next_key is not None and verified.key is not None:
        refusal = succeed(connection, state.device, verified.key, verified.next_key, verified.received_ms)
        if refusal:
            outcome.refused.append(
                Refused("key-refused", state.device, refusal, verified.topic, verified.raw)
            )
        outcome.greeted.append(state.device)
    elif verified.rekeyed and verified.key is not None:
        bound(connection, state.device, verified.key, state.epoch, state.next_seq)
    if state.type == "hello":
        outcome.greeted.append(state.device)
        outcome.acks[state.device, state.epoch] = NOTHING  # how far it is stored is asked for all at once


def _take_telemetry(connection: Connection, items: Sequence[_Item], outcome: Outcome) -> None:
    tails = _tails(connection, {item.stream for item in items})
    known = _known(connection, items, tails)
    fresh: dict[Stream, list[_Item]] = {}
    for item in items:
        stream, seq = item.stream, item.message.seq
        if stream not in tails:
            detail = f"envelope {seq} of epoch {stream[1]}, which no hello announced"
            outcome.refused.append(Refused("epoch-unannounced", stream[0], detail))
            continue
        links = known[stream]
        if seq <= tails[stream].pruned_to and seq not in links:
            outcome.acks[stream] = tails[stream].position  # an old acknowledgement was lost
            continue
        standing = judge(seq, item.link, links.get(seq), links.get(seq - 1), links.get(seq + 1))
        if standing is Standing.NEW:
            links[seq] = item.link
            fresh.setdefault(stream, []).append(item)
        elif standing is not Standing.DUPLICATE:
            if standing is Standing.FORK:
                _keep_fork(connection, item)
            detail = f"envelope {seq} of epoch {stream[1]}"
            outcome.refused.append(Refused(standing, stream[0], detail, item.topic, item.raw))
        # also of what is refused: a device whose memory was set back learns by it that it must begin anew
        outcome.acks[stream] = tails[stream].position
    latest_ms = max(item.received_ms for item in items)
    heard = dict.fromkeys(item.stream[0] for item in items)
    update_many(connection, devices, ("id",), ("last_seen_ms",), [(latest_ms, device) for device in heard])
    new = [item for stream in fresh.values() for item in stream]
    _insert(connection, new)
    outcome.envelopes = len(new)
    outcome.records = sum(len(item.message.recs) for item in new)
    moved = []
    for stream, stream_items in fresh.items():
        tail = tails[stream]
        position = _complete(connection, stream, tail.position, stream_items, known[stream])
        outcome.acks[stream] = position
        top = max(tail.top, *(item.message.seq for item in stream_items), -1)
        moved.append((position.high, position.chain, top, *stream))
    update_many(connection, streams, ("device", "epoch"), ("high", "chain", "top"), moved)


def _tails(connection: Connection, wanted: Iterable[Stream]) -> dict[Stream, _Tail]:
    """Of those streams that a hello has announced."""
    columns = ("device", "epoch", "high", "chain", "top", "pruned_to")
    rows = rows_of(connection, streams, ("device", "epoch"), list(wanted), columns)
    return {(row[0], row[1]): _Tail(Position(row[2], row[3]), row[4], row[5]) for row in rows}


def _known(
    connection: Connection, items: Iterable[_Item], tails: Mapping[Stream, _Tail]
) -> dict[Stream, dict[int, Link]]:
    """Of each stream the stored envelopes under the items' own numbers and those next to them.

    A stream without a hole, whose items go on where it ends, needs no look at what is stored: its last
    link is in the table of streams. That is nearly every one.
    """
    numbers: dict[Stream, list[int]] = {}
    for item in items:
        numbers.setdefault(item.stream, []).append(item.message.seq)
    known: dict[Stream, dict[int, Link]] = {}
    wanted: set[tuple[str, str, int]] = set()
    for stream, found in numbers.items():
        tail = tails.get(stream)
        known[stream] = {}
        if tail is None:
            continue
        high = tail.position.high
        if tail.top == high and found == list(range(high + 1, high + 1 + len(found))):
            if high >= 0:
                known[stream][high] = Link(b"", tail.position.chain)
        else:
            wanted |= {(*stream, seq + step) for seq in found for step in (-1, 0, 1)}
    columns = ("device", "epoch", "seq", "prev", "chain")
    for row in rows_of(connection, envelopes, ("device", "epoch", "seq"), sorted(wanted), columns):
        known[(row[0], row[1])][row[2]] = Link(row[3], row[4])
    return known


def _complete(
    connection: Connection,
    stream: Stream,
    position: Position,
    new: Sequence[_Item],
    known: Mapping[int, Link],
) -> Position:
    """Move a stream's position on, without asking the database in the usual case of no holes."""
    start = position
    while (link := known.get(position.high + 1)) is not None:
        position = Position(position.high + 1, link.chain)
    numbers = {item.message.seq for item in new}
    # `known` reaches one beyond each new envelope: a run that ends on a stored one may go on
    may_go_on = position != start and position.high not in numbers
    has_hole = max(numbers) > position.high
    has_gap = any(isinstance(record, Gap) for item in new for record in item.message.recs)
    if not (may_go_on or has_hole or has_gap):
        return position
    lost = [
        (row.first_seq, row.last_seq)
        for row in connection.execute(
            select(gaps.c.first_seq, gaps.c.last_seq).where(
                gaps.c.device == stream[0], gaps.c.epoch == stream[1], gaps.c.last_seq > position.high
            )
        )
    ]
    while True:
        rows = connection.execute(
            select(envelopes.c.seq, envelopes.c.chain)
            .where(
                envelopes.c.device == stream[0],
                envelopes.c.epoch == stream[1],
                envelopes.c.seq > position.high,
            )
            .order_by(envelopes.c.seq)
            .limit(_AHEAD_PER_QUERY)
        ).all()
        moved = advance(position, [(row.seq, row.chain) for row in rows], lost)
        if moved == position:
            return position
        position = moved


def _insert(connection: Connection, items: Sequence[_Item]) -> None:
    """Rows of envelopes that were judged to be new, by the only writer: no key of theirs is taken."""
    window_rows, event_rows, gap_rows = [], [], []
    envelope_rows = []
    for item in items:
        where = item.where
        envelope_rows.append((*where, item.link.prev, item.link.chain, item.raw))
        for record in item.message.recs:
            if isinstance(record, Window):
                window_rows.append(window_row(where, record))
            elif isinstance(record, Event):
                event_rows.append(event_row(where, record))
            else:
                gap_rows.append(gap_row(where, record))
    insert_many(connection, envelopes, _ENVELOPE_COLUMNS, envelope_rows)
    insert_many(connection, windows, WINDOW_COLUMNS, window_rows)
    insert_many(connection, events, EVENT_COLUMNS, event_rows)
    insert_many(connection, gaps, GAP_COLUMNS, gap_rows)


def _keep_fork(connection: Connection, item: _Item) -> None:
    device, epoch, seq, received_ms = item.where
    row = {
        "device": device,
        "epoch": epoch,
        "seq": seq,
        "received_ms": received_ms,
        "chain": item.link.chain,
        "raw": item.raw,
    }
    insert_new(connection, forks, [row], ("device", "epoch", "seq", "chain"))
