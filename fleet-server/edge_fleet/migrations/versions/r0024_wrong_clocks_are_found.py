"""Windows of devices whose clock is wrong have an index of their own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"

_WRONG = sa.text("(clock_step_ms <> 0 OR end_ms > received_ms + 5000)")


def upgrade() -> None:
    """Change the tables."""
    op.create_index(
        "windows_by_wrong_clock", "windows", ["received_ms"], sqlite_where=_WRONG, postgresql_where=_WRONG
    )
