"""The database: opening it, its version, its transactions, and what differs between dialects.

SQLite allows one writer at a time, and the code above relies on it: it reads, decides and writes in one
transaction. On PostgreSQL the same is made true by an advisory lock that each writing transaction takes
first (docs/decisions/0080). Readers wait for nobody and see one moment: WAL there, a snapshot here.
Queries live with those who ask them; the tables are in `schema/`, their history in `migrations/`.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import orjson
from sqlalchemy import Connection, Engine, Table, create_engine, event, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from edge_contracts.errors import one_line
from edge_contracts.on_disk import write_again
from edge_fleet.errors import DatabaseUnreachable
from edge_fleet.migrations.upgrade import upgrade

WRITERS_LOCK = 0x65646765_666C7478  # "edgefltx": one number for all programs that write a fleet's database
_TAKE_TURN = text(f"SELECT pg_advisory_xact_lock({WRITERS_LOCK})")
# libpq's: a server that is cut off without a word is given up, and found again, in seconds
_POSTGRES_NETWORK = {"connect_timeout": 5, "keepalives_idle": 10, "tcp_user_timeout": 15_000}
BUSY_TIMEOUT_MS = 10_000  # only another program (a backup, a shell) can make us wait
# 16 MB of the log before it is written into the database, which syncs both: with SQLite's own 1000 pages
# every other batch of ingest waits for that. What is committed is on the disk, in the log, before and after.
CHECKPOINT_PAGES = 4000
# by transaction that writes: what is still to be done in it
_at_end: WeakKeyDictionary[Connection, list[Callable[[Connection], None]]] = WeakKeyDictionary()


class Store:
    """The fleet's database."""

    def __init__(self, engine: Engine) -> None:
        """Take an engine whose tables are there; `open_store` makes both."""
        postgres = engine.dialect.name == "postgresql"
        self._engine = engine
        self._writers = engine.execution_options(writes=True)
        self._readers = (
            engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            if postgres
            else engine.execution_options(writes=False)
        )
        # threads of ours queue here, in turn and without a limit of time, and not in the database
        self._turn = threading.RLock()
        self._take_turn = _TAKE_TURN if postgres else None

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes: committed and on disk at the end, undone by an exception."""
        with self._turn, self._writers.begin() as connection:
            if self._take_turn is not None:
                connection.execute(self._take_turn)
            yield connection
            for work in _at_end.pop(connection, ()):
                work(connection)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one moment and writes nothing."""
        with self._readers.connect() as connection:
            yield connection

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def open_store(url: str) -> Store:
    """Open a database, making the tables in a fresh one and bringing an older one to this release's schema.

    Args:
        url: Of SQLAlchemy's form: sqlite:////path/fleet.db or postgresql://user:password@host/name;
            `?password_file=PATH` names a file with the password.

    Raises:
        DatabaseUnreachable: The URL is wrong, a driver is missing, or nobody answers.
        DatabaseTooNew, DatabaseMixed, MigrationFailed: See `migrations/upgrade.py`; nothing was changed.
    """
    with ExitStack() as undo:
        engine = undo.enter_context(opened(url))
        if engine.dialect.name == "sqlite":
            _settle(engine)
        upgrade(engine)
        undo.pop_all()
    return Store(engine)


@contextmanager
def opened(url: str) -> Iterator[Engine]:
    """A database as it is, without a look at its schema.

    Raises:
        DatabaseUnreachable: The URL is wrong, a driver is missing, or nobody answers.
    """
    engine = _engine(url)
    try:
        yield engine
    except DBAPIError as error:
        reason = one_line(error)
        if engine.dialect.name == "sqlite" and not os.access(Path(engine.url.database or "").parent, os.W_OK):
            reason += "; SQLite writes beside it, and its folder is read-only: copy the folder to read it"
        raise DatabaseUnreachable(
            f"cannot open the database {engine.url.render_as_string()}: {reason}"
        ) from None
    finally:
        engine.dispose()


def is_full(reason: str) -> bool:
    """Whether a database says that its disk is full: SQLite in its own words, PostgreSQL in the system's."""
    return "disk is full" in reason or "No space left on device" in reason


