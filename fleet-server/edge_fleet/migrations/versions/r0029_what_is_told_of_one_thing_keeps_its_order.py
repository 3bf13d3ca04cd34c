"""What a receiver is told of one thing keeps its order."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
    """Change the tables."""
    op.add_column("webhook_deliveries", sa.Column("about", sa.String(128), server_default="", nullable=False))
