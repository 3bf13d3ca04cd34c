"""`python -m edge_fleet.migrations "what changes"`: begin a new revision from what `schema/` has more."""

from __future__ import annotations

import sys

from alembic import command
from sqlalchemy import create_engine

from edge_fleet.migrations.upgrade import config_for, heads


def main() -> None:
    """Write the file and say where it is."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        raise SystemExit('usage: python -m edge_fleet.migrations "what changes, as a sentence"')
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        config = config_for(connection)
        command.upgrade(config, "head")
        number = f"{int(heads()[0]) + 1:04}"
        command.revision(config, sys.argv[1].rstrip("."), autogenerate=True, rev_id=number)


if __name__ == "__main__":
    main()
