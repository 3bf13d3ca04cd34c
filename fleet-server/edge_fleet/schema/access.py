"""Who may knock, and who did what."""

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

# Enrolment tokens, API tokens and subscribers: who may knock. Only hashes of secrets are kept.
tokens = Table(
    "tokens",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("hash", String(64), nullable=False, unique=True),  # SHA-256 of the token, hex
    Column("role", String(16), nullable=False),
    Column("label", String(128), nullable=False),
    Column("device_labels", JSON, nullable=False),  # given to the device that enrols with it
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger),
    Column("used_ms", BigInteger),  # enrolment tokens serve once
    Column("used_by", String(64)),
    Column("revoked_ms", BigInteger),
    Column("parent", String(32)),  # of a console's session: the token that it was opened with
    # since revision 0008
    Column("scopes", JSON(none_as_null=True)),  # what it is narrowed to; None: all that the role may
    Column("owner", String(64), ForeignKey("users.name", name="tokens_owner")),  # whose it is; None: nobody's
    Column("last_used_ms", BigInteger),  # of a session, to the minute; None: no session
    # since revision 0015
    Column("session", String(32)),  # the first of its rows: a session's secret changes, each has a row
    Column("client", String(64), nullable=False, server_default=""),  # address that it was opened from
    Column("replaced_ms", BigInteger),  # when the session got its next secret
    Index("tokens_by_session", "session"),
    Index("tokens_by_owner", "owner"),
)

# What the broker knows subscribers by, where it asks for certificates. Rows are only ever added.
subscriber_certificates = Table(
    "subscriber_certificates",
    metadata,
    Column("serial", String(40), primary_key=True),  # hex
    Column("token", String(32), ForeignKey("tokens.id"), nullable=False),
    Column("pem", Text, nullable=False),
    Column("issued_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
)

# People. Rows are never deleted: the audit log names them.
users = Table(
    "users",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("password", String(200), nullable=False),  # users.hash_password; "" for none
    Column("created_ms", BigInteger, nullable=False),
    Column("disabled_ms", BigInteger),
    # since revision 0017: who it is at an identity provider, for those who log in there
    Column("issuer", String(500)),
    Column("subject", String(255)),
    UniqueConstraint("issuer", "subject", name="users_identity"),
)

# Keys of the director; the private halves lie in the home (`access/directors.py`). Rows are only ever added.
directors = Table(
    "directors",
    metadata,
    Column("key_id", String(32), primary_key=True),
    Column("public_key", LargeBinary(32), nullable=False),
    Column("made_ms", BigInteger, nullable=False),
    Column("made_by", String(64), nullable=False),
    Column("since_ms", BigInteger),  # in force from then on; None while it waits
    Column("until_ms", BigInteger),  # when another took its place; None for the one in force
    Column("retired_ms", BigInteger),  # from then on it signs nothing, and its private half is removed
)

# Who did what. Rows are only ever added, by `audit.record` alone: each is chained to the one before.
audit = Table(
    "audit",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("actor", String(64), nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", String(128), nullable=False),
    Column("detail", JSON, nullable=False),
    Column("prev", String(64), nullable=False),  # `hash` of the row before, zeros for the first
    Column("hash", String(64), nullable=False),  # audit.Entry.hash
    UniqueConstraint("prev", name="audit_chain"),  # a row has one successor
)
