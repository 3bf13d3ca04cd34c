"""Runs whose windows were deleted after their time: daily sums hold what they came to.

A daily sum knows neither the artifact nor the envelopes, so such a run has no proof, and is true to the day.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, Connection, Subquery, func, select

from edge_fleet.lineage.runs import Run
from edge_fleet.schema import IS_A_DAY, rollups, windows
from edge_fleet.storage.portions import portions
from edge_fleet.storage.rollups import DAY_S, FLEET, rolled_up_to

_DAY_MS = 1000 * DAY_S


def gone_windows(
    connection: Connection, digests: Collection[str], among: Collection[str] | None = None
) -> Subquery:
    """By device and bundle, what daily sums hold beyond the windows that are still there, where they do.

    Args:
        among: Only these devices, few; None for all.
    """
    own = rollups.c
    kept = (
        select(
            windows.c.device,
            windows.c.bundle,
            func.count().label("windows"),
            func.sum(windows.c.inferences).label("inferences"),
            func.sum(windows.c.errors).label("errors"),
        )
        .where(
            windows.c.bundle.in_(digests),
            windows.c.id <= rolled_up_to(connection),
            *_only(windows.c.device, among),
        )
        .group_by(windows.c.device, windows.c.bundle)
        .subquery()
    )
    sums = (
        select(
            own.device,
            own.bundle,
            func.sum(own.windows).label("windows"),
            func.sum(own.inferences).label("inferences"),
            func.sum(own.errors).label("errors"),
            func.min(own.start_ms).label("first_ms"),
            func.max(own.start_ms).label("last_ms"),
        )
        .where(IS_A_DAY, own.device != FLEET, own.bundle.in_(digests), *_only(own.device, among))
        .group_by(own.device, own.bundle)
        .subquery()
    )
    beside = (kept.c.device == sums.c.device) & (kept.c.bundle == sums.c.bundle)
    return (
        select(
            sums.c.device,
            sums.c.bundle,
            (sums.c.windows - func.coalesce(kept.c.windows, 0)).label("windows"),
            (sums.c.inferences - func.coalesce(kept.c.inferences, 0)).label("predictions"),
            (sums.c.errors - func.coalesce(kept.c.errors, 0)).label("errors"),
            sums.c.first_ms,
            sums.c.last_ms,
        )
        .select_from(sums.outerjoin(kept, beside))
        .where(sums.c.windows > func.coalesce(kept.c.windows, 0))
        .subquery()
    )


def deleted_runs(
    connection: Connection, digests: Collection[str], runs: Sequence[Run], among: Collection[str] | None
) -> list[Run]:
    """One for each device and bundle of which windows are gone.

    Args:
        runs: Of the windows that are there: a run of those that are gone ends where they begin.
        among: Only these devices, few; None for all.
    """
    begun_ms: dict[tuple[str, str], int] = {}
    for run in runs:
        key = run.device, run.bundle
        begun_ms[key] = min(run.first_received_ms, begun_ms.get(key, run.first_received_ms))
    made: list[Run] = []
    for portion in portions(sorted(digests)):
        for row in connection.execute(select(gone_windows(connection, portion, among))):
            end_ms = int(row.last_ms) + _DAY_MS
            until_ms = min(end_ms, begun_ms.get((row.device, row.bundle), end_ms))
            made.append(
                Run(
                    device=row.device,
                    bundle=row.bundle,
                    artifact="",
                    runtimes=(),
                    since_ms=int(row.first_ms),
                    until_ms=until_ms,
                    first_received_ms=int(row.first_ms),
                    last_received_ms=until_ms,
                    windows=int(row.windows),
                    predictions=int(row.predictions),
                    errors=int(row.errors),
                    running=False,
                    lost=0,
                    proof=(),
                )
            )
    return made


def _only(column: ColumnElement[str], among: Collection[str] | None) -> list[ColumnElement[bool]]:
    return [] if among is None else [column.in_(among)]
