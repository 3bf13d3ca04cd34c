"""What a backup is: a tar of files with a manifest at its end that has the digest of each.

    home/...                    settings, keys, the admin token, as they lie in the home
    database/TABLE/N.cbor       rows, CBOR arrays one after the other (RFC 8742), alike for every database
    archives/DIGEST             published bundles that the database knows
    manifest.json               last: without it, or with another digest, it is not a backup

The rows are one moment of the database. A backup of SQLite restores into PostgreSQL and the other way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from edge_fleet.model import Frozen

FORMAT = "edgefleet.backup/1"
MANIFEST = "manifest.json"
HOME, DATABASE, ARCHIVES = "home/", "database/", "archives/"
# what every start makes anew, what belongs to one running process, and the database itself
NOT_OF_THE_HOME = re.compile(r"^(fleet\.db.*|lock|server\.json|broker(/.*)?|archives(/.*)?|.*\.part)$")
_NAME = re.compile(r"^(home|database|archives)(/[A-Za-z0-9_:][A-Za-z0-9_.:-]*)+$")


class TableContent(Frozen):
    """Columns of a table's rows, in their order, and how many rows there are."""

    columns: tuple[str, ...]
    rows: int = Field(ge=0)


class BackupManifest(Frozen):
    """The end of a backup.

    Args:
        revision: Of the database's schema.
        members: SHA-256 of each file, hex, by name.
    """

    format: Literal["edgefleet.backup/1"] = "edgefleet.backup/1"
    edgefleet: str
    created_ms: int
    fleet: str
    revision: str
    tables: Mapping[str, TableContent]
    members: Mapping[str, str]


def is_name(name: str) -> bool:
    """Whether a file of a backup may be called so: below one of the three folders, and nowhere else."""
    return _NAME.match(name) is not None and not name.endswith("\n")
