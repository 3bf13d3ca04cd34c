"""A rollout knows retries and whom operators left out."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Change the tables."""
    op.create_table(
        "rollout_skips",
        sa.Column("rollout", sa.String(length=64), nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("why", sa.String(length=500), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.id"]),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"]),
        sa.PrimaryKeyConstraint("rollout", "device"),
    )
    with op.batch_alter_table("rollout_members") as members:
        members.add_column(sa.Column("retries", sa.JSON(), server_default="{}", nullable=False))
        members.add_column(sa.Column("left_as", sa.String(length=16), nullable=True))
