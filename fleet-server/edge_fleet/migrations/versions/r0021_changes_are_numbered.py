"""Changes of assignments are numbered."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Change the tables."""
    with op.batch_alter_table("assignments", schema=None) as batch_op:
        batch_op.add_column(sa.Column("change", sa.BigInteger(), server_default="0", nullable=False))
        batch_op.create_index("assignments_by_change", ["change"], unique=False)
