"""People who log in, tokens that are narrower than their role, and sessions that end when unused."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Change the tables."""
    op.create_table(
        "users",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("password", sa.String(200), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("disabled_ms", sa.BigInteger(), nullable=True),
    )
    with op.batch_alter_table("tokens") as tokens:
        tokens.add_column(sa.Column("scopes", sa.JSON(none_as_null=True), nullable=True))
        tokens.add_column(sa.Column("owner", sa.String(64), nullable=True))
        tokens.add_column(sa.Column("last_used_ms", sa.BigInteger(), nullable=True))
        tokens.create_foreign_key("tokens_owner", "users", ["owner"], ["name"])
