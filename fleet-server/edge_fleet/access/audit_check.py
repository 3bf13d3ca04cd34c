"""Checking an audit log row by row: of a database or of a file that was exported from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TextIO

from edge_contracts.keys import PublicKey
from edge_fleet.access.audit_files import Lines
from edge_fleet.access.audit_head import SignedHead
from edge_fleet.audit import START, Entry
from edge_fleet.errors import AuditBroken


@dataclass(frozen=True)
class Checked:
    """A log that holds.

    Args:
        rows: How many there are.
        hash: Of the last one; START when there is none.
        head: The signed head up to which nothing can be missing, if there is one.
    """

    rows: int
    hash: str
    head: SignedHead | None


def check_file(stream: TextIO, *keys: PublicKey) -> Checked:
    """Check an exported file. Its head is its last line, so it is read twice.

    Raises:
        AuditBroken, SignatureInvalid: See `check`.
        RequestInvalid: It is no exported log.
    """
    first = Lines(stream)
    for _ in first.rows():
        pass
    stream.seek(0)
    return check(Lines(stream).rows(), first.head, *keys)


def check(rows: Iterable[tuple[Entry, str]], head: SignedHead | None, *keys: PublicKey) -> Checked:
    """Follow the chain to its end.

    Args:
        rows: In order, each with the hash that it carries.
        head: What the server last signed.
        keys: One of which must have signed the head; without any it is taken as it is.

    Raises:
        AuditBroken: Names the first row that is not as it was written, or is gone.
        SignatureInvalid: The head is signed by another key.
    """
    if head is not None and keys:
        head.verify(*keys)
    count, before, last = 0, START, 0
    reached = head is None
    for entry, stated in rows:
        where = f"audit row {entry.id} ({entry.action}, {entry.subject!r})"
        if entry.id <= last:
            raise AuditBroken(f"{where} comes after row {last}: rows are numbered upwards")
        if entry.prev != before:
            raise AuditBroken(
                f"{where} follows {entry.prev[:16]}, but row {last or 'START'} before it is {before[:16]}: "
                "a row between them was taken out, put in or changed"
            )
        if entry.hash != stated:
            raise AuditBroken(
                f"{where} was changed: it carries {stated[:16]}, its content is {entry.hash[:16]}"
            )
        count, before, last = count + 1, stated, entry.id
        if head is not None and entry.id == head.row:
            if stated != head.hash:
                raise AuditBroken(
                    f"{where} is {stated[:16]}, but {head.hash[:16]} was signed: it was rewritten"
                )
            reached = True
    if head is not None and not reached:
        raise AuditBroken(
            f"audit row {head.row} was signed at {head.at_ms} ms and is gone: the log ends with row {last}, "
            "its end was cut off (or an older backup was restored: edge-fleet audit accept)"
        )
    return Checked(count, before, head)
