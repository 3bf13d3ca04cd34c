from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from edge_contracts.errors import SignatureInvalid
from edge_contracts.keys import PrivateKey
from edge_fleet.access.audit_check import check, check_file
from edge_fleet.access.audit_files import csv_lines, json_lines
from edge_fleet.access.audit_head import SignedHead, accept, read_head, seal, sign_head
from edge_fleet.audit import START, Entry, entries, record
from edge_fleet.errors import AuditBroken, RequestInvalid
from edge_fleet.schema import audit
from edge_fleet.store import Store, open_store

KEY = PrivateKey.from_seed(bytes(32))
EXPORTS = {"jsonl": json_lines, "csv": csv_lines}


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Store]:
    """A store with five rows; that both databases make one chain is the last test's affair."""
    store = open_store(f"sqlite:///{tmp_path / 'fleet.db'}")
    with store.write() as connection:
        for n in range(5):
            record(
                connection, "=1+1", "device revoked", f'd{n}, "é"\n', 1000 + n, share=n / 3, deep={"a": [n]}
            )
    yield store
    store.close()


def _head(store: Store) -> SignedHead:
    with store.read() as connection:
        last = connection.execute(select(audit.c.id, audit.c.hash).order_by(audit.c.id.desc())).first()
    assert last is not None
    return sign_head(KEY, last.id, last.hash, 2000)


def _check(store: Store, head: SignedHead | None = None) -> int:
    with store.read() as connection:
        return check(entries(connection), head, KEY.public).rows


def test_a_row_is_hashed_as_written_down_by_hand() -> None:
    """`printf '{...}\\n' | sha256sum` gives the same."""
    entry = Entry(1, 2, "a", "b", "é", {"n": 1.5}, START)
    text = '{"action":"b","actor":"a","at_ms":2,"detail":{"n":1.5},"id":1,"prev":"' + "0" * 64
    import hashlib

    assert entry.hash == hashlib.sha256(f'{text}","subject":"é"}}\n'.encode()).hexdigest()


def test_a_log_as_it_was_written_holds(written: Store) -> None:
    assert _check(written) == 5
    assert _check(written, _head(written)) == 5


@pytest.mark.parametrize("column", ["at_ms", "actor", "action", "subject", "detail", "hash", "prev"])
def test_a_row_that_was_changed_is_named(written: Store, column: str) -> None:
    other = {"at_ms": 7, "detail": {"share": 1}}.get(column, "f" * 64)
    with written.write() as connection:
        connection.execute(update(audit).where(audit.c.id == 3).values({column: other}))
    with pytest.raises(AuditBroken, match=r"audit row 3 \("):
        _check(written)


@pytest.mark.parametrize("number", [0, -1])
def test_a_row_that_was_put_in_before_the_first_is_found(written: Store, number: int) -> None:
    """The list and the exports show it like any other."""
    forged = Entry(number, 7, "ada", "rollout approved", "r1", {}, START[:-1] + "1")
    with written.write() as connection:
        connection.execute(insert(audit).values(**vars(forged), hash=forged.hash))
    with pytest.raises(AuditBroken, match=f"audit row {number} "):
        _check(written)


def test_a_row_that_was_changed_together_with_its_hash_is_found_at_the_next(written: Store) -> None:
    with written.write() as connection:
        row = connection.execute(select(audit).where(audit.c.id == 3)).mappings().one()
        forged = Entry(**{**{k: v for k, v in row.items() if k != "hash"}, "actor": "somebody"})
        connection.execute(update(audit).where(audit.c.id == 3).values(actor="somebody", hash=forged.hash))
    with pytest.raises(AuditBroken, match=r"audit row 4 .* a row between them"):
        _check(written)


@pytest.mark.parametrize("gone", [1, 3])
def test_a_row_that_was_taken_out_is_found(written: Store, gone: int) -> None:
    with written.write() as connection:
        connection.execute(delete(audit).where(audit.c.id == gone))
    with pytest.raises(AuditBroken, match=f"audit row {gone + 1} .*a row between them was taken out"):
        _check(written)


def test_a_row_that_was_put_in_is_found(written: Store) -> None:
    with written.write() as connection:
        connection.execute(update(audit).where(audit.c.id == 5).values(id=6))
        prev = connection.execute(select(audit.c.hash).where(audit.c.id == 4)).scalar_one()
        entry = Entry(5, 1, "a", "b", "c", {}, prev[::-1])
        connection.execute(insert(audit).values(**vars(entry), hash=entry.hash))
    with pytest.raises(AuditBroken, match="audit row 5 "):
        _check(written)


def test_the_database_refuses_a_second_row_after_the_same_one(written: Store) -> None:
    with written.read() as connection:
        prev = connection.execute(select(audit.c.prev).where(audit.c.id == 3)).scalar_one()
    entry = Entry(9, 1, "a", "b", "c", {}, prev)
    with pytest.raises(IntegrityError), written.write() as connection:
        connection.execute(insert(audit).values(**vars(entry), hash=entry.hash))


def test_an_end_that_was_cut_off_is_found_by_the_head_alone(written: Store) -> None:
    head = _head(written)
    with written.write() as connection:
        connection.execute(delete(audit).where(audit.c.id > 3))
    assert _check(written) == 3
    with pytest.raises(AuditBroken, match=r"audit row 5 was signed .* and is gone: the log ends with row 3"):
        _check(written, head)
    with written.write() as connection:
        connection.execute(delete(audit))
    with pytest.raises(AuditBroken, match="the log ends with row 0"):
        _check(written, head)


