"""The audit log as a file: JSON lines or CSV, with the signed head as its last line.

Both can be read back and checked without the server. In CSV a text that a spreadsheet would take for a
formula gets an apostrophe before it, which reading takes off again.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from edge_contracts.errors import ContractError
from edge_fleet.access.audit_head import SignedHead
from edge_fleet.audit import Entry
from edge_fleet.errors import RequestInvalid
from edge_fleet.model import parse_object

COLUMNS = ("id", "at_ms", "actor", "action", "subject", "detail", "prev", "hash")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")


@dataclass
class Lines:
    """The rows of a file as they are read; `head` is known once all of them were."""

    lines: Iterable[str]
    head: SignedHead | None = field(default=None, init=False)

    def rows(self) -> Iterator[tuple[Entry, str]]:
        """Each row with the hash that it carries.

        Raises:
            RequestInvalid: A line is not of an audit log; the message names it.
        """
        source = iter(self.lines)
        first = next(source, "")
        if first.startswith("{"):
            fields = _json_rows(_chain(first, source))
        elif first.rstrip("\r\n") == ",".join(COLUMNS):
            fields = _csv_rows(source)
        else:
            raise RequestInvalid("this is no exported audit log; make one with edge-fleet audit export")
        for number, row in fields:
            if self.head is not None:
                raise RequestInvalid(f"line {number} comes after the signed head, which is the last one")
            if "head" in row:
                self.head = _head(row["head"], number)
            else:
                yield _entry(row, number)


def json_lines(rows: Iterable[tuple[Entry, str]], head: SignedHead | None) -> Iterator[str]:
    """One JSON object a line."""
    for entry, stated in rows:
        yield json.dumps({**vars(entry), "hash": stated}, ensure_ascii=False) + "\n"
    if head is not None:
        yield json.dumps({"head": head.model_dump(mode="json")}) + "\n"


def csv_lines(rows: Iterable[tuple[Entry, str]], head: SignedHead | None) -> Iterator[str]:
    """A header, a line for each row; the head has `head` for its number and itself for its detail."""
    yield _csv_line(COLUMNS)
    for entry, stated in rows:
        texts = (entry.actor, entry.action, entry.subject)
        detail = json.dumps(dict(entry.detail), ensure_ascii=False)
        yield _csv_line((entry.id, entry.at_ms, *map(_plain, texts), detail, entry.prev, stated))
    if head is not None:
        content = json.dumps(head.model_dump(mode="json"))
        yield _csv_line(("head", head.at_ms, "", "", "", content, "", head.hash))


def _plain(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _csv_line(cells: Iterable[Any]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\r\n").writerow(cells)
    return stream.getvalue()


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _json_rows(lines: Iterator[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise RequestInvalid(f"line {number} is not JSON") from None
        if not isinstance(row, dict):
            raise RequestInvalid(f"line {number} is not an object")
        yield number, row


def _csv_rows(lines: Iterator[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.reader(lines, strict=True)
    number = 1
    try:
        for cells in reader:
            number = reader.line_num + 1
            if len(cells) != len(COLUMNS):
                raise RequestInvalid(f"line {number} has {len(cells)} columns, expected {len(COLUMNS)}")
            row: dict[str, Any] = dict(zip(COLUMNS, cells, strict=True))
            detail = json.loads(row["detail"])
            if row["id"] == "head":
                yield number, {"head": detail}
                continue
            texts = {name: row[name].removeprefix("'") for name in ("actor", "action", "subject")}
            yield number, {**row, **texts, "id": int(row["id"]), "at_ms": int(row["at_ms"]), "detail": detail}
    except (csv.Error, ValueError) as error:
        raise RequestInvalid(f"line {number} cannot be read: {error}") from None


def _entry(row: dict[str, Any], number: int) -> tuple[Entry, str]:
    kinds: dict[str, type] = {"id": int, "at_ms": int, "detail": dict}
    if row.keys() != set(COLUMNS) or not all(isinstance(row[n], kinds.get(n, str)) for n in COLUMNS):
        raise RequestInvalid(f"line {number} is not an audit row: it needs {', '.join(COLUMNS)}")
    stated = row["hash"]
    return Entry(**{name: row[name] for name in COLUMNS if name != "hash"}), stated


def _head(raw: Any, number: int) -> SignedHead:
    try:
        return parse_object(SignedHead, raw, f"line {number}")
    except ContractError as error:
        raise RequestInvalid(str(error)) from None
