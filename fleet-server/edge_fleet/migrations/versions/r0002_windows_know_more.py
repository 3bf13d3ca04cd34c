"""Windows know their epsilon, lineup, software and what the device found to drift."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Change the tables."""

    with op.batch_alter_table("windows") as windows:
        windows.add_column(sa.Column("lineup", sa.JSON(), nullable=True))
        windows.add_column(sa.Column("merged", sa.Integer(), server_default="1", nullable=False))
        windows.add_column(sa.Column("epsilon", sa.Float(), nullable=True))
        windows.add_column(sa.Column("clock_step_ms", sa.BigInteger(), server_default="0", nullable=False))
        windows.add_column(sa.Column("software", sa.JSON(), server_default="{}", nullable=False))
        windows.add_column(sa.Column("child_rss_bytes", sa.BigInteger(), server_default="0", nullable=False))
        windows.add_column(sa.Column("drifting", sa.JSON(), server_default="[]", nullable=False))
