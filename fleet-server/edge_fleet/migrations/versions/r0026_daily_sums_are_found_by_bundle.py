"""Daily sums have an index by bundle, for recalls."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"

_DAY = sa.text("step_s = 86400")


def upgrade() -> None:
    """Change the tables."""
    op.create_index(
        "rollups_of_days", "rollups", ["bundle", "device"], sqlite_where=_DAY, postgresql_where=_DAY
    )
