"""The console's navigation: every page that has a place in it, in order.

A line whose page is not in `routes.PAGES` is not shown, so that no link leads nowhere.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from edge_fleet.auth import Right


@dataclass(frozen=True)
class Entry:
    """One link.

    Args:
        key: What the pages below it state as their `section`.
        right: Who is shown it has this right in its area; None: everybody.
    """

    path: str
    name: str
    key: str
    right: Right | None = None
    area: str = ""


ENTRIES = (
    Entry("/console", "Overview", "overview"),
    Entry("/console/fleet", "Fleet", "fleet"),
    Entry("/console/models", "Models", "models"),
    Entry("/console/rollouts", "Rollouts", "rollouts"),
    Entry("/console/approvals", "Approvals", "approvals"),
    Entry("/console/alerts", "Alerts", "alerts"),
    Entry("/console/audit", "Audit", "audit", Right.ADMIN, "administration"),
    Entry("/console/settings", "Settings", "settings"),
)


def shown(paths: Collection[str]) -> tuple[Entry, ...]:
    """The entries whose pages there are."""
    return tuple(entry for entry in ENTRIES if entry.path in paths)
