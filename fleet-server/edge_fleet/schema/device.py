"""Devices, and what the broker knows them by."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Table,
    Text,
    false,
    text,
)

from edge_fleet.schema.base import metadata

# Numbers are in the order of commits, because there is one writer at a time (decision 0080).
NEXT_DEVICE_CHANGE = text("(SELECT coalesce(max(change), 0) + 1 FROM devices)")

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
    Column("key_since_ms", BigInteger),  # when `public_key` followed another; None for the enrolled one
    Column("rotate_key", String(32)),  # id of the key that it was told to change
    Column("director", String(32)),  # id of the director's key that it obeys, as far as it is known
    Column("tells_director", Boolean, nullable=False, server_default=false()),  # whether it says so itself
    # since revision 0027: grows over all rows, with whatever is written of a device. What comes with every
    # message takes no number: when it was heard, and a state with the same choice as before (`choice.py`)
    Column(
        "change",
        BigInteger,
        nullable=False,
        server_default="0",
        default=NEXT_DEVICE_CHANGE,
        onupdate=NEXT_DEVICE_CHANGE,
    ),
    Index("devices_by_change", "change"),
)

# Keys that devices were known by before. Rows are only ever added; a key is never used twice.
device_keys = Table(
    "device_keys",
    metadata,
    Column("key_id", String(32), primary_key=True),
    Column("device", String(64), ForeignKey("devices.id"), nullable=False),
    Column("public_key", LargeBinary(32), nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    Column("until_ms", BigInteger, nullable=False),
    Column("revoked_ms", BigInteger),  # from then on nothing that it signed is taken
    Column("epoch", String(16)),  # with the next: envelopes of this epoch below this number may be its
    Column("below_seq", BigInteger),  # None until the device has spoken with its new key
    Index("device_keys_by_device", "device"),
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
