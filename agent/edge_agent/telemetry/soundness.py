"""Whether what waits in an outbox is still what was put there: SQLite checks its pages, not what is in them.

A flipped bit in an envelope would be sent for ever: the server refuses what its key has not signed, and
acknowledges nothing beyond it. So each envelope is held against its chain value at the start, and each record
must be one. What is damaged is owned up to; the sound rest goes out under the numbers of a new epoch where
an envelope was hit, since no other can take its number.
"""

from __future__ import annotations

import logging
import sqlite3
from collections import Counter

from edge_agent.errors import OutboxDamaged, OutboxUnwritable
from edge_agent.telemetry import backlog
from edge_agent.telemetry.losses import Loss
from edge_agent.telemetry.outbox_file import OutboxFile, add_loss, begin_epoch
from edge_contracts import cose
from edge_contracts.envelope import chain_value, decode_record, encode_record, parse_payload
from edge_contracts.errors import FormatInvalid
from edge_contracts.messages import Gap, Telemetry

log = logging.getLogger(__name__)

UNKNOWN = "record"  # of what kind it was is lost with it


def mend(file: OutboxFile) -> str:
    """Take out what is damaged; what to say of it, "" when all is sound or nothing can be written."""
    try:
        if not _all_found(file.db):
            raise file.refusal(sqlite3.DatabaseError("its rows cannot be found"))
        envelopes, records = _damaged_envelopes(file.db), _damaged_records(file.db)
        contradict = _numbers_contradict(file.db)
        if not envelopes and not records and not contradict:
            return ""
        lost = Counter(records.values()) + Counter({UNKNOWN: sum(envelopes.values())})
        said = f"{lost.total()} records that waited in {file.path.name} were damaged on the disk"
        with file.transaction(durable=True) as db:
            add_loss(db, Loss(said, lost))
            db.executemany("DELETE FROM pending WHERE id = ?", [(row,) for row in records])
            db.executemany("DELETE FROM envelopes WHERE seq = ?", [(seq,) for seq in envelopes])
            if envelopes or contradict:
                number_anew(db)
    except OutboxDamaged:
        return file.lost
    except FormatInvalid:
        file.refusal(sqlite3.DatabaseError("its envelopes are damaged"))
        return file.lost
    except (OutboxUnwritable, sqlite3.DatabaseError) as error:
        log.error("outbox cannot be mended", extra={"reason": str(error)})
        return ""
    log.error("outbox mended", extra={"reason": said})
    return said


def number_anew(db: sqlite3.Connection) -> None:
    """Begin a new epoch, with what was numbered ahead of what waits, in the caller's transaction."""
    backlog.give_back(db, unsealed(db))
    db.execute("DELETE FROM envelopes")
    db.execute("DELETE FROM head")
    begin_epoch(db)


def unsealed(db: sqlite3.Connection) -> list[backlog.PlacedRow]:
    """The records of all envelopes; their gaps are losses again, in the caller's transaction."""
    rows = db.execute("SELECT envelope FROM envelopes ORDER BY seq").fetchall()
    records = [
        record
        for (envelope,) in rows
        for record in parse_payload(Telemetry, cose.parse(envelope).payload).recs
    ]
    for gap in records:
        if isinstance(gap, Gap):
            add_loss(db, Loss(gap.reason, gap.kinds, gap.first_ms, gap.last_ms))
    others = (record for record in records if not isinstance(record, Gap))
    return [backlog.row_of(record, encode_record(record)) for record in others]


# A flipped bit may have made a text of bytes, which Python would not read.
_ENVELOPES = (
    "SELECT seq, CAST(records AS INTEGER), CAST(envelope AS BLOB), CAST(chain AS BLOB) FROM envelopes"
)
_RECORDS = "SELECT id, CAST(kind AS BLOB), CAST(record AS BLOB) FROM pending"


def _all_found(db: sqlite3.Connection) -> bool:
    """Whether each row that is seen is found by its number, too."""
    for table, key in (("envelopes", "seq"), ("pending", "id")):
        for (number,) in db.execute(f"SELECT {key} FROM {table}").fetchall():
            if db.execute(f"SELECT 1 FROM {table} WHERE {key} = ?", (number,)).fetchone() is None:
                return False
    return True


def _numbers_contradict(db: sqlite3.Connection) -> bool:
    """Whether the head cannot be that of these envelopes."""
    next_seq, acked, chain = db.execute("SELECT next_seq, acked, chain FROM head").fetchone()
    first, last = db.execute("SELECT min(seq), max(seq) FROM envelopes").fetchone()
    if last is None:
        return False
    (ends,) = db.execute("SELECT CAST(chain AS BLOB) FROM envelopes WHERE seq = ?", (last,)).fetchone()
    return not acked < first <= last == next_seq - 1 or bool(ends != chain)


def _damaged_envelopes(db: sqlite3.Connection) -> dict[int, int]:
    """Numbers, and how many records each had."""
    return {
        seq: max(1, records)
        for seq, records, envelope, chain in db.execute(_ENVELOPES)
        if chain_value(envelope) != chain
    }


def _damaged_records(db: sqlite3.Connection) -> dict[int, str]:
    """Ids, and of what kind each was."""
    found = {}
    for row, kind, record in db.execute(_RECORDS):
        stated = kind.decode(errors="replace")[:64]
        try:
            is_sound = decode_record(record).kind == stated
        except FormatInvalid:
            is_sound = False
        if not is_sound:
            found[row] = stated or UNKNOWN
    return found
