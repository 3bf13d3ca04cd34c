"""How many devices of a rollout stand how is kept, and what they said has an index of its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"

_STATE = """\
UPDATE rollout_members AS m SET state = coalesce(
(SELECT phase FROM assignments a WHERE a.device = m.device AND a.number = m.number), 'pending')"""
_COUNTS = """\
INSERT INTO rollout_counts (rollout, stage, standing, state, returns, devices)
SELECT rollout, stage, standing, state, previous IS NOT NULL, count(*) FROM rollout_members
GROUP BY rollout, stage, standing, state, previous IS NOT NULL"""
_SAID = sa.text("(code <> '' OR detail <> '')")
_BACK = sa.text("standing = 'back' AND previous IS NOT NULL")


def upgrade() -> None:
    """Change the tables."""
    op.add_column(
        "rollout_members", sa.Column("state", sa.String(16), server_default="pending", nullable=False)
    )
    op.execute(_STATE)
    op.create_index(
        "rollout_members_by_standing", "rollout_members", ["rollout", "standing", "stage", "device"]
    )
    op.create_index(
        "rollout_members_back",
        "rollout_members",
        ["rollout", "standing_ms"],
        sqlite_where=_BACK,
        postgresql_where=_BACK,
    )
    op.create_index(
        "assignments_that_said",
        "assignments",
        ["rollout", "device"],
        sqlite_where=_SAID,
        postgresql_where=_SAID,
    )
    op.create_table(
        "rollout_counts",
        sa.Column("rollout", sa.String(64), sa.ForeignKey("rollouts.id"), primary_key=True),
        sa.Column("stage", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("standing", sa.String(16), primary_key=True),
        sa.Column("state", sa.String(16), primary_key=True),
        sa.Column("returns", sa.Boolean(), primary_key=True),
        sa.Column("devices", sa.BigInteger(), nullable=False),
    )
    op.execute(_COUNTS)
