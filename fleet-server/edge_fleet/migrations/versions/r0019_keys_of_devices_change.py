"""Keys of devices change, and those of before are kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Change the tables."""
    with op.batch_alter_table("devices") as devices:
        devices.add_column(sa.Column("key_since_ms", sa.BigInteger(), nullable=True))
        devices.add_column(sa.Column("rotate_key", sa.String(32), nullable=True))
    op.create_table(
        "device_keys",
        sa.Column("key_id", sa.String(32), primary_key=True),
        sa.Column("device", sa.String(64), sa.ForeignKey("devices.id"), nullable=False),
        sa.Column("public_key", sa.LargeBinary(32), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.Column("revoked_ms", sa.BigInteger(), nullable=True),
        sa.Column("epoch", sa.String(16), nullable=True),
        sa.Column("below_seq", sa.BigInteger(), nullable=True),
    )
    op.create_index("device_keys_by_device", "device_keys", ["device"])