def test_a_log_that_was_written_anew_with_right_hashes_is_found_by_the_head(written: Store) -> None:
    head = _head(written)
    with written.write() as connection:
        connection.execute(delete(audit))
        for n in range(6):
            record(connection, "forger", "nothing", "x", n)
    assert _check(written) == 6
    with pytest.raises(AuditBroken, match=r"audit row 5 .* it was rewritten"):
        _check(written, head)


def test_a_head_of_another_key_or_with_another_row_is_not_believed(written: Store) -> None:
    head = _head(written)
    other = sign_head(PrivateKey.from_seed(bytes([1] * 32)), head.row, head.hash, head.at_ms)
    for wrong in (other, head.model_copy(update={"row": 4}), head.model_copy(update={"signature": "!"})):
        with pytest.raises(SignatureInvalid):
            _check(written, wrong)


@pytest.mark.parametrize("form", sorted(EXPORTS))
def test_an_export_holds_without_the_database(written: Store, form: str) -> None:
    text = _export(written, form)
    found = check_file(io.StringIO(text, newline=""), KEY.public)
    assert found.rows == 5 and found.head is not None and found.head.row == 5
    if form == "csv":
        assert "'=1+1" in text  # a spreadsheet must not compute it


Damage = Callable[[str], str]
DAMAGES: dict[str, Damage] = {
    "changed": lambda text: text.replace("=1+1", "=1+2", 3).replace("=1+2", "=1+1", 2),
    "taken out": lambda text: "".join(_without(text, 1)),
    "put in twice": lambda text: "".join(_twice(text, 2)),
    "cut": lambda text: "".join(_without(text, -2)),
    "head at another time": lambda text: text.replace('"at_ms": 2000', '"at_ms": 2001').replace(
        '""at_ms"": 2000', '""at_ms"": 2001'
    ),
}


@pytest.mark.parametrize("damage", sorted(DAMAGES))
@pytest.mark.parametrize("form", sorted(EXPORTS))
def test_a_damaged_export_is_found(written: Store, form: str, damage: str) -> None:
    damaged = DAMAGES[damage](_export(written, form))
    with pytest.raises((AuditBroken, SignatureInvalid)):
        check_file(io.StringIO(damaged, newline=""), KEY.public)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "{}",
        "{",
        "[]\n",
        '{"head": 1}',
        "id,at_ms,actor,action,subject,detail,prev,hash\r\n1,2\r\n",
        "id,at_ms,actor,action,subject,detail,prev,hash\r\nx,2,a,b,c,{},d,e\r\n",
    ],
)
def test_what_is_no_export_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(RequestInvalid) as refusal:
        check_file(io.StringIO(text, newline=""))
    assert "\n" not in str(refusal.value)


def _export(store: Store, form: str) -> str:
    with store.read() as connection:
        return "".join(EXPORTS[form](entries(connection), _head(store)))


def _records(text: str) -> list[str]:
    """The lines, those of one row together: the subjects hold a line's end."""
    lines = text.splitlines(keepends=True)
    if text.startswith("{"):
        return lines
    joined, rows = "", []
    for line in lines:
        joined += line
        if joined.count('"') % 2 == 0:
            rows.append(joined)
            joined = ""
    return rows


def _without(text: str, row: int) -> list[str]:
    rows = _records(text)
    del rows[row]
    return rows


def _twice(text: str, row: int) -> list[str]:
    rows = _records(text)
    return [*rows[: row + 1], *rows[row:]]


def test_the_head_follows_the_log_and_is_not_signed_over_a_loss(written: Store, tmp_path: Path) -> None:
    path = tmp_path / "audit.head"
    with written.read() as connection:
        first = seal(connection, KEY, path, 1)
        assert first is not None and seal(connection, KEY, path, 2) == first == read_head(path)
    with written.write() as connection:
        connection.execute(delete(audit).where(audit.c.id == 5))
        record(connection, "forger", "nothing", "x", 3)
        record(connection, "forger", "nothing", "x", 4)
    with written.read() as connection, pytest.raises(AuditBroken, match="audit row 5 was signed"):
        seal(connection, KEY, path, 5)
    assert read_head(path) == first
    with written.write() as connection:
        accept(connection, KEY, path, "local", "a backup was restored", 6)
    assert _check(written, read_head(path)) == 7
    with written.read() as connection:
        last = list(entries(connection))[-1][0]
    assert last.detail["lost"]["hash"] == first.hash and last.detail["why"] == "a backup was restored"


def test_programs_that_write_at_once_make_one_chain(database_url: str) -> None:
    """Two stores are two programs: nothing in this process makes their transactions take turns."""
    stores = [open_store(database_url) for _ in range(2)]

    def write(store: Store) -> None:
        for n in range(20):
            with store.write() as connection:
                record(connection, "a", "b", "c", n)

    threads = [threading.Thread(target=write, args=(store,)) for store in stores for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _check(stores[0]) == 80
    for store in stores:
        store.close()


def test_rows_are_numbered_upwards_however_well_they_are_chained() -> None:
    first = Entry(2, 1, "a", "b", "c", {}, START)
    second = Entry(2, 2, "a", "b", "c", {}, first.hash)
    with pytest.raises(AuditBroken, match="comes after row 2: rows are numbered upwards"):
        check([(first, first.hash), (second, second.hash)], None)


def test_without_a_key_a_head_is_taken_as_it_is_and_the_log_must_still_reach_it() -> None:
    entry = Entry(1, 1, "a", "b", "c", {}, START)
    head = sign_head(PrivateKey.generate(), 1, entry.hash, 5)
    assert check([(entry, entry.hash)], head).rows == 1
    with pytest.raises(SignatureInvalid):
        check([(entry, entry.hash)], head, KEY.public)
    with pytest.raises(AuditBroken, match="is gone"):
        check([], head)
