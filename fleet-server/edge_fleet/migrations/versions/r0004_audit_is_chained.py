"""Audit rows are chained by their hashes; those that are there are chained as they stand."""

from __future__ import annotations

import hashlib
import json

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_AUDIT = sa.table(
    "audit",
    sa.column("id", sa.BigInteger),
    sa.column("at_ms", sa.BigInteger),
    sa.column("actor", sa.String),
    sa.column("action", sa.String),
    sa.column("subject", sa.String),
    sa.column("detail", sa.JSON),
    sa.column("prev", sa.String),
    sa.column("hash", sa.String),
)


def upgrade() -> None:
    """Change the tables."""
    with op.batch_alter_table("audit") as audit:
        audit.add_column(sa.Column("prev", sa.String(64), nullable=True))
        audit.add_column(sa.Column("hash", sa.String(64), nullable=True))
    _chain(op.get_bind())
    with op.batch_alter_table("audit") as audit:
        audit.alter_column("prev", existing_type=sa.String(64), nullable=False)
        audit.alter_column("hash", existing_type=sa.String(64), nullable=False)
        audit.create_unique_constraint("audit_chain", ["prev"])


def _chain(connection: sa.Connection) -> None:
    """The form of `audit.Entry.hash` as it was when this revision was made."""
    prev = "0" * 64
    after = -1
    names = ("id", "at_ms", "actor", "action", "subject", "detail")
    while True:
        query = sa.select(*(_AUDIT.c[n] for n in names)).where(_AUDIT.c.id > after).order_by(_AUDIT.c.id)
        rows = connection.execute(query.limit(1000)).mappings().all()
        if not rows:
            return
        for row in rows:
            content = json.dumps(
                {**row, "prev": prev}, sort_keys=True, separators=(",", ":"), ensure_ascii=False
            )
            digest = hashlib.sha256(content.encode() + b"\n").hexdigest()
            connection.execute(
                sa.update(_AUDIT).where(_AUDIT.c.id == row["id"]).values(prev=prev, hash=digest)
            )
            prev, after = digest, row["id"]
