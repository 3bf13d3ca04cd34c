"""What a recall comes to, summed up by the database, and its runs a page of devices at a time.

A fleet of 100,000 devices has as many runs, and whoever asks sees few of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, Subquery, func, or_, select, tuple_, union

from edge_fleet.lineage.deleted import gone_windows
from edge_fleet.lineage.recall import recall
from edge_fleet.lineage.runs import Run
from edge_fleet.lineage.targets import Target, either, windows_of
from edge_fleet.schema import CHOICE, devices, windows
from edge_fleet.storage.portions import portions


@dataclass(frozen=True)
class Overview:
    """What a recall comes to.

    Args:
        running: Of the runs, those that still go on.
        deleted: Some are known from daily sums alone, or in part.
    """

    runs: int = 0
    devices: int = 0
    predictions: int = 0
    running: int = 0
    deleted: bool = False


@dataclass(frozen=True)
class Page:
    """Some devices with all of their runs.

    Args:
        next: The last of them, after whom others come; None when there are none.
    """

    runs: tuple[Run, ...]
    next: str | None


def overview(connection: Connection, targets: Sequence[Target]) -> Overview:
    """How many ran one of the targets, and how often it answered."""
    own, digests = windows.c, {target.bundle for target in targets}
    runs = (
        select(own.device, func.sum(own.inferences).label("predictions"))
        .where(windows_of(targets))
        .group_by(own.device, own.bundle, own.artifact)
        .subquery()
    )
    ran = _total(connection, runs)
    gone = gone_windows(connection, digests)
    before = _total(connection, gone)
    counted = ran.devices
    if before.runs:  # else nobody is to be told apart
        both = union(_ran(targets), select(gone.c.device)).subquery()
        counted = connection.execute(select(func.count()).select_from(both)).scalar_one()
    return Overview(
        runs=int(ran.runs + before.runs),
        devices=counted,
        predictions=int(ran.predictions + before.predictions),
        running=_running(connection, targets),
        deleted=before.runs > 0,
    )


def page(
    connection: Connection, targets: Sequence[Target], seen: Overview, most: int, after: str = ""
) -> Page:
    """The runs of some devices, by device, then by first use.

    Args:
        seen: What the recall comes to.
        most: Devices.
        after: The last one of the page before.
    """
    query: Select[Any] = _ran(targets).where(windows.c.device > after).distinct()
    if seen.deleted:
        gone = gone_windows(connection, {target.bundle for target in targets})
        query = select(union(query, select(gone.c.device).where(gone.c.device > after)).subquery().c.device)
    first = query.order_by(query.selected_columns[0]).limit(most + 1)
    names: list[str] = [row[0] for row in connection.execute(first)]
    told = names[:most]
    runs = (run for some in portions(told) for run in recall(connection, targets, some))
    return Page(tuple(runs), told[-1] if len(names) > most else None)


def _ran(targets: Sequence[Target]) -> Select[tuple[str]]:
    """The device of each window of the targets."""
    return select(windows.c.device).where(windows_of(targets))


def _total(connection: Connection, runs: Subquery) -> Row[Any]:
    """How many runs, how many devices, and what they answered."""
    of_device = (
        select(func.count().label("runs"), func.sum(runs.c.predictions).label("predictions"))
        .group_by(runs.c.device)
        .subquery()
    )
    return connection.execute(
        select(
            func.coalesce(func.sum(of_device.c.runs), 0).label("runs"),
            func.count().label("devices"),
            func.coalesce(func.sum(of_device.c.predictions), 0).label("predictions"),
        ).select_from(of_device)
    ).one()


def _running(connection: Connection, targets: Sequence[Target]) -> int:
    """How many of those that ran it say that they run it now."""
    active = devices.c.state["active"]
    pair = tuple_(*(func.coalesce(active[name].as_string(), "") for name in ("bundle", "artifact")))
    # of whole bundles, which a release has few of, the index of choices knows
    now = either(targets, lambda found: or_(*(CHOICE.contains(f"\n{one}\n") for one in found)), pair.in_)
    return connection.execute(
        select(func.count()).select_from(devices).where(now, devices.c.id.in_(_ran(targets)))
    ).scalar_one()
