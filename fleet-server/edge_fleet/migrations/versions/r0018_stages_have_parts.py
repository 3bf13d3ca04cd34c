"""Assignments have terms, and stages of rollouts parts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Change the tables."""
    with op.batch_alter_table("assignments") as assignments:
        assignments.add_column(sa.Column("terms", sa.JSON(none_as_null=True), nullable=True))
    with op.batch_alter_table("rollouts") as rollouts:
        rollouts.add_column(sa.Column("part", sa.String(16), server_default="switch", nullable=False))
