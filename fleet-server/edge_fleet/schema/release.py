"""Releases, their bundles, and the keys that sign them."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from edge_fleet.schema.base import ROW_ID, metadata

publishers = Table(
    "publishers",
    metadata,
    Column("key_id", String(32), primary_key=True),
    Column("public_key", LargeBinary(32), nullable=False),
    Column("label", String(128), nullable=False),
    Column("added_ms", BigInteger, nullable=False),
    Column("retired_ms", BigInteger),  # signs nothing new, what it signed stays
    Column("revoked_ms", BigInteger),  # counts for nothing
)

# What devices are told about keys, in order. Rows are only ever added.
key_statements = Table(
    "key_statements",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("envelope", LargeBinary, nullable=False),  # trust.sign_keys
    Column("signer", String(32), nullable=False),  # id of the key
    Column("counter", BigInteger, nullable=False),  # the signer's own
    Column("said", JSON, nullable=False),  # {"add"|"retire"|"revoke": [ids], "stop", "reason"}
    Column("made_ms", BigInteger, nullable=False),
    Column("actor", String(64), nullable=False),
)

# The counter is the release's identity: it only grows, over all names, and devices remember it.
releases = Table(
    "releases",
    metadata,
    Column("counter", BigInteger, primary_key=True, autoincrement=False),
    Column("name", String(64), nullable=False),
    Column("version", String(64), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    UniqueConstraint("name", "version"),
)

# How far a release has come. Rows are only ever added; a release without any is a candidate.
release_steps = Table(
    "release_steps",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("counter", BigInteger, ForeignKey("releases.counter"), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("event", String(16), nullable=False),
    Column("stage", String(16), nullable=False),  # after it
    Column("actor", String(64), nullable=False),
    Column("why", String(500), nullable=False),
    Index("release_steps_by_release", "counter", "id"),
)

bundles = Table(
    "bundles",
    metadata,
    Column("digest", String(71), primary_key=True),  # of the manifest
    Column("counter", BigInteger, ForeignKey("releases.counter"), nullable=False),
    Column("profile", String(64), nullable=False),
    Column("archive", String(71), nullable=False, unique=True),  # digest of the .bundle file
    Column("archive_bytes", BigInteger, nullable=False),
    Column("manifest", Text, nullable=False),  # canonical JSON
    Column("key_id", String(32), nullable=False),  # of the publisher
    UniqueConstraint("counter", "profile"),
)
