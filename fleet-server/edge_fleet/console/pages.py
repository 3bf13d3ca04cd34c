"""What the pages show, read from the database. Words and layout are in the templates."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from sqlalchemy import Connection, select

from edge_contracts.digest import short
from edge_contracts.manifest import Manifest
from edge_contracts.sketch import Drift
from edge_fleet.api.devices import describe
from edge_fleet.assignment import State
from edge_fleet.console import charts
from edge_fleet.console.health import URGENT, Condition, Health, condition
from edge_fleet.evidence import BundleFacts, Exposure, Reading, drifts_of, sum_up
from edge_fleet.registry import listed
from edge_fleet.rollouts.readings import load_facts, reading_of
from edge_fleet.schema import bundles, refusals, windows

RECENT_MS = 15 * 60_000
PAGE = 50
CHART_WINDOWS = 300


@dataclass(frozen=True)
class DeviceRow:
    """One device in the fleet's table.

    Args:
        device: As `api.devices.describe` gives it.
        recent: Windows of the last minutes, of the model that it runs.
    """

    device: Mapping[str, Any]
    condition: Condition
    recent: Exposure
    p95_ms: float | None
    furthest: Drift | None


@dataclass(frozen=True)
class Filter:
    """What the fleet's table is narrowed to; "" does not narrow."""

    text: str = ""
    health: str = ""
    profile: str = ""
    page: int = 1

    def holds(self, row: DeviceRow) -> bool:
        """Whether a row is wanted."""
        device = row.device
        active = device["active"] or {}
        words = [device["id"], *device["profile"], *(f"{k}={v}" for k, v in device["labels"].items())]
        words += [f"{active.get('name', '')} {active.get('version', '')}", active.get("bundle", "")]
        return (
            all(part.lower() in " ".join(words).lower() for part in self.text.split())
            and self.health in ("", row.condition.health)
            and self.profile in ("", *device["profile"])
        )


def fleet_rows(connection: Connection, now_ms: int) -> list[DeviceRow]:
    """Every device with its condition, the most urgent first."""
    devices = describe(connection)
    recent: dict[str, list[Reading]] = {}
    for row in connection.execute(select(windows).where(windows.c.received_ms >= now_ms - RECENT_MS)):
        recent.setdefault(row.device, []).append(reading_of(row))
    active = {d["active"]["bundle"] for d in devices if d["active"]}
    facts = load_facts(connection, active)
    rows = [_device_row(device, recent.get(device["id"], []), facts, now_ms) for device in devices]
    order = list(Health)
    return sorted(rows, key=lambda row: (order.index(row.condition.health), row.device["id"]))


def fleet_page(connection: Connection, wanted: Filter, now_ms: int) -> dict[str, Any]:
    """The fleet: counts, what needs attention, and one page of devices."""
    rows = fleet_rows(connection, now_ms)
    matching = [row for row in rows if wanted.holds(row)]
    pages = max(1, -(-len(matching) // PAGE))
    page = min(max(1, wanted.page), pages)
    models: dict[str, int] = {}
    for row in rows:
        active = row.device["active"]
        name = f"{active['name']} {active['version']}" if active else "no model"
        models[name] = models.get(name, 0) + 1
    return {
        "total": len(rows),
        "counts": _counts(row.condition.health for row in rows),
        "urgent": [row for row in rows if row.condition.health in URGENT],
        "models": sorted(models.items(), key=lambda item: -item[1]),
        "inferences": sum(row.recent.inferences for row in rows),
        "devices": matching[(page - 1) * PAGE : page * PAGE],
        "matching": len(matching),
        "page": page,
        "pages": pages,
        "profiles": sorted({name for row in rows for name in row.device["profile"]}),
        "healths": list(Health),
        "filter": wanted,
    }


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
        "row": _device_row(shown, recent, facts, now_ms),
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


def releases_page(connection: Connection) -> list[dict[str, Any]]:
    """Every release with its bundles' manifests, and how many devices run each."""
    running: dict[str, int] = _counts(
        device["active"]["bundle"] for device in describe(connection) if device["active"]
    )
    manifests = {
        row.digest: Manifest.model_validate_json(row.manifest)
        for row in connection.execute(select(bundles.c.digest, bundles.c.manifest))
    }
    return [
        {
            **release,
            "bundles": [
                {
                    **bundle,
                    "manifest": manifests[bundle["digest"]],
                    "running": running.get(bundle["digest"], 0),
                }
                for bundle in release["bundles"]
            ],
        }
        for release in listed(connection)
    ]


def _versions(connection: Connection) -> dict[str, str]:
    """Name and version of every bundle, by digest."""
    rows = connection.execute(select(bundles.c.digest, bundles.c.manifest))
    found = {}
    for row in rows:
        manifest = json.loads(row.manifest)
        found[row.digest] = f"{manifest['name']} {manifest['version']}"
    return found


def _device_row(
    device: Mapping[str, Any], readings: Sequence[Reading], facts: Mapping[str, BundleFacts], now_ms: int
) -> DeviceRow:
    bundle: str = device["active"]["bundle"] if device["active"] else ""
    own = [r for r in readings if r.bundle == bundle]
    recent = sum_up(own)
    drifts = drifts_of(facts[bundle].baseline, own) if bundle in facts else ()
    assignment = device["assignment"]
    return DeviceRow(
        device=device,
        condition=condition(
            now_ms / 1000,
            None if device["last_seen_ms"] is None else device["last_seen_ms"] / 1000,
            device["revoked_ms"] is not None,
            State(assignment["phase"]) if assignment and assignment["bundle"] else None,
            recent,
            drifts,
        ),
        recent=recent,
        p95_ms=recent.latency_ms.quantile(0.95),
        furthest=max(drifts, key=lambda one: one.distance, default=None),
    )


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


def _counts(words: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return counts
