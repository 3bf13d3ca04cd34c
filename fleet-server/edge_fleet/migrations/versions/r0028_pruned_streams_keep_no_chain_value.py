"""Pruned streams keep no chain value: the first envelope that is left says it."""

from __future__ import annotations

from alembic import op

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    """Change the tables."""
    with op.batch_alter_table("streams") as table:
        table.drop_column("pruned_chain")
