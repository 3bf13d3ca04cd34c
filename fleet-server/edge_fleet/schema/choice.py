"""`devices.choice`: what a rollout chooses a device by, as one text that the database itself works out.

Devices that are alike in it are treated alike by every plan, but for their labels, names and what they are
in the middle of: so a fleet of 100,000 is a handful of choices, and questions about all of it are asked of
those (`rollouts/groups.py`). A generated column cannot fall behind `state` and `profile`, whoever writes
them. It is not among the columns of `devices` and no revision's affair: nobody inserts it, no backup holds
it, and it is taken out before revisions are applied and added afterwards (`migrations/upgrade.py`).

Lines: counter, bundle that answers, 1 where that is not on the profile's first choice, what the agent knows
(JSON), lineage of profiles (JSON). On SQLite it exists in the index alone, with all that is asked beside it.
"""

from __future__ import annotations

from sqlalchemy import Column, Connection, Text
from sqlalchemy.sql.expression import column

from edge_fleet.schema.device import devices

CHOICE: Column[str] = column("choice", Text, _selectable=devices)  # type: ignore[assignment]

_EXPRESSION = {
    "sqlite": """\
coalesce(json_extract({state}, '$.counter'), 0)
|| char(10) || coalesce(json_extract({state}, '$.active.bundle'), '')
|| char(10) || (coalesce(json_extract({state}, '$.active.fallback'), '') <> '')
|| char(10) || coalesce(json_extract({state}, '$.knows'), '[]')
|| char(10) || {profile}""",
    "postgresql": """\
coalesce({state} ->> 'counter', '0')
|| chr(10) || coalesce({state} -> 'active' ->> 'bundle', '')
|| chr(10) || CASE WHEN coalesce({state} -> 'active' ->> 'fallback', '') <> '' THEN '1' ELSE '0' END
|| chr(10) || coalesce({state} ->> 'knows', '[]')
|| chr(10) || ({profile} #>> '{{}}')""",
}
_ADD = {
    "sqlite": (
        "ALTER TABLE devices ADD COLUMN choice TEXT GENERATED ALWAYS AS ({}) VIRTUAL",
        "CREATE INDEX devices_by_choice ON devices (choice, revoked_ms, enrolled_ms, id, labels)",
    ),
    "postgresql": ("ALTER TABLE devices ADD COLUMN choice TEXT GENERATED ALWAYS AS ({}) STORED",),
}

_THERE = {
    "sqlite": "SELECT count(*) FROM pragma_table_xinfo('devices') WHERE name = 'choice'",
    "postgresql": "SELECT count(*) FROM pg_attribute WHERE attrelid = 'devices'::regclass AND "
    "attname = 'choice' AND NOT attisdropped",
}


def choice_as_sql(dialect: str, state: str, profile: str) -> str:
    """The text as an expression of a dialect.

    Args:
        state, profile: SQL of the two columns, or of what would be written into them.
    """
    return _EXPRESSION[dialect].format(state=state, profile=profile)


def add_choice(connection: Connection) -> None:
    """See that the column is there."""
    name = connection.dialect.name
    if not connection.exec_driver_sql(_THERE[name]).scalar_one():
        for statement in _ADD[name]:
            connection.exec_driver_sql(statement.format(choice_as_sql(name, "state", "profile")))


def drop_choice(connection: Connection) -> None:
    """Take it out, before revisions change or copy the table: nobody can copy what nobody may insert."""
    if connection.exec_driver_sql(_THERE[connection.dialect.name]).scalar_one():
        connection.exec_driver_sql("DROP INDEX IF EXISTS devices_by_choice")
        connection.exec_driver_sql("ALTER TABLE devices DROP COLUMN choice")
