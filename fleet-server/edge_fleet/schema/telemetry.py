"""Telemetry: what devices signed, and its records laid out for questions.

Envelopes are the truth and are kept as they were signed; windows, events and gaps are their records.
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
    String,
    Table,
    UniqueConstraint,
    text,
)

from edge_fleet.schema.base import ROW_ID, metadata

# Sums over a day: what an index of few rows is limited to, by a question that has these very words.
IS_A_DAY = text("step_s = 86400")

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
    # envelopes up to this number were deleted after their time; `prev` of the one after it is the chain value
    # of the last of them, to which an export of what was deleted must lead
    Column("pruned_to", BigInteger, nullable=False, server_default="-1"),
)

envelopes = Table(
    "envelopes",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),  # order of arrival
    Column("device", String(64), ForeignKey("devices.id"), nullable=False),
    Column("epoch", String(16), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("prev", LargeBinary(16), nullable=False),
    Column("chain", LargeBinary(16), nullable=False),  # envelope.chain_value(raw)
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

# the index is used where a question has these words
CLOCK_IS_WRONG = "(clock_step_ms <> 0 OR end_ms > received_ms + 5000)"
windows = Table(
    "windows",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
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
    # since revision 0024: few windows are in it, and alerts ask for them four times a minute
    Index(
        "windows_by_wrong_clock",
        "received_ms",
        sqlite_where=text(CLOCK_IS_WRONG),
        postgresql_where=text(CLOCK_IS_WRONG),
    ),
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
    Index("rollups_of_days", "bundle", "device", sqlite_where=IS_A_DAY, postgresql_where=IS_A_DAY),
)

events = Table(
    "events",
    metadata,
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
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
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
    Column("device", String(64), ForeignKey("devices.id"), nullable=False),
    Column("epoch", String(16), nullable=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("records", BigInteger, nullable=False),
    Column("reason", String(100), nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Index("gaps_by_stream", "device", "epoch", "first_seq"),
)
