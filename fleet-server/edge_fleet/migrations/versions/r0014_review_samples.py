"""Inputs that devices kept for review."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Change the tables."""
    op.create_table(
        "review_samples",
        sa.Column(
            "id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False
        ),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("device", sa.String(length=64), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.Column("time_ms", sa.BigInteger(), nullable=False),
        sa.Column("bundle", sa.String(length=71), nullable=False),
        sa.Column("artifact", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.String(length=32), nullable=False),
        sa.Column("confidence", sa.Float(), nullable=True),
        sa.Column("answer", sa.Integer(), nullable=True),
        sa.Column("answer_name", sa.String(length=200), nullable=False),
        sa.Column("label", sa.Integer(), nullable=True),
        sa.Column("label_name", sa.String(length=200), nullable=False),
        sa.Column("labelled_by", sa.String(length=64), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["device"],
            ["devices.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("digest"),
    )
    with op.batch_alter_table("review_samples", schema=None) as batch_op:
        batch_op.create_index("review_samples_by_bundle", ["bundle", "id"], unique=False)
        batch_op.create_index("review_samples_by_device", ["device", "id"], unique=False)
