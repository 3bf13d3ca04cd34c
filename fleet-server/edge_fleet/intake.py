"""Storing verified messages: one transaction for a batch, and what may be acknowledged after it.

Judging an envelope against its stream is `stream.py`; threads and the broker are `ingest.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Table, insert, select, tuple_, update

from edge_contracts.messages import DeviceState, Event, Gap, Telemetry, Window, chain_value
from edge_fleet.device_state import store_state
from edge_fleet.schema import devices, envelopes, events, forks, gaps, streams, windows
from edge_fleet.store import insert_new
from edge_fleet.stream import Link, Position, Standing, advance, judge
from edge_fleet.verification import Refused, Verified

_KEYS_PER_QUERY = 300  # below every SQLite's limit of variables, three for each key
_AHEAD_PER_QUERY = 512
_TABLES: dict[type, Table] = {Window: windows, Event: events, Gap: gaps}
_COLUMNS = {kind: frozenset(table.columns.keys()) for kind, table in _TABLES.items()}
_REASONS = ("errors", "refused", "flagged", "unserved")
# columns of `windows` that hold a field as it is
_PLAIN = [name for name in Window.model_fields if name in _COLUMNS[Window]]


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


@dataclass(frozen=True)
class _Item:
    """An envelope of telemetry with what the chain needs."""

    device: str
    message: Telemetry
    link: Link
    raw: bytes
    received_ms: int

    @property
    def stream(self) -> tuple[str, str]:
        return self.device, self.message.epoch


def store_batch(connection: Connection, batch: Sequence[Verified]) -> Outcome:
    """Store what is new of a batch; everything in it is committed together.

    States come first: the hello that announces an epoch may be in the same batch as its envelopes.
    """
    outcome = Outcome()
    for verified in batch:
        if isinstance(verified.message, DeviceState):
            _take_state(connection, verified.message, verified.received_ms, outcome)
    items = [
        _Item(v.device, v.message, Link(v.message.prev, chain_value(v.raw)), v.raw, v.received_ms)
        for v in batch
        if isinstance(v.message, Telemetry)
    ]
    if items:
        _take_telemetry(connection, items, outcome)
    return outcome


def _take_state(connection: Connection, state: DeviceState, received_ms: int, outcome: Outcome) -> None:
    if not store_state(connection, state, received_ms):
        outcome.refused.append(Refused("replayed", state.device, f"a {state.type} with number {state.n}"))
        return
    outcome.changed.append(state.device)
    if state.type == "hello":
        outcome.greeted.append(state.device)
        stream = state.device, state.epoch
        outcome.acks[stream] = _positions(connection, [stream])[stream]


def _take_telemetry(connection: Connection, items: Sequence[_Item], outcome: Outcome) -> None:
    positions = _positions(connection, {item.stream for item in items})
    known = _stored_around(connection, items)
    fresh: dict[tuple[str, str], list[_Item]] = {}
    for item in items:
        if item.stream not in positions:
            detail = f"envelope {item.message.seq} of epoch {item.message.epoch}, which no hello announced"
            outcome.refused.append(Refused("epoch-unannounced", item.device, detail))
            continue
        seq = item.message.seq
        same, before, after = (known.get((*item.stream, n)) for n in (seq, seq - 1, seq + 1))
        standing = judge(seq, item.link, same, before, after)
        if standing is Standing.NEW:
            known[(*item.stream, seq)] = item.link
            fresh.setdefault(item.stream, []).append(item)
        elif standing is not Standing.DUPLICATE:
            if standing is Standing.FORK:
                _keep_fork(connection, item)
            detail = f"envelope {seq} of epoch {item.message.epoch}"
            outcome.refused.append(Refused(standing, item.device, detail))
            continue
        outcome.acks[item.stream] = positions[item.stream]
    heard = {item.device for item in items}
    latest_ms = max(item.received_ms for item in items)
    connection.execute(update(devices).where(devices.c.id.in_(heard)).values(last_seen_ms=latest_ms))
    new = [item for stream in fresh.values() for item in stream]
    _insert(connection, new)
    outcome.envelopes = len(new)
    outcome.records = sum(len(item.message.recs) for item in new)
    for stream, stream_items in fresh.items():
        position = _complete(connection, stream, positions[stream], stream_items, known)
        outcome.acks[stream] = position
        connection.execute(
            update(streams)
            .where(streams.c.device == stream[0], streams.c.epoch == stream[1])
            .values(high=position.high, chain=position.chain)
        )


def _positions(connection: Connection, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Position]:
    """Of those streams that a hello has announced."""
    columns = (streams.c.device, streams.c.epoch)
    return {
        (row.device, row.epoch): Position(row.high, row.chain)
        for keys in _portions(list(wanted))
        for row in connection.execute(select(streams).where(tuple_(*columns).in_(keys)))
    }


def _stored_around(connection: Connection, items: Iterable[_Item]) -> dict[tuple[str, str, int], Link]:
    """The stored envelopes under the items' own numbers and those next to them."""
    wanted = {(*item.stream, item.message.seq + step) for item in items for step in (-1, 0, 1)}
    columns = (envelopes.c.device, envelopes.c.epoch, envelopes.c.seq)
    return {
        (row.device, row.epoch, row.seq): Link(row.prev, row.chain)
        for keys in _portions(sorted(wanted))
        for row in connection.execute(
            select(*columns, envelopes.c.prev, envelopes.c.chain).where(tuple_(*columns).in_(keys))
        )
    }


