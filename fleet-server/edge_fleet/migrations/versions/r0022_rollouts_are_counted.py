"""How the devices of rollouts stand is kept where it can be counted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"

_PHASE = "(SELECT phase FROM assignments a WHERE a.device = m.device AND a.number = m.{number})"
_STANDING = f"""\
UPDATE rollout_members AS m SET
standing = CASE
WHEN (SELECT revoked_ms FROM devices d WHERE d.id = m.device) IS NOT NULL THEN 'revoked'
WHEN left_as IS NOT NULL THEN 'left-out'
WHEN {_PHASE.format(number="back")} = 'confirmed' THEN 'back'
WHEN {_PHASE.format(number="back")}
 IN ('rolled-back', 'refused', 'shadow', 'ready', 'unreachable') THEN 'not-back'
WHEN back IS NOT NULL THEN 'going-back'
WHEN {_PHASE.format(number="number")} IN ('rolled-back', 'refused') THEN 'failed'
WHEN {_PHASE.format(number="number")} = 'unreachable' THEN 'silent'
WHEN {_PHASE.format(number="number")} = 'confirmed' THEN 'confirmed'
ELSE 'on-its-way' END,
standing_ms = coalesce(
(SELECT changed_ms FROM assignments a
 WHERE a.device = m.device AND a.number = coalesce(m.back, m.number)), 0)"""


def upgrade() -> None:
    """Change the tables."""
    with op.batch_alter_table("rollout_members") as members:
        members.add_column(sa.Column("standing", sa.String(16), server_default="on-its-way", nullable=False))
        members.add_column(sa.Column("standing_ms", sa.BigInteger(), server_default="0", nullable=False))
        members.create_index("rollout_members_by_stage", ["rollout", "stage", "device", "standing"])
    op.execute(_STANDING)
