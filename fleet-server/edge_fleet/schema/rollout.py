"""Rollouts, and what each device should run."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    false,
    text,
)

from edge_fleet.schema.base import ROW_ID, metadata

# What indexes of a few rows are limited to; a question has these words in it, or they do not serve it.
HAS_SAID = text("(code <> '' OR detail <> '')")  # an assignment of which its device had something to say
IS_BACK = text("standing = 'back' AND previous IS NOT NULL")  # a device that came back to what it had

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
    Column("terms", JSON(none_as_null=True)),  # {"shadow": lineup.ShadowTerms}; None: to run it
    # since revision 0021: grows over all rows, with every change of any
    Column("change", BigInteger, nullable=False, server_default="0"),
    Index("assignments_by_rollout", "rollout", "stage"),
    Index("assignments_by_change", "change"),
    Index("assignments_that_said", "rollout", "device", sqlite_where=HAS_SAID, postgresql_where=HAS_SAID),
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
    Column("part", String(16), nullable=False, server_default="switch"),  # parts.Part of the stage
    Column("opened", Boolean, nullable=False, server_default=false()),  # since revision 0030: phases.Position
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
    # since revision 0022: how the device stands and since when, from its assignments: rollouts/standing.py
    Column("standing", String(16), nullable=False, server_default="on-its-way"),
    Column("standing_ms", BigInteger, nullable=False, server_default="0"),
    # since revision 0025: assignment.State of `number`
    Column("state", String(16), nullable=False, server_default="pending"),
    Index("rollout_members_by_device", "device"),
    Index("rollout_members_by_stage", "rollout", "stage", "device", "standing"),
    Index("rollout_members_by_standing", "rollout", "standing", "stage", "device"),
    Index(
        "rollout_members_back",
        "rollout",
        "standing_ms",
        sqlite_where=IS_BACK,
        postgresql_where=IS_BACK,
    ),
)

# How many devices of a rollout are alike in these; written by `rollouts/counting.py` alone.
rollout_counts = Table(
    "rollout_counts",
    metadata,
    Column("rollout", String(64), ForeignKey("rollouts.id"), primary_key=True),
    Column("stage", Integer, primary_key=True, autoincrement=False),
    Column("standing", String(16), primary_key=True),
    Column("state", String(16), primary_key=True),
    Column("returns", Boolean, primary_key=True),  # whether `previous` is there
    Column("devices", BigInteger, nullable=False),
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
    Column("id", ROW_ID, primary_key=True, autoincrement=True),
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
