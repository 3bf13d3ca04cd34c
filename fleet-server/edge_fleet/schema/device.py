"""Devices, and what the broker knows them by."""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Index, LargeBinary, String, Table, Text

from edge_fleet.schema.base import metadata

devices = Table(
    "devices",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("public_key", LargeBinary(32), nullable=False, unique=True),
    Column("profile", JSON, nullable=False),  # names, nearest first
    Column("labels", JSON, nullable=False),
    Column("credential", String(64), nullable=False),  # salt of the derived broker password: keys.py
    Column("enrolled_ms", BigInteger, nullable=False),
    Column("revoked_ms", BigInteger),
    Column("last_seen_ms", BigInteger),  # of the last verified message of any kind
    Column("state", JSON),  # the last verified hello or status, as messages.DeviceState
    Column("state_n", BigInteger, nullable=False, default=-1),
    Column("epoch", String(16)),  # that the last verified hello announced
)

# What the broker knows devices by, where it asks for certificates. Rows are only ever added.
certificates = Table(
    "certificates",
    metadata,
    Column("serial", String(40), primary_key=True),  # hex
    Column("device", String(64), ForeignKey("devices.id"), nullable=False),
    Column("pem", Text, nullable=False),
    Column("issued_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Index("certificates_by_device", "device", "expires_ms"),
)
