"""Bringing a database to the schema of this release, all at once or not at all, and refusing any other.

Everything happens in one transaction: SQLite and PostgreSQL both undo changes of tables, so a revision
that dies half-way, or a power cut, leaves the database as it was. At the end the tables are compared with
`schema/`: a mix of two schemas is refused before anything is served from it.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, Table, inspect, select, text, update
from sqlalchemy.exc import DBAPIError

from edge_contracts.errors import one_line
from edge_fleet import schema
from edge_fleet.errors import DatabaseMixed, DatabaseTooNew, MigrationFailed
from edge_fleet.schema.choice import add_choice, drop_choice

log = logging.getLogger(__name__)

SCRIPTS = Path(__file__).parent
FIRST = "0001"
# Before there were revisions a number in `meta` said which schema it is. 1 is revision 0001; 2 stands for
# "see alembic_version" and makes the release of before, which knows only 1, refuse the database.
NUMBER_KEY, FIRST_NUMBER, MANAGED_NUMBER = "schema_version", 1, 2
ADVISORY_LOCK = 0x65646765_666D6967  # "edgefmig": two servers that start at once migrate one after the other


def upgrade(engine: Engine) -> tuple[str | None, str]:
    """Bring a database to the newest revision; a fresh one gets all tables.

    Returns:
        The revision that was found, None for a fresh database, and the one that it has now.

    Raises:
        DatabaseTooNew: A later release has written it.
        DatabaseMixed: Its tables are not those of the revision that it says it has.
        MigrationFailed: A revision could not be applied.
        Nothing was changed in each case.
    """
    with _transaction(engine) as connection:
        found = found_revision(connection)
        newest = heads()[0]
        if found is None:
            schema.metadata.create_all(connection)
            connection.execute(
                schema.meta.insert().values(key=NUMBER_KEY, value=str(MANAGED_NUMBER)),
            )
            command.stamp(config_for(connection), newest)
            add_choice(connection)
            return None, newest
        if found != newest:
            _run(connection, found, newest)
        faults = differences(connection)
        if faults:
            more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            raise DatabaseMixed(
                f"the database says that it has revision {found}, but {faults[0]}{more}; "
                "restore a backup, nothing was changed"
            )
        add_choice(connection)
    return found, newest


def fill_empty(engine: Engine, revision: str, fill: Callable[[Connection], None]) -> None:
    """Make the tables of a revision in an empty database, let them be filled, and go on to the newest.

    Args:
        fill: Inserts rows; what it raises undoes everything.

    Raises:
        DatabaseTooNew: The revision is not known here.
        DatabaseMixed: The database is not empty, or the result is not this release's schema.
        MigrationFailed: A revision could not be applied to these rows.
    """
    if revision not in revisions():
        raise DatabaseTooNew(
            f"the backup has revision {revision}, this release knows {heads()[0]}; update edgefleet"
        )
    with _transaction(engine) as connection:
        if found_revision(connection) is not None:
            raise DatabaseMixed(
                f"the database {engine.url.render_as_string()} is not empty: it has a fleet already; "
                "give an empty one by --database, or sqlite for a file in the home"
            )
        command.upgrade(config_for(connection), revision)
        fill(connection)
        _run(connection, revision, heads()[0])
        faults = differences(connection)
        if faults:
            raise DatabaseMixed(f"after the upgrade of the backup {faults[0]}; nothing was changed")
        add_choice(connection)


def found_revision(connection: Connection) -> str | None:
    """The revision of a database; None for one that has no table of ours.

    Raises:
        DatabaseTooNew: A revision, or a number, that this release does not know.
        DatabaseMixed: Tables of ours without a word on their revision.
    """
    there = set(inspect(connection).get_table_names())
    stamped = MigrationContext.configure(connection).get_current_heads() if "alembic_version" in there else ()
    known = set(revisions())
    if stamped:
        if not set(stamped) <= known:
            unknown = ", ".join(sorted(set(stamped) - known))
            raise DatabaseTooNew(
                f"the database has revision {unknown}, this release knows {heads()[0]}; update edgefleet"
            )
        if len(stamped) > 1:
            raise DatabaseMixed(
                f"the database has the revisions {', '.join(stamped)} at once; restore a backup"
            )
        return stamped[0]
    ours = sorted(there & set(schema.metadata.tables))
    if not ours:
        return None
    number = None
    if "meta" in ours:
        query = select(schema.meta.c.value).where(schema.meta.c.key == NUMBER_KEY)
        number = connection.execute(query).scalar()
    if number is not None and number.isdigit() and int(number) > MANAGED_NUMBER:
        raise DatabaseTooNew(
            f"the database has schema {number}, this release knows {MANAGED_NUMBER}; update edgefleet"
        )
    if number != str(FIRST_NUMBER):
        raise DatabaseMixed(
            f"the database has a table {ours[0]!r} but does not say of which revision; "
            "give an empty database, or restore a backup"
        )
    return FIRST


def differences(connection: Connection) -> list[str]:
    """What `schema/` asks for and the database does not have, one short sentence each.

    Tables, columns and indexes that somebody added for themselves are their own affair.
    """
    context = MigrationContext.configure(connection, opts={"include_object": _is_ours})
    return [_sentence(fault) for fault in _flat(compare_metadata(context, schema.metadata))]


def heads() -> list[str]:
    """The newest revision; two when branches were not put into one line, which a test refuses."""
    return list(_script().get_heads())


def config_for(connection: Connection) -> Config:
    """Alembic's settings: our scripts, on this connection."""
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(SCRIPTS))
    config.set_main_option("path_separator", "os")
    config.set_main_option("file_template", "r%%(rev)s_%%(slug)s")
    return config


