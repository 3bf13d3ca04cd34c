"""The tables, by noun. Times are Unix milliseconds of the server's clock unless a comment says otherwise.

Every table of every module here is a name of this package: a table is written in one place. Opening,
transactions and dialects are in `store.py`.

A change here comes with a revision in the same commit: see `migrations/__init__.py`.
"""

# ruff: noqa: F403 - a list of names would be a second place
from edge_fleet.schema.access import *
from edge_fleet.schema.alert import *
from edge_fleet.schema.base import *
from edge_fleet.schema.choice import *
from edge_fleet.schema.device import *
from edge_fleet.schema.release import *
from edge_fleet.schema.review import *
from edge_fleet.schema.rollout import *
from edge_fleet.schema.standing import *
from edge_fleet.schema.telemetry import *
