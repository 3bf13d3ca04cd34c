"""What a recall comes to, for a page: the database sums it up, and only the first runs are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Subquery, and_, func, or_, select, union

from edge_fleet.lineage.deleted import gone_windows
from edge_fleet.lineage.recall import recall
from edge_fleet.lineage.runs import Run
from edge_fleet.lineage.targets import Target, windows_of
from edge_fleet.schema import CHOICE, devices, windows


@dataclass(frozen=True)
class Overview:
    """What a recall comes to.

    Args:
        running: Of the runs, those that still go on.
        first: Some of the runs, by device.
    """

    runs: int
    devices: int
    predictions: int
    running: int
    first: tuple[Run, ...]


def overview(connection: Connection, targets: Sequence[Target], most: int) -> Overview:
    """How many ran one of the targets, summed up by the database, and the first runs."""
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
    devices_of = select(own.device).where(windows_of(targets))
    if before.runs:  # else nothing was deleted, and nobody is to be told apart
        devices_of = union(devices_of, select(gone.c.device)).subquery().select()
        counted = connection.execute(select(func.count()).select_from(devices_of.subquery())).scalar_one()
    else:
        devices_of = devices_of.distinct()
        counted = ran.devices
    names = devices_of.order_by(devices_of.selected_columns[0]).limit(most)
    return Overview(
        runs=int(ran.runs + before.runs),
        devices=counted,
        predictions=int(ran.predictions + before.predictions),
        running=_running(connection, targets),
        first=tuple(recall(connection, targets, list(connection.execute(names).scalars()))[:most]),
    )


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
    artifact = func.coalesce(devices.c.state["active"]["artifact"].as_string(), "")
    now = or_(
        *(
            CHOICE.contains(f"\n{target.bundle}\n")
            if target.artifact is None
            else and_(CHOICE.contains(f"\n{target.bundle}\n"), artifact == target.artifact)
            for target in targets
        )
    )
    ran = select(windows.c.device).where(windows_of(targets))
    return connection.execute(
        select(func.count()).select_from(devices).where(now, devices.c.id.in_(ran))
    ).scalar_one()
