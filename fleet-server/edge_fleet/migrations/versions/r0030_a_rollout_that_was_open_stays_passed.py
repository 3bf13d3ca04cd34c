"""A rollout that was open has passed its last stage, also while it is paused."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"


def upgrade() -> None:
    """Change the tables."""
    op.add_column("rollouts", sa.Column("opened", sa.Boolean(), server_default=sa.false(), nullable=False))
    rollouts = sa.table("rollouts", sa.column("id"), sa.column("phase"), sa.column("opened", sa.Boolean()))
    steps = sa.table("rollout_steps", sa.column("rollout"), sa.column("event"))
    # the last stage alone is opened, and none follows it
    once = sa.select(steps.c.rollout).where(steps.c.event == "opened")
    op.execute(sa.update(rollouts).where(rollouts.c.id.in_(once)).values(opened=sa.true()))
