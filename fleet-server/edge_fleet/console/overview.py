"""The first page: what needs attention, then how the fleet is and what it is doing."""

from __future__ import annotations

from typing import Any

from fastapi import Response
from sqlalchemy import ColumnElement, Connection, Table, literal, select

from edge_contracts.sketch import QuantileSketch, merge_quantiles
from edge_fleet.api.access import Shared
from edge_fleet.console import plots
from edge_fleet.console.matters import matters
from edge_fleet.console.page import Visitor, answer, make_router
from edge_fleet.console.plots import Chart, Series
from edge_fleet.rollouts.phases import WATCHED
from edge_fleet.schema import publishers, releases, rollouts
from edge_fleet.standings import find
from edge_fleet.storage.rollups import MINUTE_S, series

router = make_router()

SHOWN_MS = 2 * 3_600_000
RECENT_MS = 15 * 60_000
MODELS = 8
AT_WORK = 8


@router.get("/console")
def overview(services: Shared, visitor: Visitor) -> Response:
    """What needs attention, and how the fleet is."""
    now_ms, broker_up = services.now_ms(), services.link.is_up
    with services.store.read() as connection:
        values = overview_page(connection, now_ms, broker_up)
    return answer(visitor, "overview.html", now_ms, **values, broker_up=broker_up)


def overview_page(connection: Connection, now_ms: int, broker_up: bool) -> dict[str, Any]:
    """What the page shows."""
    counts = find.by_health(connection)
    models = find.by_model(connection)
    minutes = series(connection, MINUTE_S, now_ms - SHOWN_MS)
    recent = [row for row in minutes if row.start_ms >= now_ms - RECENT_MS]
    return {
        "matters": matters(connection, now_ms, broker_up),
        "counts": counts,
        "total": sum(counts.values()),
        "has_publisher": _any(connection, publishers, publishers.c.revoked_ms.is_(None)),
        "has_release": _any(connection, releases),
        "inferences": sum(row.inferences for row in recent),
        "faults": sum(row.errors + row.refused for row in recent),
        "models": [(name, models[name]) for name in list(models)[:MODELS]],
        "further_models": len(models) - MODELS,
        "at_work": _at_work(connection),
        "charts": _charts(minutes, now_ms),
    }


def _any(connection: Connection, table: Table, *conditions: ColumnElement[bool]) -> bool:
    return (
        connection.execute(select(literal(1)).select_from(table).where(*conditions).limit(1)).first()
        is not None
    )


def _at_work(connection: Connection) -> list[dict[str, Any]]:
    own = rollouts.c
    rows = connection.execute(
        select(own.id, own.phase, own.why, own.stage, own.plan, releases.c.name, releases.c.version)
        .join(releases, releases.c.counter == own.counter)
        .where(own.phase.in_(list(WATCHED)))
        .order_by(own.since_ms.desc())
        .limit(AT_WORK)
    )
    return [
        {
            "id": row.id,
            "release": f"{row.name} {row.version}",
            "phase": row.phase,
            "stage": row.stage,
            "stages": len(row.plan.get("stages", ())),
            "why": row.why,
        }
        for row in rows
    ]


def _charts(minutes: Any, now_ms: int) -> list[Chart]:
    """Of the whole fleet, by minute; the minute that is not over is left out."""
    answered: dict[float, float] = {}
    failed: dict[float, float] = {}
    sketches: dict[float, list[QuantileSketch]] = {}
    for row in minutes:
        if row.start_ms + 1000 * MINUTE_S > now_ms:
            continue
        at_s = row.start_ms / 1000
        answered[at_s] = answered.get(at_s, 0) + row.inferences
        failed[at_s] = failed.get(at_s, 0) + row.errors + row.refused
        bins = {int(index): count for index, count in row.latency.items()}
        sketches.setdefault(at_s, []).append(QuantileSketch(bins=bins))
    latency = {at_s: merge_quantiles(found) for at_s, found in sketches.items()}
    begin_s, end_s = (now_ms - SHOWN_MS) / 1000, now_ms / 1000

    def line(name: str, values: dict[float, float]) -> Series:
        return Series(name, tuple(sorted(values.items())))

    def quantile(q: float) -> dict[float, float]:
        return {at: value for at, one in latency.items() if (value := one.quantile(q)) is not None}

    where = begin_s, end_s, (), float(MINUTE_S)
    return [
        plots.lines("work", "Inferences a minute", "", [line("inferences", answered)], *where),
        plots.lines("faults", "Failed or refused a minute", "", [line("without an answer", failed)], *where),
        plots.lines(
            "latency", "Latency", "ms", [line("p50", quantile(0.5)), line("p95", quantile(0.95))], *where
        ),
    ]
