"""The outbox: telemetry that the server has not acknowledged yet, numbered, chained and signed.

An envelope is numbered, chained to the one before and signed when it is put in, so that its bytes
are the same each time it is sent and a fork of history can be proved. It goes when a signed Ack says
that the server has stored it, never when the broker has taken it. What is on its way at the moment
is `flight.py`'s business.

One SQLite file in WAL mode, `synchronous=FULL`. NORMAL is sixty times faster (study: 222 against
14,500 commits a second), but a power cut may then undo commits whose envelopes the server has
already seen, and the same number would be given out twice with other content: a fork. A device
commits about once a minute, so the speed is worth nothing here; many records fit in one `put`.

The outbox is bounded. When it is full the oldest windows go first, events later; what went is owned
up to in signed Gap records, sent before anything else. To the server a number in a Gap counts as
accounted for: an Ack names the largest *stored* envelope below which every number is stored or in
a Gap.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

from edge_agent.errors import OutboxUnwritable
from edge_contracts import cose
from edge_contracts.errors import ContractError
from edge_contracts.keys import PrivateKey, PublicKey
from edge_contracts.messages import (
    CHAIN_START,
    Ack,
    Event,
    Gap,
    Record,
    Telemetry,
    Window,
    chain_value,
    parse_payload,
    seal,
    unseal,
)
from edge_contracts.topics import Channel, topic

log = logging.getLogger(__name__)

MAX_RECORDS = 1000  # of one envelope: the contract's bound
DROP_TO = 0.9  # when full, drop down to this share at once: one Gap for many, not one for each


class Kind(StrEnum):
    """What an envelope carries: never two kinds, so that they can be given up apart."""

    WINDOW = "window"
    EVENT = "event"
    GAP = "gap"


@dataclass(frozen=True)
class Limits:
    """How much is kept for a server that does not answer.

    Args:
        envelopes: A week of windows a minute is about 10,000.
    """

    envelopes: int = 20_000
    size_bytes: int = 64 << 20


@dataclass(frozen=True)
class Identity:
    """Who signs the envelopes and whose acks count."""

    fleet: str
    device: str
    key: PrivateKey
    director: PublicKey

    @property
    def telemetry(self) -> str:
        """The topic that every envelope is bound to."""
        return topic(self.fleet, self.device, Channel.TELEMETRY)

    @property
    def ack(self) -> str:
        """The topic that every ack is bound to."""
        return topic(self.fleet, self.device, Channel.ACK)


@dataclass(frozen=True)
class Put:
    """What became of a `put`.

    Args:
        last_seq: The last number that was given out.
        dropped: Numbers that had to go to make room.
    """

    last_seq: int
    dropped: tuple[int, ...] = ()


AckResult = Literal["advanced", "nothing-new", "refused", "behind"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS head (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    epoch TEXT NOT NULL, next_seq INTEGER NOT NULL, chain BLOB NOT NULL,
    acked INTEGER NOT NULL, acked_chain BLOB NOT NULL,
    dropped_records INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS envelopes (
    seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, records INTEGER NOT NULL,
    envelope BLOB NOT NULL, chain BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS by_kind ON envelopes (kind, seq);
"""