def _run(connection: Connection, found: str, newest: str) -> None:
    log.info("upgrading the database", extra={"found": found, "newest": newest})
    config = config_for(connection)
    try:
        command.stamp(config, found)
        drop_choice(connection)
        command.upgrade(config, newest)
        _mark_managed(connection)
        if connection.dialect.name == "sqlite":
            _check_references(connection)
    except DBAPIError as error:
        reason = one_line(error)
        raise MigrationFailed(
            f"cannot upgrade the database from revision {found} to {newest}: {reason}; nothing was changed"
        ) from None


def _mark_managed(connection: Connection) -> None:
    connection.execute(
        update(schema.meta).where(schema.meta.c.key == NUMBER_KEY).values(value=str(MANAGED_NUMBER))
    )


def _check_references(connection: Connection) -> None:
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
    if broken is not None:
        raise MigrationFailed(
            f"after the upgrade a row of {broken[0]!r} would point nowhere in {broken[2]!r}; "
            "nothing was changed"
        )


@contextmanager
def _transaction(engine: Engine) -> Iterator[Connection]:
    """One for everything; on SQLite without foreign keys, over which copies of tables would trip."""
    with engine.connect() as connection:
        own = connection.connection.driver_connection
        if isinstance(own, sqlite3.Connection):
            own.execute("PRAGMA foreign_keys=OFF")  # has no effect inside a transaction
        try:
            with connection.execution_options(writes=True).begin():
                if connection.dialect.name == "postgresql":
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
                yield connection
        finally:
            if isinstance(own, sqlite3.Connection):
                own.execute("PRAGMA foreign_keys=ON")


def _script() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)


def revisions() -> list[str]:
    """Every revision, newest first."""
    return [script.revision for script in _script().walk_revisions()]


def _is_ours(_thing: object, _name: str | None, _kind: str, reflected: bool, twin: object) -> bool:
    return not (reflected and twin is None)


def _flat(faults: list[Any]) -> Iterator[tuple[Any, ...]]:
    for fault in faults:
        if isinstance(fault, list):
            yield from fault
        else:
            yield fault


def _sentence(fault: tuple[Any, ...]) -> str:
    kind = str(fault[0])
    if kind == "add_table":
        return f"there is no table {fault[1].name!r}"
    if kind == "add_column":
        return f"{fault[2]!r} has no column {fault[3].name!r}"
    if kind.startswith("modify_"):
        return (
            f"column {fault[3]!r} of {fault[2]!r} has another {kind.removeprefix('modify_')} than it should"
        )
    thing = fault[1]
    where = thing.table.name if isinstance(getattr(thing, "table", None), Table) else ""
    return f"{kind.replace('_', ' ')} {getattr(thing, 'name', None) or ''} on {where!r} would be needed"
