"""The outbox's SQLite file: its tables, how durable a commit is, and what its last life was like.

WAL mode. A commit with `synchronous=FULL` is on the disk when it returns; one with NORMAL survives the
death of the process, and is on the disk at the next FULL commit or checkpoint (sqlite.org/wal.html).

That holds until a write fails. What the kernel could not write it takes for written from then on: the next
sync says nothing of it, and the next process reads it, even the commit that had failed, until the power goes
(docs/decisions/0110). So what is read at the start, or after an error, is on the disk only after `settle`.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from edge_agent.errors import OutboxDamaged, OutboxUnwritable
from edge_agent.telemetry import backlog
from edge_agent.telemetry.losses import Loss
from edge_contracts.messages import CHAIN_START, EPOCH_PATTERN
from edge_contracts.on_disk import write_again

log = logging.getLogger(__name__)

SYNC_S = 30.0  # in mode PROCESS what is put is on the disk after so long at the latest
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Durability(StrEnum):
    """What a record that was put survives."""

    POWER = "power"  # a power cut: every put is synced
    PROCESS = "process"  # the death of the process; a power cut may take what was put in the last SYNC_S


_SCHEMA = """
CREATE TABLE IF NOT EXISTS head (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    epoch TEXT NOT NULL, next_seq INTEGER NOT NULL, chain BLOB NOT NULL,
    acked INTEGER NOT NULL, acked_chain BLOB NOT NULL,
    dropped_records INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS envelopes (
    seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, records INTEGER NOT NULL,
    envelope BLOB NOT NULL, chain BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS losses (
    reason TEXT PRIMARY KEY, kinds TEXT NOT NULL, first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS life (
    one INTEGER PRIMARY KEY CHECK (one = 1), boot TEXT NOT NULL, durability TEXT NOT NULL);
"""


_COLUMNS = (
    "seq, kind, records, envelope, chain FROM envelopes",
    "id, kind, first_ms, last_ms, record FROM pending",
    "reason, kinds, first_ms, last_ms FROM losses",
    "boot, durability FROM life",
)
_HEAD = "SELECT epoch, next_seq, chain, acked, acked_chain, dropped_records FROM head"


class OutboxFile:
    """An open file.

    Args:
        lost: What may have been lost before it was opened, or "".
        is_settled: Whether all that was synced is known to be on the disk, and nothing else is read.
    """

    def __init__(self, path: Path, durability: Durability = Durability.POWER) -> None:
        """Open it, or begin a new one; a damaged file is set aside, and without a disk memory serves.

        A device whose disk cannot be written to must still answer, and say so.
        """
        self.path, self.durability, self.lost = path, durability, ""
        self._syncs = True  # what SQLite was told last
        self.is_settled = False
        try:
            self.db = self._open(str(path))
        except sqlite3.DatabaseError as error:
            if _is_damage(error):
                self.db = self._begin_anew(error)
            else:
                self.db = self._in_memory(error)
        self._begin_life()

    @contextmanager
    def transaction(self, durable: bool) -> Iterator[sqlite3.Connection]:
        """All or nothing.

        Args:
            durable: On the disk when it is over; otherwise it survives the death of the process.

        Raises:
            OutboxUnwritable: The disk is full or has failed; nothing has changed.
            OutboxDamaged: The file was damaged: it has been set aside and an empty one begun.
        """
        if durable:
            self.settle()
        with self._commit(durable) as db:
            yield db

    @contextmanager
    def _commit(self, durable: bool) -> Iterator[sqlite3.Connection]:
        try:
            self._be_durable(durable)
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield self.db
                self.db.execute("COMMIT")
            except BaseException:  # whatever ends the block, a half of it must not stay open; raised again
                if self.db.in_transaction:  # a full disk has rolled back already
                    self.db.execute("ROLLBACK")
                raise
        except sqlite3.ProgrammingError:
            raise  # our own fault, and nothing that another file would mend
        except sqlite3.DatabaseError as error:
            raise self.refusal(error) from None

    def settle(self) -> None:
        """Have everything that can be read here on the disk: nothing that is told may be taken back.

        SQLite's log is written again as it is, in place, so a full disk is no obstacle. In the database
        itself nothing can be missing: it is written anew from the log until its sync succeeds.

        Raises:
            OutboxUnwritable: The disk has failed, or somebody else writes.
            OutboxDamaged: The file was damaged: it has been set aside and an empty one begun.
        """
        if self.is_settled:
            return
        with self._commit(durable=True) as db:  # so that nobody else writes meanwhile
            _, _, file = db.execute("PRAGMA database_list").fetchone()
            try:
                if file:
                    write_again(Path(f"{file}-wal"))
            except OSError as error:
                raise OutboxUnwritable(f"cannot keep telemetry: {error.strerror}") from None
        self.is_settled = True

    def refusal(self, error: sqlite3.DatabaseError) -> OutboxUnwritable:
        """What an error of SQLite means; after damage there is a new file."""
        self.is_settled = self.is_settled and not _is_doubt(error)
        if not _is_damage(error):
            return OutboxUnwritable(f"cannot keep telemetry: {error}")
        self.db.close()
        self.db = self._begin_anew(error)
        self._begin_life()
        return OutboxDamaged(self.lost)

    def close(self) -> None:
        """Close the file in good order: nothing of this life is in doubt."""
        try:
            with self.transaction(durable=True) as db:
                db.execute("DELETE FROM life")
        except OutboxUnwritable as error:
            log.warning("outbox not closed in good order", extra={"reason": str(error)})
        self.db.close()

    def _be_durable(self, durable: bool) -> None:
        if durable != self._syncs:
            self.db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._syncs = durable

    def _begin_anew(self, error: sqlite3.DatabaseError) -> sqlite3.Connection:
        self.lost = f"{self.path.name} was damaged ({error}) and set aside"
        log.error("outbox damaged", extra={"path": str(self.path), "reason": str(error)})
        try:
            for suffix in ("", "-wal", "-shm"):
                part = self.path.with_name(self.path.name + suffix)
                if part.exists():
                    part.replace(self.path.with_name(self.path.name + ".damaged" + suffix))
            return self._open(str(self.path))
        except (OSError, sqlite3.DatabaseError) as second:
            return self._in_memory(second)

    def _in_memory(self, error: Exception) -> sqlite3.Connection:
        self.lost = f"cannot open {self.path}: {error}; telemetry is in memory only until the next start"
        log.error("outbox in memory", extra={"path": str(self.path), "reason": str(error)})
        return self._open(":memory:")

    def _open(self, name: str) -> sqlite3.Connection:
        db = sqlite3.connect(name, isolation_level=None, timeout=10)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            self._syncs = True
            # some builds overwrite what they delete: every record would be written a third and a fourth time
            db.execute("PRAGMA secure_delete = OFF")
            db.executescript(_SCHEMA + backlog.SCHEMA)
            backlog.bring_up_to_date(db)
            if db.execute("PRAGMA quick_check").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("quick_check found damage")
            if db.execute("SELECT count(*) FROM head").fetchone() == (0,):
                begin_epoch(db)
            for columns in _COLUMNS:
                db.execute(f"SELECT {columns} LIMIT 0")
            if not _is_head(*db.execute(_HEAD).fetchone()):
                raise sqlite3.DatabaseError("its numbers are damaged")
            if name != ":memory:":
                self._close_to_others()
        except UnicodeDecodeError:  # a damaged schema, quoted in SQLite's own words
            db.close()
            raise sqlite3.DatabaseError("its schema is damaged") from None
        except sqlite3.DatabaseError:
            db.close()
            raise
        return db

    def _close_to_others(self) -> None:
        if stat.S_IMODE(self.path.stat().st_mode) == 0o600:
            return
        try:
            self.path.chmod(0o600)
        except OSError as error:  # a read-only disk: an old file there does, too
            log.warning("outbox keeps its mode", extra={"path": str(self.path), "reason": error.strerror})

    def _begin_life(self) -> None:
        """Look how the last life ended, and note that another has begun."""
        boot = _boot_id()
        try:
            row = self.db.execute("SELECT boot, durability FROM life").fetchone()
            with self.transaction(durable=False) as db:
                db.execute("INSERT OR REPLACE INTO life VALUES (1, ?, ?)", (boot, self.durability))
        except (sqlite3.DatabaseError, OutboxUnwritable) as error:
            log.warning("outbox cannot be written to", extra={"reason": str(error)})
            return
        if row is not None and row[1] == Durability.PROCESS and row[0] != boot and not self.lost:
            self.lost = f"the power went: in durability mode process the last {SYNC_S:g} s may be missing"


def begin_epoch(db: sqlite3.Connection) -> None:
    """A new numbering, with nothing in it."""
    db.execute(
        "INSERT INTO head VALUES (1, ?, 0, ?, -1, ?, 0)", (secrets.token_hex(8), CHAIN_START, CHAIN_START)
    )


def read_losses(db: sqlite3.Connection) -> list[Loss]:
    """What is lost and has not been told yet."""
    rows = db.execute("SELECT reason, kinds, first_ms, last_ms FROM losses")
    return [Loss(reason, json.loads(kinds), first_ms, last_ms) for reason, kinds, first_ms, last_ms in rows]


def read_next_seq(db: sqlite3.Connection) -> int:
    """The next number."""
    return int(db.execute("SELECT next_seq FROM head").fetchone()[0])


def read_dropped(db: sqlite3.Connection) -> int:
    """Records that were dropped in this epoch."""
    return int(db.execute("SELECT dropped_records FROM head").fetchone()[0])


def add_loss(db: sqlite3.Connection, loss: Loss) -> None:
    """Add to what is to be told: one row for each reason, however much is lost."""
    total = loss
    for known in read_losses(db):
        if known.reason == loss.reason:
            total = known + loss
    db.execute(
        "INSERT OR REPLACE INTO losses VALUES (?, ?, ?, ?)",
        (total.reason, json.dumps(dict(total.kinds)), total.first_ms, total.last_ms),
    )
    db.execute("UPDATE head SET dropped_records = dropped_records + ?", (loss.records,))


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    # OperationalError is full, read-only, locked, I/O; a file that is no database is the base class.
    # SQLITE_ERROR, of our statements, says that a table is another one; no code at all, that a text is none.
    if not isinstance(error, sqlite3.OperationalError):
        return True
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) == sqlite3.SQLITE_ERROR


def _is_doubt(error: sqlite3.DatabaseError) -> bool:
    """Whether something that was written before may not be on the disk, and be read as if it were."""
    # a disk without room refuses before anything is taken, and so does a lock
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_IOERR) & 0xFF == sqlite3.SQLITE_IOERR


def _is_head(
    epoch: object, next_seq: object, chain: object, acked: object, known: object, dropped: object
) -> bool:
    """Whether these can be the numbers of an outbox."""
    chains = all(isinstance(one, bytes) and len(one) == len(CHAIN_START) for one in (chain, known))
    if not chains or not isinstance(epoch, str) or re.fullmatch(EPOCH_PATTERN, epoch) is None:
        return False
    if not isinstance(next_seq, int) or not isinstance(acked, int) or not isinstance(dropped, int):
        return False
    return -1 <= acked < next_seq and dropped >= 0


def _boot_id() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""  # elsewhere than on Linux every life that did not end well is taken for a power cut