def at_end(connection: Connection, work: Callable[[Connection], None]) -> None:
    """Have something done in a `Store.write` before it is committed; not when it is undone."""
    _at_end.setdefault(connection, []).append(work)


def insert_new(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], key: Sequence[str]
) -> None:
    """Insert those rows whose key is not there yet."""
    if not rows:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table).on_conflict_do_nothing(index_elements=list(key))
    connection.execute(statement, [dict(row) for row in rows])


def upsert(
    connection: Connection,
    table: Table,
    row: Mapping[str, Any],
    key: Sequence[str],
    add: Sequence[str] = (),
) -> None:
    """Insert a row, or overwrite the one with the same key.

    Args:
        add: Columns whose new value is added to the old one.
    """
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table).values(**row)
    changes = {
        name: table.c[name] + statement.excluded[name] if name in add else statement.excluded[name]
        for name in row
        if name not in key
    }
    connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=changes))


def _engine(url: str) -> Engine:
    try:
        parsed = _with_password(make_url(url))
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise DatabaseUnreachable(
                f"database {parsed.get_backend_name()!r} is not supported; give sqlite:/// or postgresql://"
            )
        if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").is_absolute():
            # without a file all of it would be gone with the process; a relative one depends on who asks
            raise DatabaseUnreachable(
                f"{parsed.render_as_string()} does not name a file by its whole path; "
                "give sqlite:////srv/fleet.db, or sqlite for the file in the home"
            )
        # read committed is enough for writers: there is one at a time
        network = _POSTGRES_NETWORK if parsed.get_backend_name() == "postgresql" else {}
        engine = create_engine(
            parsed, pool_pre_ping=True, connect_args=network, json_deserializer=orjson.loads
        )
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise DatabaseUnreachable(
            "--database is not a database URL; give sqlite:////path or postgresql://user:password@host/name"
        ) from None
    except ModuleNotFoundError as error:
        raise DatabaseUnreachable(
            f"PostgreSQL needs {error.name}; install it with: pip install 'edgefleet[postgres]'"
        ) from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        event.listen(engine, "connect", _configure_postgres)
    return engine


def _with_password(url: URL) -> URL:
    """A URL whose `?password_file=PATH` is replaced by what is in that file: a secret on no command line."""
    path = url.query.get("password_file")
    if path is None:
        return url
    try:
        password = Path(str(path)).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise DatabaseUnreachable(f"cannot read the database's password file {path}: {reason}") from None
    return url.difference_update_query(["password_file"]).set(password=password)


def _settle(engine: Engine) -> None:
    """Have all that is read on the disk, before a device is told that it is.

    A commit that failed its sync is read by the next process like any other, until the power goes
    (docs/decisions/0110). PostgreSQL ends itself then, and recovers.
    """
    with engine.execution_options(writes=True).begin():  # nobody else writes meanwhile
        try:
            write_again(Path(f"{engine.url.database}-wal"))
        except OSError as error:
            raise DatabaseUnreachable(
                f"cannot write the database {engine.url.database}: {error.strerror}; see to its disk"
            ) from None


def _begin_sqlite(connection: Connection) -> None:
    """A writer takes its turn at once: one that read first could not become a writer after another wrote."""
    writes = connection.get_execution_options().get("writes")
    if writes is not None:
        connection.exec_driver_sql(f"PRAGMA query_only={'OFF' if writes else 'ON'}")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _configure_postgres(connection: Any, _record: object) -> None:
    """Hash a fleet in memory instead of sorting it on the disk, and compile nothing for a page.

    The database guesses as many groups as there are devices, and that a question about all of them is long
    enough for a compiler, which takes longer than the answer does.
    """
    with connection.cursor() as cursor:
        for setting in ("work_mem = '32MB'", "jit = off"):
            cursor.execute(f"SET {setting}")
    connection.commit()


def _configure_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    """WAL, and FULL: an acknowledgement is sent after the commit and must survive a power cut."""
    connection.isolation_level = None  # SQLAlchemy's "begin" event starts transactions, not the driver
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"wal_autocheckpoint={CHECKPOINT_PAGES}",
        f"busy_timeout={BUSY_TIMEOUT_MS}",
    ):
        connection.execute(f"PRAGMA {pragma}")
