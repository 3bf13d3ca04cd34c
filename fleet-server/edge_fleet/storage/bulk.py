"""Many rows at once, by each driver's fastest way: what ingest does a thousand times a second.

SQLAlchemy compiles and converts row by row, which costs more than the insert itself (2 to 4 times, as
measured); here rows are tuples of plain values, JSON is text already, and statements are built once.
Everything else in the server uses SQLAlchemy's own statements.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import orjson
from sqlalchemy import JSON, BigInteger, Boolean, Column, Connection, Float, Integer, LargeBinary, Table
from sqlalchemy.exc import DBAPIError

Values = Sequence[Any]

_POSTGRES_TYPES = (
    (LargeBinary, "bytea"),
    (BigInteger, "int8"),
    (Boolean, "bool"),
    (Integer, "int4"),
    (Float, "float8"),
)  # JSON's binary form is its text


def insert_many(connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Values]) -> None:
    """Insert rows that are known not to be there yet.

    Args:
        columns: What each row holds, in this order.
    """
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        _copy(connection, table, tuple(columns), rows)
    else:
        connection.exec_driver_sql(_insert(table, tuple(columns)), [tuple(row) for row in rows])


def rows_of(
    connection: Connection, table: Table, key: Sequence[str], keys: Sequence[Values], columns: Sequence[str]
) -> Sequence[Any]:
    """The given columns of the rows with these keys, in any order; `key` must be indexed."""
    if not keys:
        return []
    postgres = connection.dialect.name == "postgresql"
    statement = _select(table, tuple(key), tuple(columns), postgres)
    values = _columnwise(keys) if postgres else (orjson.dumps(keys).decode(),)
    return connection.exec_driver_sql(statement, tuple(values)).all()


def update_many(
    connection: Connection, table: Table, key: Sequence[str], columns: Sequence[str], rows: Sequence[Values]
) -> None:
    """Set columns of the rows with these keys.

    Args:
        rows: Values of `columns`, then of `key`.
    """
    if not rows:
        return
    postgres = connection.dialect.name == "postgresql"
    statement = _update(table, tuple(key), tuple(columns), postgres)
    if postgres:
        connection.exec_driver_sql(statement, tuple(_columnwise(rows)))
    else:
        connection.exec_driver_sql(statement, [tuple(row) for row in rows])


def json_text(value: Any) -> str:
    """A value as JSON; keys may be numbers."""
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()


def _columnwise(rows: Sequence[Values]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


@cache
def _insert(table: Table, columns: tuple[str, ...]) -> str:
    return f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


@cache
def _select(table: Table, key: tuple[str, ...], columns: tuple[str, ...], postgres: bool) -> str:
    wanted = ", ".join(f"t.{name}" for name in columns)
    if postgres:
        arrays = ", ".join(f"%s::{_postgres_type(table.c[name])}[]" for name in key)
        names = ", ".join(f"k{n}" for n in range(len(key)))
        same = " AND ".join(f"t.{name} = k{n}" for n, name in enumerate(key))
        return f"SELECT {wanted} FROM unnest({arrays}) AS wanted({names}) JOIN {table.name} t ON {same}"
    same = " AND ".join(f"t.{name} = json_extract(wanted.value, '$[{n}]')" for n, name in enumerate(key))
    # CROSS JOIN keeps the order: for each key one look into the index
    return f"SELECT {wanted} FROM json_each(?) AS wanted CROSS JOIN {table.name} t ON {same}"


@cache
def _update(table: Table, key: tuple[str, ...], columns: tuple[str, ...], postgres: bool) -> str:
    if not postgres:
        changes = ", ".join(f"{name} = ?" for name in columns)
        return f"UPDATE {table.name} SET {changes} WHERE {' AND '.join(f'{name} = ?' for name in key)}"
    arrays = ", ".join(f"%s::{_postgres_type(table.c[name])}[]" for name in (*columns, *key))
    names = ", ".join([*(f"v{n}" for n in range(len(columns))), *(f"k{n}" for n in range(len(key)))])
    casts = ["::json" if isinstance(table.c[name].type, JSON) else "" for name in columns]
    changes = ", ".join(f"{name} = v{n}{casts[n]}" for n, name in enumerate(columns))
    same = " AND ".join(f"t.{name} = k{n}" for n, name in enumerate(key))
    return f"UPDATE {table.name} t SET {changes} FROM unnest({arrays}) AS changed({names}) WHERE {same}"


def _copy(connection: Connection, table: Table, columns: tuple[str, ...], rows: Sequence[Values]) -> None:
    """PostgreSQL's COPY in its binary form."""
    driver: Any = connection.connection.driver_connection
    statement = f"COPY {table.name} ({', '.join(columns)}) FROM STDIN (FORMAT BINARY)"
    error_class = connection.dialect.loaded_dbapi.Error
    try:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types([_postgres_type(table.c[name]) for name in columns])
            for row in rows:
                copy.write_row(row)
    except error_class as error:
        # past SQLAlchemy, which would have made it one of its own
        raise DBAPIError.instance(statement, None, error, error_class, dialect=connection.dialect) from None


def _postgres_type(column: Column[Any]) -> str:
    return next((name for kind, name in _POSTGRES_TYPES if isinstance(column.type, kind)), "text")
