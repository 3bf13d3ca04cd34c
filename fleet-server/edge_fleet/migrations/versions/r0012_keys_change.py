"""Statements about keys, and publishers that are retired or revoked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Change the tables."""
    op.create_table(
        "key_statements",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.Column("signer", sa.String(32), nullable=False),
        sa.Column("counter", sa.BigInteger(), nullable=False),
        sa.Column("said", sa.JSON(), nullable=False),
        sa.Column("made_ms", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(64), nullable=False),
    )
    with op.batch_alter_table("publishers") as publishers:
        publishers.add_column(sa.Column("retired_ms", sa.BigInteger(), nullable=True))
        publishers.add_column(sa.Column("revoked_ms", sa.BigInteger(), nullable=True))
