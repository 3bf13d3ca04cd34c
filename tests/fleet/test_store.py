from __future__ import annotations

import threading
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select, update

from edge_fleet.errors import DatabaseTooNew, DatabaseUnreachable
from edge_fleet.schema import VERSION, meta, refusals
from edge_fleet.store import Store, insert_new, open_store, upsert


def _refusal(count: int = 1, last_ms: int = 1) -> dict[str, object]:
    return {"reason": "r", "device": "", "count": count, "last_ms": last_ms, "detail": ""}


def test_an_exception_undoes_a_transaction(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.write() as connection:
        connection.execute(insert(meta).values(key="k", value="v"))
        raise ZeroDivisionError
    with store.read() as connection:
        assert connection.execute(select(meta.c.value).where(meta.c.key == "k")).first() is None


def test_a_key_that_is_there_is_left_alone(store: Store) -> None:
    with store.write() as connection:
        insert_new(connection, meta, [{"key": "k", "value": "first"}], ["key"])
        insert_new(connection, meta, [{"key": "k", "value": "second"}, {"key": "l", "value": "new"}], ["key"])
        insert_new(connection, meta, [], ["key"])
        rows = connection.execute(select(meta.c.value).where(meta.c.key.in_(["k", "l"])).order_by(meta.c.key))
        assert rows.scalars().all() == ["first", "new"]


def test_an_upsert_adds_what_it_is_told_to_add_and_replaces_the_rest(store: Store) -> None:
    with store.write() as connection:
        upsert(connection, refusals, _refusal(2, 10), ["reason", "device"], add=["count"])
        upsert(connection, refusals, _refusal(3, 20), ["reason", "device"], add=["count"])
        row = connection.execute(select(refusals.c.count, refusals.c.last_ms)).one()
    assert tuple(row) == (5, 20)


def test_writers_in_several_threads_lose_nothing(store: Store) -> None:
    def work() -> None:
        for _ in range(20):
            with store.write() as connection:
                upsert(connection, refusals, _refusal(), ["reason", "device"], add=["count"])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.read() as connection:
        assert connection.execute(select(func.sum(refusals.c.count))).scalar() == 80


def test_a_reader_does_not_wait_for_a_writer(store: Store) -> None:
    with store.write() as writer:
        writer.execute(insert(meta).values(key="k", value="v"))
        with store.read() as reader:
            assert reader.execute(select(func.count()).select_from(meta)).scalar() == 1


def test_a_database_opens_again_with_what_it_had(database_url: str) -> None:
    first = open_store(database_url)
    with first.write() as connection:
        connection.execute(insert(meta).values(key="k", value="v"))
    first.close()
    second = open_store(database_url)
    with second.read() as connection:
        assert connection.execute(select(meta.c.value).where(meta.c.key == "k")).scalar() == "v"
    second.close()


def test_a_database_of_a_later_release_is_refused(database_url: str) -> None:
    first = open_store(database_url)
    with first.write() as connection:
        connection.execute(update(meta).values(value=str(VERSION + 1)))
    first.close()
    with pytest.raises(DatabaseTooNew, match=f"schema {VERSION + 1}, this release knows {VERSION}"):
        open_store(database_url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("fleet.db", "is not a database URL"),
        ("mysql://h/d", "'mysql' is not supported"),
        ("postgresql://nobody:secret@127.0.0.1:1/d", "cannot open the database"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_line_without_its_password(url: str, said: str) -> None:
    with pytest.raises(DatabaseUnreachable, match=said) as refusal:
        open_store(url)
    assert "\n" not in str(refusal.value) and "secret" not in str(refusal.value)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnreachable, match="unable to open"):
        open_store(f"sqlite:///{tmp_path / 'no' / 'fleet.db'}")


def test_a_file_that_is_not_a_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "fleet.db"
    path.write_bytes(b"these are my holiday pictures" * 100)
    with pytest.raises(DatabaseUnreachable, match="not a database"):
        open_store(f"sqlite:///{path}")
    assert path.read_bytes() == b"these are my holiday pictures" * 100
