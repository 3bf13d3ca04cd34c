"""The page of one device: condition, model, chain, charts, and drift against the baseline."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Response
from markupsafe import Markup
from sqlalchemy import Connection, select

from edge_contracts.digest import short
from edge_contracts.sketch import Drift
from edge_fleet.api.access import Shared
from edge_fleet.api.devices import show_device
from edge_fleet.console import charts
from edge_fleet.console.device_rows import RECENT_MS, device_row
from edge_fleet.console.page import Visitor, answer, make_router
from edge_fleet.evidence import BundleFacts, Reading, drifts_of
from edge_fleet.rollouts.readings import load_facts, reading_of
from edge_fleet.schema import bundles, refusals, windows

router = make_router()

CHART_WINDOWS = 300


@router.get("/console/devices/{device}")
def device(device: str, services: Shared, visitor: Visitor) -> Response:
    """One device."""
    now_ms = services.now_ms()
    found = show_device(device, services, visitor.who)
    with services.store.read() as connection:
        values = device_page(connection, found, now_ms)
    return answer(visitor, "device.html", now_ms, **values)


def device_page(connection: Connection, shown: Mapping[str, Any], now_ms: int) -> dict[str, Any]:
    """One device: condition, charts, drift against the baseline, what was refused.

    Args:
        shown: As `api.devices.show_device` gives it.
    """
    latest = connection.execute(
        select(windows)
        .where(windows.c.device == shown["id"])
        .order_by(windows.c.id.desc())
        .limit(CHART_WINDOWS)
    ).all()
    readings = [reading_of(row) for row in reversed(latest)]
    facts = load_facts(connection, {r.bundle for r in readings})
    recent = [r for r in readings if r.received_s * 1000 >= now_ms - RECENT_MS]
    versions = _versions(connection)
    return {
        "device": shown,
        "row": device_row(shown, recent, facts, now_ms),
        "charts": _charts(readings, versions, now_ms / 1000),
        "drifts": _drift_rows(shown, recent, facts),
        "versions": versions,
        "refusals": [
            dict(row)
            for row in connection.execute(
                select(refusals).where(refusals.c.device == shown["id"]).order_by(refusals.c.last_ms.desc())
            ).mappings()
        ],
        "memory_bytes": latest[0].rss_bytes if latest else None,
        "temperature_c": latest[0].temperature_c if latest else None,
    }


def _versions(connection: Connection) -> dict[str, str]:
    """Name and version of every bundle, by digest."""
    rows = connection.execute(select(bundles.c.digest, bundles.c.manifest))
    found = {}
    for row in rows:
        manifest = json.loads(row.manifest)
        found[row.digest] = f"{manifest['name']} {manifest['version']}"
    return found


def _charts(
    readings: Sequence[Reading], versions: Mapping[str, str], now_s: float
) -> list[tuple[str, Markup]]:
    """Latency, work and errors over time, one point a window."""
    latency, answered, failed = [], [], []
    for r in readings:
        series = versions.get(r.bundle, short(r.bundle))
        p95 = r.latency_ms.quantile(0.95)
        if p95 is not None:
            latency.append(charts.Point(r.received_s, p95, series))
        answered.append(charts.Point(r.received_s, r.inferences, series))
        failed.append(charts.Point(r.received_s, r.errors + r.refused, series))
    return [
        ("p95 latency of a window", charts.line(latency, "p95 latency", "ms", now_s)),
        ("Inferences a window", charts.line(answered, "inferences", "a window", now_s)),
        ("Inferences without an answer", charts.line(failed, "without an answer", "a window", now_s)),
    ]


def _drift_rows(
    shown: Mapping[str, Any], recent: Sequence[Reading], facts: Mapping[str, BundleFacts]
) -> list[tuple[Drift, Markup]]:
    """Each monitored number of the running model, live beside its baseline, furthest first."""
    bundle: str = shown["active"]["bundle"] if shown["active"] else ""
    if bundle not in facts:
        return []
    own = [r for r in recent if r.bundle == bundle]
    rows = []
    for drift in sorted(drifts_of(facts[bundle].baseline, own), key=lambda one: -one.distance):
        scalar = next(s for s in facts[bundle].baseline.scalars if s.name == drift.name)
        counts = [
            r.scalars[drift.name] for r in own if len(r.scalars.get(drift.name, ())) == len(scalar.counts)
        ]
        live = [sum(column) for column in zip(*counts, strict=True)]
        rows.append((drift, charts.histogram(scalar.counts, live, f"{drift.name}: baseline and live shares")))
    return rows
