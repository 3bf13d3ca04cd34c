"""The tables. Times are Unix milliseconds of the server's clock unless a comment says otherwise.

Envelopes are the truth and are kept as they were signed; windows, events and gaps are their records
laid out for questions. Opening, transactions and dialects are in `store.py`.

A change here comes with a revision in the same commit: see `migrations/__init__.py`.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

# SQLite numbers rows by itself only in a column that is exactly INTEGER PRIMARY KEY
_ROW_ID = BigInteger().with_variant(Integer(), "sqlite")

meta = Table(
    "meta",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

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

# One per telemetry outbox that a device ever had. `high` and `chain` are what the ack says.
streams = Table(
    "streams",
    metadata,
    Column("device", String(64), ForeignKey("devices.id"), primary_key=True),
    Column("epoch", String(16), primary_key=True),
    Column("high", BigInteger, nullable=False, default=-1),
    Column("chain", LargeBinary(16), nullable=False),
    Column("started_ms", BigInteger, nullable=False),
    Column("top", BigInteger, nullable=False, server_default="-1"),  # largest stored number; > high: a hole
    # envelopes up to this number were deleted after their time, and the chain value of the last of them:
    # what is kept follows from it, and an export of what was deleted must lead to it
    Column("pruned_to", BigInteger, nullable=False, server_default="-1"),
    Column("pruned_chain", LargeBinary(16)),
)

envelopes = Table(
    "envelopes",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),  # order of arrival
    Column("device", String(64), ForeignKey("devices.id"), nullable=False),
    Column("epoch", String(16), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("prev", LargeBinary(16), nullable=False),
    Column("chain", LargeBinary(16), nullable=False),  # messages.chain_value(raw)
    Column("received_ms", BigInteger, nullable=False),
    Column("raw", LargeBinary, nullable=False),
    UniqueConstraint("device", "epoch", "seq"),
)

# A second, different envelope under a number that is taken: evidence, never deleted.
forks = Table(
    "forks",
    metadata,
    Column("device", String(64), ForeignKey("devices.id"), primary_key=True),
    Column("epoch", String(16), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("chain", LargeBinary(16), primary_key=True),
    Column("received_ms", BigInteger, nullable=False),
    Column("raw", LargeBinary, nullable=False),
)

windows = Table(
    "windows",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("device", String(64), ForeignKey("devices.id"), nullable=False),
    Column("epoch", String(16), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("bundle", String(71), nullable=False),
    Column("artifact", String(64), nullable=False),
    Column("runtime", String(64), nullable=False),
    Column("start_ms", BigInteger, nullable=False),  # device's clock
    Column("end_ms", BigInteger, nullable=False),  # device's clock
    Column("duration_ms", BigInteger, nullable=False),
    Column("inferences", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),  # sum over reasons
    Column("refused", BigInteger, nullable=False),  # sum over reasons
    Column("reasons", JSON, nullable=False),  # {"errors"|"refused"|"flagged"|"unserved": {reason: n}}
    Column("latency", JSON, nullable=False),  # bins of a QuantileSketch; JSON makes the keys strings
    Column("scalars", JSON, nullable=False),  # {name: [counts]}
    Column("golden_total", BigInteger, nullable=False),
    Column("golden_agree", BigInteger, nullable=False),
    Column("cpu_s", Float, nullable=False),
    Column("rss_bytes", BigInteger, nullable=False),
    Column("temperature_c", Float),
    Column("trial", Boolean, nullable=False),
    # since revision 0002; rows of before have the defaults, their envelopes may say more
    Column("lineup", JSON(none_as_null=True)),  # messages.LineupCounts
    Column("merged", Integer, nullable=False, server_default="1"),
    Column("epsilon", Float),  # None: the counts are exact
    Column("clock_step_ms", BigInteger, nullable=False, server_default="0"),
    Column("software", JSON, nullable=False, server_default="{}"),  # {name: version}
    Column("child_rss_bytes", BigInteger, nullable=False, server_default="0"),
    Column("drifting", JSON, nullable=False, server_default="[]"),  # [messages.DriftKind]
    Index("windows_by_bundle", "bundle", "device", "received_ms"),
    Index("windows_by_device", "device", "received_ms"),
)

# Sums of windows by the server's clock, kept when the windows go: storage/rollups.py.
rollups = Table(
    "rollups",
    metadata,
    Column("step_s", Integer, primary_key=True, autoincrement=False),  # 60, 3600 or 86400
    Column("start_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("device", String(64), primary_key=True),  # "": of the whole fleet
    Column("bundle", String(71), primary_key=True),
    Column("windows", BigInteger, nullable=False),
    Column("duration_ms", BigInteger, nullable=False),
    Column("inferences", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("refused", BigInteger, nullable=False),
    Column("golden_total", BigInteger, nullable=False),
    Column("golden_agree", BigInteger, nullable=False),
    Column("labelled", BigInteger, nullable=False),
    Column("correct", BigInteger, nullable=False),
    Column("uncertain", BigInteger, nullable=False),
    Column("drifting", BigInteger, nullable=False),  # windows in which a device found drift
    Column("cpu_s", Float, nullable=False),
    Column("rss_bytes", BigInteger, nullable=False),  # largest
    Column("temperature_c", Float),  # largest
    Column("latency", JSON, nullable=False),  # bins of a QuantileSketch
    Column("scalars", JSON, nullable=False),  # {name: [counts]}; of windows with exact counts
    Index("rollups_by_device", "device", "step_s", "start_ms"),
)

events = Table(
    "events",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("device", String(64), ForeignKey("devices.id"), nullable=False),
    Column("epoch", String(16), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Column("name", String(64), nullable=False),
    Column("time_ms", BigInteger, nullable=False),  # device's clock
    Column("bundle", String(71)),
    Column("assignment", BigInteger),
    Column("code", String(64), nullable=False),
    Column("detail", String(500), nullable=False),
    Index("events_by_device", "device", "received_ms"),
)

gaps = Table(
    "gaps",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("device", String(64), ForeignKey("devices.id"), nullable=False),
    Column("epoch", String(16), nullable=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("records", BigInteger, nullable=False),
    Column("reason", String(100), nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Index("gaps_by_stream", "device", "epoch", "first_seq"),
)

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
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
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
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
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

# What a device should run. Its newest number is the one that counts; the phase is written by
# `assignment.py` from what the device says.
assignments = Table(
    "assignments",
    metadata,
    Column("device", String(64), ForeignKey("devices.id"), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("bundle", String(71), ForeignKey("bundles.digest")),  # None: nothing is assigned
    Column("rollout", String(64)),  # None: assigned by hand
    Column("stage", Integer),
    Column("permit_downgrade", Boolean, nullable=False, default=False),
    Column("expires_ms", BigInteger, nullable=False, default=0),
    Column("phase", String(16), nullable=False),
    Column("code", String(64), nullable=False, default=""),
    Column("detail", String(500), nullable=False, default=""),
    Column("created_ms", BigInteger, nullable=False),
    Column("changed_ms", BigInteger, nullable=False),
    Index("assignments_by_rollout", "rollout", "stage"),
)

rollouts = Table(
    "rollouts",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("plan", JSON, nullable=False),  # plan.RolloutPlan
    Column("counter", BigInteger, ForeignKey("releases.counter"), nullable=False),
    Column("phase", String(16), nullable=False),
    Column("stage", Integer, nullable=False),  # index, -1 before the first
    Column("since_ms", BigInteger, nullable=False),  # when the phase was entered
    Column("started_ms", BigInteger),
    Column("why", Text, nullable=False, default=""),  # what it waits for, or why it ended
    Column("created_ms", BigInteger, nullable=False),
    Column("created_by", String(64), nullable=False),
    Column("revision", Integer, nullable=False, default=0),  # two who change it at once: one loses
)

# The devices that a rollout has reached. `number` is the assignment that brings the release, `back`
# the one that takes it away again.
rollout_members = Table(
    "rollout_members",
    metadata,
    Column("rollout", String(64), ForeignKey("rollouts.id"), primary_key=True),
    Column("device", String(64), ForeignKey("devices.id"), primary_key=True),
    Column("stage", Integer, nullable=False),
    Column("bundle", String(71), ForeignKey("bundles.digest"), nullable=False),
    Column("previous", String(71), ForeignKey("bundles.digest")),  # None: nothing that we know
    Column("number", BigInteger, nullable=False),
    Column("back", BigInteger),
    Column("retries", JSON, nullable=False, server_default="{}"),  # {cause: attempts after the first}
    Column("left_as", String(16)),  # reached.Left: an operator took it out
    Index("rollout_members_by_device", "device"),
)

# Devices that an operator left out of a rollout, reached or not.
rollout_skips = Table(
    "rollout_skips",
    metadata,
    Column("rollout", String(64), ForeignKey("rollouts.id"), primary_key=True),
    Column("device", String(64), ForeignKey("devices.id"), primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("actor", String(64), nullable=False),
    Column("why", String(500), nullable=False),
)

# What the gates last said of a stage.
rollout_stages = Table(
    "rollout_stages",
    metadata,
    Column("rollout", String(64), ForeignKey("rollouts.id"), primary_key=True),
    Column("stage", Integer, primary_key=True),
    Column("begun_ms", BigInteger, nullable=False),
    Column("verdicts", JSON, nullable=False),  # [{"gate": ..., "outcome": ..., "reason": ...}]
)

# The history of a rollout. Rows are only ever added.
rollout_steps = Table(
    "rollout_steps",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("rollout", String(64), ForeignKey("rollouts.id"), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("event", String(16), nullable=False),
    Column("phase", String(16), nullable=False),
    Column("stage", Integer, nullable=False),
    Column("actor", String(64), nullable=False),  # "conductor", or who ordered it
    Column("why", Text, nullable=False),
    Index("rollout_steps_by_rollout", "rollout", "id"),
)

# Who has approved a rollout. Rows are only ever added.
rollout_approvals = Table(
    "rollout_approvals",
    metadata,
    Column("rollout", String(64), ForeignKey("rollouts.id"), primary_key=True),
    Column("actor", String(64), primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("why", String(500), nullable=False),
)

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
)

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
# forgery or a replay. `count` is since the last hour without one.
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
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
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
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
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
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("webhook", String(32), ForeignKey("webhooks.id"), nullable=False),
    Column("message", String(32), nullable=False),  # the same over all attempts
    Column("kind", String(32), nullable=False),
    Column("body", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("next_ms", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("answer", String(300), nullable=False),  # to the last attempt
    Column("delivered_ms", BigInteger),
    Column("dead_ms", BigInteger),  # given up
    Index("webhook_deliveries_by_time", "delivered_ms", "dead_ms", "next_ms"),
)

# Inputs that devices kept for review and were allowed to send, each as it was signed.
review_samples = Table(
    "review_samples",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
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

# Who did what. Rows are only ever added, by `audit.record` alone: each is chained to the one before.
audit = Table(
    "audit",
    metadata,
    Column("id", _ROW_ID, primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("actor", String(64), nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", String(128), nullable=False),
    Column("detail", JSON, nullable=False),
    Column("prev", String(64), nullable=False),  # `hash` of the row before, zeros for the first
    Column("hash", String(64), nullable=False),  # audit.Entry.hash
    UniqueConstraint("prev", name="audit_chain"),  # a row has one successor
)