def _complete(
    connection: Connection,
    stream: tuple[str, str],
    position: Position,
    new: Sequence[_Item],
    known: Mapping[tuple[str, str, int], Link],
) -> Position:
    """Move a stream's position on, without asking the database in the usual case of no holes."""
    start = position
    while (link := known.get((*stream, position.high + 1))) is not None:
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
    insert_new(
        connection,
        envelopes,
        [
            {
                **_where(item),
                "prev": item.link.prev,
                "chain": item.link.chain,
                "raw": item.raw,
            }
            for item in items
        ],
        ("device", "epoch", "seq"),
    )
    rows: dict[type, list[dict[str, Any]]] = {Window: [], Event: [], Gap: []}
    for item in items:
        for record in item.message.recs:
            rows[type(record)].append(_row(item, record))
    for kind, table in _TABLES.items():
        if rows[kind]:
            connection.execute(insert(table), rows[kind])


def _where(item: _Item) -> dict[str, Any]:
    return {
        "device": item.device,
        "epoch": item.message.epoch,
        "seq": item.message.seq,
        "received_ms": item.received_ms,
    }


def _row(item: _Item, record: Window | Event | Gap) -> dict[str, Any]:
    """A record laid out for questions; names as in `schema.py`.

    A field that has no column yet is in the raw envelope all the same.
    """
    known = _COLUMNS[type(record)]
    return {name: value for name, value in _fields(item, record).items() if name in known}


def _fields(item: _Item, record: Window | Event | Gap) -> dict[str, Any]:
    if isinstance(record, Gap):
        # a device can only speak for what came before; a range that says more is cut to that
        where = {"device": item.device, "epoch": item.message.epoch, "received_ms": item.received_ms}
        last_seq = min(record.last_seq, item.message.seq - 1)
        return {**where, **record.model_dump(exclude={"kind", "last_seq"}), "last_seq": last_seq}
    if isinstance(record, Event):
        return {**_where(item), **record.model_dump(exclude={"kind"})}
    plain = {name: getattr(record, name) for name in _PLAIN}
    return {
        **_where(item),
        **plain,
        "errors": sum(record.errors.values()),
        "refused": sum(record.refused.values()),
        "reasons": {name: dict(getattr(record, name)) for name in _REASONS},
        "latency": {str(index): count for index, count in record.latency_ms.bins.items()},
        "scalars": {scalar.name: list(scalar.counts) for scalar in record.scalars},
        "lineup": record.lineup.model_dump(mode="json") if record.lineup else None,
        "software": dict(record.software),
        "drifting": list(record.drifting),
    }


def _keep_fork(connection: Connection, item: _Item) -> None:
    row = {**_where(item), "chain": item.link.chain, "raw": item.raw}
    insert_new(connection, forks, [row], ("device", "epoch", "seq", "chain"))


def _portions(keys: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (keys[start : start + _KEYS_PER_QUERY] for start in range(0, len(keys), _KEYS_PER_QUERY))
