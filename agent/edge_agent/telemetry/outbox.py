"""The outbox: telemetry that the server has not acknowledged yet, numbered, chained and signed.

Records wait by priority until there is room on the way; then as many as fit are *sealed* into one
envelope: numbered, chained to the last one and signed. From then on its bytes are the same each time it
is sent, so that a fork of history can be proved. A seal is on the disk before the envelope leaves,
whatever the durability of what is put: otherwise a power cut could undo a commit whose envelope the
server has already seen, and the same number would go out twice with other content. An envelope goes
when a signed Ack says that the server has stored it, never when the broker has taken it. What is on its
way at the moment is `flight.py`'s business.

The outbox is bounded. When it is full, neighbouring windows of one model are added up (`downsample.py`),
the oldest first; when that is not enough, the least important records go first, and what went is owned
up to in signed Gap records, sent before anything else. Only what nobody has seen is added up or dropped:
a sealed envelope may have arrived. To the server a number in a Gap counts as accounted for: an Ack names
the largest *stored* envelope below which every number is stored or in a Gap.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Literal

from edge_agent.errors import OutboxDamaged, OutboxUnwritable
from edge_agent.telemetry import backlog
from edge_agent.telemetry.backlog import Priority, priority_at
from edge_agent.telemetry.identity import Identity
from edge_agent.telemetry.losses import Loss, loss_of
from edge_agent.telemetry.outbox_file import (
    SYNC_S,
    Durability,
    OutboxFile,
    add_loss,
    read_dropped,
    read_losses,
    read_next_seq,
)
from edge_agent.telemetry.room import Room, fitting, make
from edge_agent.telemetry.soundness import mend, number_anew, unsealed
from edge_contracts import cose
from edge_contracts.envelope import (
    RecordEncoder,
    chain_value,
    encode_record,
    seal_records,
    unseal,
)
from edge_contracts.errors import ContractError
from edge_contracts.messages import Ack, Record

log = logging.getLogger(__name__)

MOST_RECORDS = 100  # of one envelope: one signature for many (study: 10 to 100)
MOST_BYTES = 64 << 10  # of the records of one envelope: a hundred on their way are no burden to a broker
ROOM = 0.02  # when full, make so much room at once: one Gap and one search for many records
SEALED_SHARE = 0.5  # of the bytes; the rest is for what waits and can still be added up
UNKEPT = "disk full or failed"


@dataclass(frozen=True)
class Limits:
    """How much is kept for a server that does not answer.

    Args:
        records: A week of windows a minute is about 10,000.
    """

    records: int = 20_000
    size_bytes: int = 64 << 20


AckResult = Literal["advanced", "nothing-new", "refused", "behind", "forked", "forgotten"]


class Outbox:
    """The outbox of one device; used from one thread.

    Args:
        lost: What may have been lost before this start, or "" (a damaged file is kept beside it).
        identity: Another may be put here; what is sealed already stays as it is.
    """

    def __init__(
        self,
        path: Path,
        identity: Identity,
        limits: Limits | None = None,
        durability: Durability = Durability.POWER,
    ) -> None:
        """Open the outbox, or begin a new one with a new epoch; never fails for the disk's sake."""
        self.identity, self._limits, self._encode = identity, limits or Limits(), RecordEncoder()
        self._file = OutboxFile(path, durability)
        self.lost = self._file.lost or mend(self._file)
        self._unkept: dict[str, Loss] = {}  # not even the loss could be written down
        self._synced_s = monotonic()
        self._cannot_seal = self._owes = False
        self._pending = self._pending_bytes = self._sealed = self._sealed_bytes = self._acked = 0
        self._next_number, self.remembered = 0, -1  # the highest that a server that has forgotten still knows
        self._look()
        if self.lost:
            self._own_up_later(Loss(self.lost, {}))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __len__(self) -> int:
        """Records and envelopes that are not acknowledged."""
        return self._pending + self._sealed

    @property
    def size_bytes(self) -> int:
        """Of the same."""
        return self._pending_bytes + self._sealed_bytes

    @property
    def acked(self) -> int:
        """The highest number that the server has acknowledged; -1 for none."""
        return self._acked

    @property
    def dropped_records(self) -> int:
        """Records dropped in this epoch because the outbox was full or the disk was."""
        return self._dropped + sum(loss.records for loss in self._unkept.values())

    def put(self, records: Sequence[Record]) -> None:
        """Keep records; how durable they are when this returns is the outbox's Durability.

        Raises:
            OutboxUnwritable: The disk is full or has failed; nothing was kept, and a Gap will say so.
        """
        try:
            self.store(records)
        except OutboxUnwritable:
            self._own_up_later(loss_of(records, UNKEPT))
            raise

    def store(self, records: Sequence[Record]) -> None:
        """Put records, or leave them to the caller: no Gap will tell of them."""
        rows = [backlog.row_of(record, self._encode(record)) for record in records]
        try:
            self._put(rows)
        except OutboxDamaged:
            self._begun_anew()
            self._put(rows)

    def absorb(self, rows: Sequence[backlog.PlacedRow], losses: Sequence[Loss]) -> None:
        """Take what another outbox could not get rid of (`unacknowledged`), all or nothing.

        Raises:
            OutboxUnwritable: The disk is full or has failed.
        """
        before = dict(self._unkept)
        for loss in losses:
            self._own_up_later(loss)
        try:
            self._put(rows)
        except OutboxUnwritable:
            self._unkept = before
            raise

    def unacknowledged(self) -> tuple[list[backlog.PlacedRow], list[Loss]]:
        """All that the server may not have, for another outbox; here nothing changes."""
        db = self._file.db
        db.execute("BEGIN")
        try:
            self._write_down_losses(db)
            backlog.give_back(db, unsealed(db))
            return backlog.everything(db), read_losses(db)
        finally:
            db.execute("ROLLBACK")  # whether the other takes it is not known yet

    def is_writable(self) -> bool:
        """Whether the disk takes a commit now."""
        try:
            with self._file.transaction(durable=True) as db:
                db.execute("UPDATE head SET dropped_records = dropped_records")
        except OutboxUnwritable:
            return False
        return True

    @property
    def sealed(self) -> int:
        """Envelopes that have a number and are not acknowledged."""
        return self._sealed

    def _put(self, rows: Sequence[backlog.PlacedRow]) -> None:
        now_s = monotonic()
        durable = self._file.durability is Durability.POWER or now_s - self._synced_s > SYNC_S
        with self._file.transaction(durable) as db:
            self._write_down_losses(db)
            backlog.put(db, self._next_number, rows)
            count = self._pending + len(rows)
            size = self._pending_bytes + sum(len(row[-1]) for _, row in rows)
            if count + self._sealed > self._limits.records or size > self._room_bytes:
                count, size = self._make_room(db, count, size)
        self._unkept.clear()
        self._next_number += len(rows)
        self._pending, self._pending_bytes = count, size
        if self._owes:
            self._dropped = read_dropped(self._file.db)
        if durable:
            self._synced_s = now_s

    def waiting(self, limit: int, flying: Collection[int], reserve: int = 0) -> list[tuple[int, bytes]]:
        """Envelopes to send next, at most `limit`, by number; seals what waits as far as there is room.

        Args:
            flying: Numbers that are on their way already.
            reserve: How many of the limit are for alarms and gaps alone.
        """
        try:
            if not self._try_to_seal(limit, flying, reserve):
                return []
            return [(seq, self._envelope(seq)) for seq in self._unsent(flying)[:limit]]
        except sqlite3.DatabaseError as error:
            log.error("telemetry cannot be read", extra={"reason": str(self._failed(error))})
            return []

    def acknowledge(self, envelope: bytes) -> AckResult:
        """Forget what a signed Ack says is stored.

        Returns:
            "advanced" when something could be forgotten; "nothing-new" for one that says what is
            known; "forgotten" for one that says less than before; "refused" when it is
            not by the director or not for us;
            "behind" when it is right but names numbers that we have not given out, "forked" when what
            the server has stored under a number of ours is not what we hold: this outbox is an old copy,
            or there is one of it, and must begin again (`begin_again`).

        Raises:
            OutboxUnwritable: The disk is full or has failed; nothing was forgotten.
        """
        try:
            ack = unseal(Ack, envelope, self.identity.ack, self.identity.director)
        except ContractError as error:
            log.warning("ack refused", extra={"reason": str(error)})
            return "refused"
        if ack.device != self.identity.device or ack.epoch != self.epoch:
            log.warning("ack refused", extra={"reason": "for another device or epoch", "epoch": ack.epoch})
            return "refused"
        if ack.high >= self.next_seq:
            return "behind"
        if ack.high < self._acked:
            self.remembered = ack.high
            return "forgotten"
        try:
            return self._forget(ack)
        except sqlite3.DatabaseError as error:
            raise self._failed(error) from None

    def _forget(self, ack: Ack) -> AckResult:
        db = self._file.db
        if ack.high == self._acked:
            (acked_chain,) = db.execute("SELECT acked_chain FROM head").fetchone()
            return "nothing-new" if ack.chain == acked_chain else self._fork(ack)
        row = db.execute("SELECT chain FROM envelopes WHERE seq = ?", (ack.high,)).fetchone()
        if row is None or row[0] != ack.chain:  # a number that went with a loss nobody can have stored
            return self._fork(ack)
        # not synced: what a power cut brings back is sent again, and the server knows it
        with self._file.transaction(durable=False):
            db.execute("DELETE FROM envelopes WHERE seq <= ?", (ack.high,))
            db.execute("UPDATE head SET acked = ?, acked_chain = ?", (ack.high, ack.chain))
        self._acked = ack.high
        self._sealed, self._sealed_bytes = db.execute(_COUNT.format("envelope", "envelopes")).fetchone()
        return "advanced"

    def begin_again(self) -> None:
        """Begin a new epoch and put everything that is waiting into it.

        For an outbox that was copied back from a backup: its next numbers have been used already, and
        nothing that goes out under them would ever be acknowledged.
        """
        log.error("outbox is not what the server has of it, begun again", extra={"epoch": self.epoch})
        with self._file.transaction(durable=True) as db:
            number_anew(db)
        self._look()

    def _try_to_seal(self, limit: int, flying: Collection[int], reserve: int) -> bool:
        """Seal what there is room for; whether what is sealed is on the disk, and may leave."""
        try:
            self._file.settle()
            if self._pending or self._owes:
                self._seal(limit - len(self._unsent(flying)), reserve)
        except OutboxUnwritable as error:
            if isinstance(error, OutboxDamaged):
                self._begun_anew()
            if not self._cannot_seal:  # said once: it is tried again and again
                log.error("telemetry cannot be numbered", extra={"reason": str(error)})
            self._cannot_seal = True
        else:
            self._cannot_seal = False
        return self._file.is_settled

    def _seal(self, envelopes: int, reserve: int) -> None:
        """Make at most so many envelopes of what waits, on the disk when this returns."""
        most_bytes = min(MOST_BYTES, int(self._limits.size_bytes * SEALED_SHARE))
        sealed, taken, taken_bytes = 0, 0, 0
        size = self._sealed_bytes
        if envelopes <= 0 or size > self._limits.size_bytes * SEALED_SHARE:
            return
        with self._file.transaction(durable=True) as db:
            self._write_down_losses(db)
            losses = read_losses(db)
            while sealed < envelopes and size <= self._limits.size_bytes * SEALED_SHARE:
                rows = backlog.following(db, MOST_RECORDS)
                urgent = bool(losses) or (bool(rows) and priority_at(rows[0][0]) == Priority.ALARM)
                if not (rows or losses) or not (urgent or envelopes - sealed > reserve):
                    break
                rows = fitting(rows, most_bytes)
                size += self._seal_one(db, losses, [record for _, record in rows])
                if rows:
                    backlog.take_out(db, rows[-1][0])
                sealed, taken = sealed + 1, taken + len(rows)
                taken_bytes += sum(len(record) for _, record in rows)
                losses = []
        self._unkept.clear()
        self._owes, self._dropped = False, read_dropped(self._file.db)
        self._synced_s = monotonic()
        self._sealed, self._sealed_bytes = self._sealed + sealed, size
        self._pending, self._pending_bytes = self._pending - taken, self._pending_bytes - taken_bytes
        self.next_seq = read_next_seq(self._file.db)

    def _seal_one(self, db: sqlite3.Connection, losses: Sequence[Loss], records: Sequence[bytes]) -> int:
        """Seal one envelope; its size."""
        epoch, seq, chain = db.execute("SELECT epoch, next_seq, chain FROM head").fetchone()
        gaps = [encode_record(loss.gap(seq + place)) for place, loss in enumerate(losses)]
        seq += len(gaps)  # each loss takes a number with it
        contents = [*gaps, *records]
        envelope = seal_records(epoch, seq, chain, contents, self.identity.telemetry, self.identity.key)
        if len(envelope) > cose.MAX_ENVELOPE_BYTES:
            raise AssertionError(f"{len(contents)} records make an envelope of {len(envelope)} bytes")
        value = chain_value(envelope)
        db.execute(
            "INSERT INTO envelopes VALUES (?, 'sealed', ?, ?, ?)", (seq, len(contents), envelope, value)
        )
        db.execute("UPDATE head SET next_seq = ?, chain = ?", (seq + 1, value))
        if losses:
            db.execute("DELETE FROM losses")
        return len(envelope)

    def _make_room(self, db: sqlite3.Connection, count: int, size: int) -> tuple[int, int]:
        """Add windows up, and drop what still does not fit; the count and the size that are left."""
        room = Room(
            count, size, (self._limits.records - self._sealed) * (1 - ROOM), self._room_bytes * (1 - ROOM)
        )
        make(db, room)
        if room.loss.kinds:
            add_loss(db, room.loss)
            self._owes = True
        log.warning("outbox full", extra={"added_up": room.added_up, "dropped": dict(room.loss.kinds)})
        return room.count, room.size

    @property
    def _room_bytes(self) -> int:
        return max(0, self._limits.size_bytes - self._sealed_bytes)

    def _own_up_later(self, loss: Loss) -> None:
        before = self._unkept.get(loss.reason)
        self._unkept[loss.reason] = loss if before is None else before + loss
        self._owes = True

    def _write_down_losses(self, db: sqlite3.Connection) -> None:
        for loss in self._unkept.values():
            add_loss(db, loss)
            self._owes = True

    def _unsent(self, flying: Collection[int]) -> list[int]:
        numbers = self._file.db.execute("SELECT seq FROM envelopes ORDER BY seq")
        return [seq for (seq,) in numbers if seq not in flying]

    def _fork(self, ack: Ack) -> AckResult:
        log.error("ack for another history", extra={"seq": ack.high, "chain": ack.chain.hex()})
        return "forked"

    def _envelope(self, seq: int) -> bytes:
        (envelope,) = self._file.db.execute("SELECT envelope FROM envelopes WHERE seq = ?", (seq,)).fetchone()
        return bytes(envelope)

    def _failed(self, error: sqlite3.DatabaseError) -> OutboxUnwritable:
        """What could not be read; after damage an empty outbox has begun."""
        refusal = self._file.refusal(error)
        if isinstance(refusal, OutboxDamaged):
            self._begun_anew()
        return refusal

    def _begun_anew(self) -> None:
        """The file was damaged under our hands: how much was in it nobody knows."""
        self._own_up_later(Loss(self._file.lost, {}))
        self._look()

    def _look(self) -> None:
        """Take note of what is in the file."""
        db = self._file.db
        epoch, acked = db.execute("SELECT epoch, acked FROM head").fetchone()
        self.epoch, self.next_seq, self._acked = str(epoch), read_next_seq(db), int(acked)
        self._dropped, self._next_number = read_dropped(db), backlog.next_number(db)
        self._pending, self._pending_bytes = db.execute(_COUNT.format("record", "pending")).fetchone()
        self._sealed, self._sealed_bytes = db.execute(_COUNT.format("envelope", "envelopes")).fetchone()
        self._owes = bool(self._unkept) or db.execute("SELECT count(*) FROM losses").fetchone() != (0,)


_COUNT = "SELECT count(*), coalesce(sum(length({})), 0) FROM {}"
