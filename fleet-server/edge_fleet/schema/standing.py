"""How each device is doing."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Index, Integer, String, Table, Text

from edge_fleet.schema.base import metadata

# How each device is doing, as standings/work.py last found it: what consoles search, sort and count. All of
# it can be worked out again from the other tables.
standings = Table(
    "standings",
    metadata,
    Column("device", String(64), ForeignKey("devices.id"), primary_key=True),
    Column("health", String(16), nullable=False),  # condition.Health
    Column("rank", Integer, nullable=False),  # of that health: who needs a person comes first
    Column("reason", String(300), nullable=False),
    Column("since_ms", BigInteger, nullable=False),  # that this was found first
    Column("profile", String(64), nullable=False),  # the nearest
    Column("model", String(130), nullable=False),  # name and version of what it runs, "" for nothing
    Column("bundle", String(71), nullable=False),  # the same by its digest
    Column("degraded", Integer, nullable=False),  # 1: not on its profile's first choice
    Column("fallback", String(300), nullable=False),  # why not
    Column("words", Text, nullable=False),  # lower case: what a search looks through
    # of the last minutes before `judged_ms`
    Column("inferences", BigInteger, nullable=False),
    Column("faults", BigInteger, nullable=False),  # failed and not let in
    Column("p95_ms", Float),
    Column("distance", Float),  # of the number furthest from its baseline
    Column("furthest", String(300), nullable=False),
    Column("judged_ms", BigInteger, nullable=False),
    Column("due_ms", BigInteger, nullable=False),  # when it is to be looked at again
    Index("standings_by_rank", "rank", "device"),
    Index("standings_by_profile", "profile", "device"),
    Index("standings_by_model", "model", "device"),
    Index("standings_by_bundle", "bundle", "device"),
    Index("standings_by_degraded", "degraded", "device"),
    Index("standings_by_due", "due_ms"),
)