class Outbox:
    """The outbox of one device; used from one thread.

    Args:
        lost: Why a new outbox had to be begun, or "" (a damaged file is kept beside it).
    """

    def __init__(self, path: Path, identity: Identity, limits: Limits | None = None) -> None:
        """Open the outbox, or begin a new one with a new epoch.

        Raises:
            OutboxUnwritable: Neither is possible.
        """
        self._identity = identity
        self._limits = limits or Limits()
        self.lost = ""
        try:
            self._db = _open(path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise OutboxUnwritable(f"cannot open {path}: {error}") from None
            self.lost = f"{path.name} was damaged ({error}) and set aside"
            log.error("outbox damaged", extra={"path": str(path), "reason": str(error)})
            _set_aside(path)
            self._db = _open(path)
        self.epoch, self.next_seq = self._head()
        self._count, self._size = self._measure()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __len__(self) -> int:
        """Envelopes that are not acknowledged."""
        return self._count

    @property
    def size_bytes(self) -> int:
        """Of the envelopes that are not acknowledged."""
        return self._size

    @property
    def acked(self) -> int:
        """The highest number that the server has acknowledged; -1 for none."""
        return int(self._db.execute("SELECT acked FROM head").fetchone()[0])

    @property
    def dropped_records(self) -> int:
        """Records dropped in this epoch because the outbox was full."""
        return int(self._db.execute("SELECT dropped_records FROM head").fetchone()[0])

    def put(self, records: Sequence[Record]) -> Put:
        """Number, chain, sign and keep records; they are durable when this returns.

        Args:
            records: At least one; more than an envelope can carry are spread over several.

        Raises:
            OutboxUnwritable: The disk is full or has failed; nothing was kept and no number used.
        """
        with self._transaction():
            for part in _parts(records):
                self._insert(part, Kind(part[0].kind))
            gaps, dropped = self._make_room()
            for part in _parts(gaps):
                self._insert(part, Kind.GAP)
        return Put(self.next_seq - 1, tuple(dropped))

    def waiting(self, limit: int, flying: Collection[int]) -> list[tuple[int, bytes]]:
        """Envelopes to send next, at most `limit`: gaps first, then by number.

        Gaps go first because without them the server's count stops at the hole, and so would ours.

        Args:
            flying: Numbers that are on their way already.
        """
        found: dict[int, bytes] = {}
        for only in ("WHERE kind = 'gap' ", ""):
            rows = self._db.execute(
                f"SELECT seq, envelope FROM envelopes {only}ORDER BY seq LIMIT ?", (limit + len(flying),)
            )
            found |= {seq: envelope for seq, envelope in rows if seq not in flying and seq not in found}
        return list(found.items())[:limit]

    def acknowledge(self, envelope: bytes) -> AckResult:
        """Forget what a signed Ack says is stored.

        Returns:
            "advanced" when something could be forgotten; "nothing-new" for one that says what is
            known; "refused" when it is not by the director, not for us or for another history;
            "behind" when it is right but names numbers that we have not given out: this outbox is an
            old copy and must begin again (`begin_again`).
        """
        try:
            ack = unseal(Ack, envelope, self._identity.ack, self._identity.director)
        except ContractError as error:
            log.warning("ack refused", extra={"reason": str(error)})
            return "refused"
        if ack.device != self._identity.device or ack.epoch != self.epoch:
            log.warning("ack refused", extra={"reason": "for another device or epoch", "epoch": ack.epoch})
            return "refused"
        if ack.high >= self.next_seq:
            return "behind"
        (acked_chain,) = self._db.execute("SELECT acked_chain FROM head").fetchone()
        acked = self.acked
        if ack.high < acked:
            return "nothing-new"
        if ack.high == acked:
            return "nothing-new" if ack.chain == acked_chain else self._fork(ack)
        row = self._db.execute("SELECT chain FROM envelopes WHERE seq = ?", (ack.high,)).fetchone()
        if row is None:  # dropped here after it had arrived there; the next ack will be higher
            return "nothing-new"
        if row[0] != ack.chain:
            return self._fork(ack)
        with self._transaction():
            self._db.execute("DELETE FROM envelopes WHERE seq <= ?", (ack.high,))
            self._count, self._size = self._measure()
            self._db.execute("UPDATE head SET acked = ?, acked_chain = ?", (ack.high, ack.chain))
        return "advanced"

    def begin_again(self) -> None:
        """Begin a new epoch and put everything that is waiting into it.

        For an outbox that was copied back from a backup: its next numbers have been used already.
        """
        rows = self._db.execute("SELECT envelope FROM envelopes ORDER BY seq").fetchall()
        log.error("outbox is older than the server's memory of it", extra={"epoch": self.epoch})
        with self._transaction():
            self._db.execute("DELETE FROM envelopes")
            self._db.execute("DELETE FROM head")
            self._count = self._size = 0
            _begin(self._db)
            self.epoch, self.next_seq = self._head()
            for (envelope,) in rows:
                message = parse_payload(Telemetry, cose.parse(envelope).payload)
                records = [record for record in message.recs if not isinstance(record, Gap)]
                for part in _parts(records):
                    self._insert(part, Kind(part[0].kind))

    def _insert(self, records: Sequence[Record], kind: Kind) -> None:
        epoch, seq, chain = self._db.execute("SELECT epoch, next_seq, chain FROM head").fetchone()
        message = Telemetry(epoch=epoch, seq=seq, prev=chain, recs=tuple(records))
        envelope = seal(message, self._identity.telemetry, self._identity.key)
        if len(envelope) > cose.MAX_ENVELOPE_BYTES:
            if len(records) == 1:
                raise AssertionError(f"one record makes an envelope of {len(envelope)} bytes")
            half = len(records) // 2
            self._insert(records[:half], kind)
            self._insert(records[half:], kind)
            return
        value = chain_value(envelope)
        self._db.execute(
            "INSERT INTO envelopes VALUES (?, ?, ?, ?, ?)", (seq, kind, len(records), envelope, value)
        )
        self._db.execute("UPDATE head SET next_seq = ?, chain = ?", (seq + 1, value))
        self._count, self._size = self._count + 1, self._size + len(envelope)

    def _make_room(self) -> tuple[list[Record], list[int]]:
        """Drop what does not fit; give the records that own up to it, and the numbers dropped."""
        count, size = self._count, self._size
        if count <= self._limits.envelopes and size <= self._limits.size_bytes:
            return [], []
        keep_count, keep_size = self._limits.envelopes * DROP_TO, self._limits.size_bytes * DROP_TO
        dropped: list[tuple[int, int, int]] = []  # first, last, records
        gone: list[int] = []
        lost = 0
        query = (
            "SELECT seq, kind, records, envelope FROM envelopes ORDER BY"
            " CASE kind WHEN 'gap' THEN 0 WHEN 'window' THEN 1 ELSE 2 END, seq"
        )
        for seq, kind, records, envelope in self._db.execute(query).fetchall():
            if kind != Kind.GAP and count <= keep_count and size <= keep_size:
                break
            count, size = count - 1, size - len(envelope)
            self._db.execute("DELETE FROM envelopes WHERE seq = ?", (seq,))
            if kind == Kind.GAP:  # nothing is lost with it: the new one says the same and more
                message = parse_payload(Telemetry, cose.parse(envelope).payload)
                dropped += [(g.first_seq, g.last_seq, g.records) for g in message.recs if isinstance(g, Gap)]
                records = 0
            dropped.append((seq, seq, records))
            gone.append(seq)
            lost += records
        self._count, self._size = count, size
        self._db.execute("UPDATE head SET dropped_records = dropped_records + ?", (lost,))
        log.warning("outbox full, oldest dropped", extra={"envelopes": len(gone), "records": lost})
        owned_up: list[Record] = [
            Gap(first_seq=first, last_seq=last, records=records, reason="outbox full")
            for first, last, records in _joined(dropped)
        ]
        return owned_up, gone

    def _fork(self, ack: Ack) -> AckResult:
        log.error("ack for another history refused", extra={"seq": ack.high, "chain": ack.chain.hex()})
        return "refused"

    def _measure(self) -> tuple[int, int]:
        count, size = self._db.execute(
            "SELECT count(*), coalesce(sum(length(envelope)), 0) FROM envelopes"
        ).fetchone()
        return int(count), int(size)

    def _head(self) -> tuple[str, int]:
        epoch, next_seq = self._db.execute("SELECT epoch, next_seq FROM head").fetchone()
        return str(epoch), int(next_seq)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk has rolled back already
                    self._db.execute("ROLLBACK")
                self._count, self._size = self._measure()
                raise
        except sqlite3.OperationalError as error:
            raise OutboxUnwritable(f"cannot keep telemetry: {error}") from None
        finally:
            self.epoch, self.next_seq = self._head()


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, timeout=10)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.executescript(_SCHEMA)
        if db.execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("quick_check found damage")
        if db.execute("SELECT count(*) FROM head").fetchone() == (0,):
            _begin(db)
    except sqlite3.DatabaseError:
        db.close()
        raise
    path.chmod(0o600)
    return db


def _begin(db: sqlite3.Connection) -> None:
    db.execute(
        "INSERT INTO head VALUES (1, ?, 0, ?, -1, ?, 0)", (secrets.token_hex(8), CHAIN_START, CHAIN_START)
    )


def _set_aside(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.replace(path.with_name(path.name + ".damaged" + suffix))


def _parts(records: Sequence[Record]) -> Iterator[list[Record]]:
    """Records in groups that fit an envelope, windows and events apart so that they can be dropped apart."""
    for wanted in (Event, Window, Gap):
        same: list[Record] = [record for record in records if isinstance(record, wanted)]
        for start in range(0, len(same), MAX_RECORDS):
            yield same[start : start + MAX_RECORDS]


def _joined(dropped: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Neighbouring ranges made one; in order."""
    result: list[tuple[int, int, int]] = []
    for first, last, records in sorted(dropped):
        if result and first == result[-1][1] + 1:
            result[-1] = (result[-1][0], last, result[-1][2] + records)
        else:
            result.append((first, last, records))
    return result
