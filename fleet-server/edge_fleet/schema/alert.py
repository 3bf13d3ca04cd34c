"""What was refused or found wrong, and whom the server tells."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
)

from edge_fleet.schema.base import ROW_ID, metadata

# Messages that were refused, by reason. `device` is "" when the sender is not a device of ours:
# names that strangers invent must not become rows.
refusals = Table(
    "refusals",
    metadata,
    Column("reason", String(64), primary_key=True),
    Column("device", String(64), primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("last_ms", BigInteger, nullable=False),
    Column("detail", String(500), nullable=False),
)

# The last message of each kind that came under a device's name and was refused, as it came: proof of a
# forgery or a replay; and the last that was taken and says that its device obeys a foreign director.
# `count` is since the last hour without one.
refused_messages = Table(
    "refused_messages",
    metadata,
    Column("reason", String(64), primary_key=True),
    Column("device", String(64), ForeignKey("devices.id"), primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("topic", String(300), nullable=False),
    Column("detail", String(500), nullable=False),
    Column("raw", LargeBinary, nullable=False),  # its first 64 KiB
)

# What the server found wrong. One that is not resolved is open; there is at most one open alert of a rule
# and subject.
alerts = Table(
    "alerts",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("rule", String(32), nullable=False),
    Column("subject", String(71), nullable=False),  # a device, a bundle's digest, or "fleet"
    Column("level", String(16), nullable=False),
    Column("phase", String(16), nullable=False),
    Column("value", Float, nullable=False),  # of the last bad case, as are why and evidence
    Column("why", String(500), nullable=False),
    Column("evidence", JSON, nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    Column("calm_ms", BigInteger),
    Column("fired_ms", BigInteger),
    Column("silenced_ms", BigInteger),
    Column("changed_ms", BigInteger, nullable=False),  # of its phase
    Index("alerts_by_phase", "phase", "id"),
)

# The history of an alert. Rows are only ever added.
alert_steps = Table(
    "alert_steps",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("alert", BigInteger, ForeignKey("alerts.id"), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("event", String(16), nullable=False),
    Column("phase", String(16), nullable=False),  # after it
    Column("actor", String(64), nullable=False),  # "alerts", or who ordered it
    Column("why", String(500), nullable=False),
    Index("alert_steps_by_alert", "alert", "id"),
)

# Whom the server tells. The secret is derived from the server's own and the id: keys.py.
webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("url", String(500), nullable=False),
    Column("kinds", JSON, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("removed_ms", BigInteger),
)

# What it tells, one row for each receiver: neither delivered nor dead means that it waits.
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("webhook", String(32), ForeignKey("webhooks.id"), nullable=False),
    Column("message", String(32), nullable=False),  # the same over all attempts
    Column("kind", String(32), nullable=False),
    # since revision 0029: what it tells of; a receiver is told of one thing in the order of events
    Column("about", String(128), nullable=False, server_default=""),
    Column("body", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("next_ms", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("answer", String(300), nullable=False),  # to the last attempt
    Column("delivered_ms", BigInteger),
    Column("dead_ms", BigInteger),  # given up
    Index("webhook_deliveries_by_time", "delivered_ms", "dead_ms", "next_ms"),
)
