"""The database: opening it, its version, its transactions, and what differs between dialects.

One process owns the database. SQLite allows one writer at a time, so writing transactions take a lock;
reading ones do not wait for it (WAL). The same code speaks to PostgreSQL. Queries live with those who
ask them; the tables are in `schema.py`.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError

from edge_fleet import schema
from edge_fleet.errors import DatabaseTooNew, DatabaseUnreachable

_SCHEMA_VERSION = "schema_version"
BUSY_TIMEOUT_MS = 10_000  # only another program (a backup, a shell) can make us wait


class Store:
    """The fleet's database."""

    def __init__(self, engine: Engine) -> None:
        """Take an engine whose tables are there; `open_store` makes both."""
        self._engine = engine
        self._one_writer: AbstractContextManager[Any] = (
            threading.RLock() if engine.dialect.name == "sqlite" else nullcontext()
        )

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes: committed and on disk at the end, undone by an exception."""
        with self._one_writer, self._engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one moment and writes nothing."""
        with self._engine.connect() as connection:
            yield connection

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def open_store(url: str) -> Store:
    """Open a database, making the tables in a fresh one.

    Args:
        url: Of SQLAlchemy's form: sqlite:////path/fleet.db or postgresql://user:password@host/name.

    Raises:
        DatabaseUnreachable: The URL is wrong, a driver is missing, or nobody answers.
        DatabaseTooNew: A later release has written it.
    """
    engine = _engine(url)
    try:
        _prepare(engine)
    except (OperationalError, DBAPIError) as error:
        engine.dispose()
        raise DatabaseUnreachable(
            f"cannot open the database {engine.url.render_as_string()}: {_one_line(error.orig or error)}"
        ) from None
    except DatabaseTooNew:
        engine.dispose()
        raise
    return Store(engine)


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
        parsed = make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_backend_name() not in ("sqlite", "postgresql"):
            raise DatabaseUnreachable(
                f"database {parsed.get_backend_name()!r} is not supported; give sqlite:/// or postgresql://"
            )
        # read committed is enough: one process writes, and its writers do not read each other's rows
        engine = create_engine(parsed, pool_pre_ping=True)
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
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine


def _configure_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    """WAL, and FULL: an acknowledgement is sent after the commit and must survive a power cut."""
    connection.isolation_level = None  # SQLAlchemy's "begin" event starts transactions, not the driver
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        f"busy_timeout={BUSY_TIMEOUT_MS}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _prepare(engine: Engine) -> None:
    """Make the tables in a fresh database; refuse one that a later release has written."""
    with engine.begin() as connection:
        schema.meta.create(connection, checkfirst=True)
        found = connection.execute(
            select(schema.meta.c.value).where(schema.meta.c.key == _SCHEMA_VERSION)
        ).scalar()
        if found is not None and int(found) > schema.VERSION:
            raise DatabaseTooNew(
                f"the database has schema {found}, this release knows {schema.VERSION}; update edgefleet"
            )
        schema.metadata.create_all(connection)
        if found is None:
            connection.execute(insert(schema.meta).values(key=_SCHEMA_VERSION, value=str(schema.VERSION)))


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
