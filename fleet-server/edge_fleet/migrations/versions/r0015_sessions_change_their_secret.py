"""Sessions change their secret while they last."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Change the tables; sessions that are open go on."""
    with op.batch_alter_table("tokens", schema=None) as batch_op:
        batch_op.add_column(sa.Column("session", sa.String(length=32), nullable=True))
        batch_op.add_column(sa.Column("client", sa.String(length=64), server_default="", nullable=False))
        batch_op.add_column(sa.Column("replaced_ms", sa.BigInteger(), nullable=True))
        batch_op.create_index("tokens_by_owner", ["owner"], unique=False)
        batch_op.create_index("tokens_by_session", ["session"], unique=False)
    op.execute("UPDATE tokens SET session = id WHERE last_used_ms IS NOT NULL")
