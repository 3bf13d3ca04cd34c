"""The director's key changes, and devices say which they obey."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    """Change the tables."""
    op.create_table(
        "directors",
        sa.Column("key_id", sa.String(32), primary_key=True),
        sa.Column("public_key", sa.LargeBinary(32), nullable=False),
        sa.Column("made_ms", sa.BigInteger(), nullable=False),
        sa.Column("made_by", sa.String(64), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=True),
        sa.Column("until_ms", sa.BigInteger(), nullable=True),
        sa.Column("retired_ms", sa.BigInteger(), nullable=True),
    )
    with op.batch_alter_table("devices") as devices:
        devices.add_column(sa.Column("director", sa.String(32), nullable=True))
        devices.add_column(
            sa.Column("tells_director", sa.Boolean(), server_default=sa.false(), nullable=False)
        )
