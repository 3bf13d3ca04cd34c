"""Streams know their largest stored number, so that ingest need not look for what lies beyond a hole."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Change the tables."""
    op.add_column("streams", sa.Column("top", sa.BigInteger(), server_default="-1", nullable=False))
    op.execute(
        "UPDATE streams SET top = coalesce((SELECT max(seq) FROM envelopes WHERE"
        " envelopes.device = streams.device AND envelopes.epoch = streams.epoch), -1)"
    )
