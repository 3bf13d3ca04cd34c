"""Windows are rolled up, and deleted after their time with the envelopes that they came in."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Change the tables."""
    op.create_table(
        "rollups",
        sa.Column("step_s", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("start_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("bundle", sa.String(length=71), nullable=False),
        sa.Column("windows", sa.BigInteger(), nullable=False),
        sa.Column("duration_ms", sa.BigInteger(), nullable=False),
        sa.Column("inferences", sa.BigInteger(), nullable=False),
        sa.Column("errors", sa.BigInteger(), nullable=False),
        sa.Column("refused", sa.BigInteger(), nullable=False),
        sa.Column("golden_total", sa.BigInteger(), nullable=False),
        sa.Column("golden_agree", sa.BigInteger(), nullable=False),
        sa.Column("labelled", sa.BigInteger(), nullable=False),
        sa.Column("correct", sa.BigInteger(), nullable=False),
        sa.Column("uncertain", sa.BigInteger(), nullable=False),
        sa.Column("drifting", sa.BigInteger(), nullable=False),
        sa.Column("cpu_s", sa.Float(), nullable=False),
        sa.Column("rss_bytes", sa.BigInteger(), nullable=False),
        sa.Column("temperature_c", sa.Float(), nullable=True),
        sa.Column("latency", sa.JSON(), nullable=False),
        sa.Column("scalars", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("step_s", "start_ms", "device", "bundle"),
    )
    with op.batch_alter_table("rollups") as table:
        table.create_index("rollups_by_device", ["device", "step_s", "start_ms"], unique=False)

    with op.batch_alter_table("streams") as table:
        table.add_column(sa.Column("pruned_to", sa.BigInteger(), server_default="-1", nullable=False))
        table.add_column(sa.Column("pruned_chain", sa.LargeBinary(length=16), nullable=True))
