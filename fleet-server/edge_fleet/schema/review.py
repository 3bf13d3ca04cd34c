"""Inputs that devices kept for review."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Index, Integer, LargeBinary, String, Table

from edge_fleet.schema.base import ROW_ID, metadata

# Inputs that devices kept for review and were allowed to send, each as it was signed.
review_samples = Table(
    "review_samples",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("digest", String(71), nullable=False, unique=True),  # of the envelope
    Column("device", String(64), ForeignKey("devices.id"), nullable=False),
    Column("number", BigInteger, nullable=False),  # the device's own
    Column("received_ms", BigInteger, nullable=False),
    Column("time_ms", BigInteger, nullable=False),  # device's clock
    Column("bundle", String(71), nullable=False),
    Column("artifact", String(64), nullable=False),
    Column("reason", String(32), nullable=False),
    Column("confidence", Float),
    Column("answer", Integer),
    Column("answer_name", String(200), nullable=False),
    Column("label", Integer),  # that counts now
    Column("label_name", String(200), nullable=False),
    Column("labelled_by", String(64), nullable=False),  # "device", or who said it here
    Column("raw", LargeBinary, nullable=False),
    Index("review_samples_by_bundle", "bundle", "id"),
    Index("review_samples_by_device", "device", "id"),
)
