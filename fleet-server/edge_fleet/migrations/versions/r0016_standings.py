"""How each device is doing, as a table."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Change the tables."""
    op.create_table(
        "standings",
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("health", sa.String(length=16), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(length=300), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("profile", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=130), nullable=False),
        sa.Column("bundle", sa.String(length=71), nullable=False),
        sa.Column("degraded", sa.Integer(), nullable=False),
        sa.Column("fallback", sa.String(length=300), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("inferences", sa.BigInteger(), nullable=False),
        sa.Column("faults", sa.BigInteger(), nullable=False),
        sa.Column("p95_ms", sa.Float(), nullable=True),
        sa.Column("distance", sa.Float(), nullable=True),
        sa.Column("furthest", sa.String(length=300), nullable=False),
        sa.Column("judged_ms", sa.BigInteger(), nullable=False),
        sa.Column("due_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.id"]),
        sa.PrimaryKeyConstraint("device"),
    )
    with op.batch_alter_table("standings", schema=None) as batch_op:
        batch_op.create_index("standings_by_rank", ["rank", "device"], unique=False)
        batch_op.create_index("standings_by_profile", ["profile", "device"], unique=False)
        batch_op.create_index("standings_by_model", ["model", "device"], unique=False)
        batch_op.create_index("standings_by_bundle", ["bundle", "device"], unique=False)
        batch_op.create_index("standings_by_degraded", ["degraded", "device"], unique=False)
        batch_op.create_index("standings_by_due", ["due_ms"], unique=False)
