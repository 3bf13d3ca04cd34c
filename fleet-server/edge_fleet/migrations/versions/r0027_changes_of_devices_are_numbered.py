"""Changes of devices are numbered."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"


def upgrade() -> None:
    """Change the tables."""
    op.add_column("devices", sa.Column("change", sa.BigInteger(), server_default="0", nullable=False))
    op.create_index("devices_by_change", "devices", ["change"])
