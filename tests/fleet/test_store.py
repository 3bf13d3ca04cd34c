from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

import pytest
from postgres_server import with_driver
from sqlalchemy import create_engine, func, insert, select, update
from sqlalchemy.exc import DBAPIError

from edge_fleet.errors import DatabaseUnreachable
from edge_fleet.schema import meta, refusals
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


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("fleet.db", "is not a database URL"),
        ("mysql://h/d", "'mysql' is not supported"),
        ("postgresql://nobody:secret@127.0.0.1:1/d", "cannot open the database"),
        ("sqlite:///", "does not name a file by its whole path"),
        ("sqlite://", "does not name a file by its whole path"),
        ("sqlite:///:memory:", "does not name a file by its whole path"),
        ("sqlite:///fleet.db", "does not name a file by its whole path; give sqlite:////srv/fleet.db"),
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


def test_what_a_writer_has_read_stays_true_until_it_commits(database_url: str) -> None:
    """Two stores are two programs: each reads a number, waits for the other to do so too, and adds one."""
    first, second = open_store(database_url), open_store(database_url)
    with first.write() as connection:
        connection.execute(insert(meta).values(key="n", value="0"))
    both_read = threading.Barrier(2)

    def work(store: Store) -> None:
        for _ in range(5):
            with store.write() as connection:
                found = connection.execute(select(meta.c.value).where(meta.c.key == "n")).scalar_one()
                with suppress(threading.BrokenBarrierError):
                    both_read.wait(0.05)  # met only where both are let in at once
                connection.execute(update(meta).where(meta.c.key == "n").values(value=str(int(found) + 1)))

    threads = [threading.Thread(target=work, args=(store,)) for store in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with first.read() as connection:
        assert connection.execute(select(meta.c.value).where(meta.c.key == "n")).scalar_one() == "10"
    first.close()
    second.close()


def test_without_the_turn_postgresql_lets_an_update_be_lost(postgres_url: str) -> None:
    """Why the turn is there: the same work in plain transactions of two connections."""
    store = open_store(postgres_url)
    with store.write() as connection:
        connection.execute(insert(meta).values(key="n", value="0"))
    engine = create_engine(with_driver(postgres_url))
    with engine.connect() as one, engine.connect() as other:
        for connection in (one, other):
            assert connection.execute(select(meta.c.value).where(meta.c.key == "n")).scalar_one() == "0"
        for connection in (one, other):
            connection.execute(update(meta).where(meta.c.key == "n").values(value="1"))
            connection.commit()
    with store.read() as connection:
        assert connection.execute(select(meta.c.value).where(meta.c.key == "n")).scalar_one() == "1"
    engine.dispose()
    store.close()


def test_a_reader_sees_one_moment_and_writes_nothing(database_url: str) -> None:
    store = open_store(database_url)
    with store.read() as reader:
        before = reader.execute(select(func.count()).select_from(meta)).scalar()
        with store.write() as writer:
            writer.execute(insert(meta).values(key="k", value="v"))
        assert reader.execute(select(func.count()).select_from(meta)).scalar() == before
    with pytest.raises(DBAPIError), store.read() as reader:
        reader.execute(insert(meta).values(key="l", value="w"))
    store.close()
