"""What there is to measure of a fleet: counts and sums that the database keeps anyhow.

The number of series grows with releases, rules and reasons, and with no number of devices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from itertools import chain
from typing import Any

from sqlalchemy import Connection, Row, Select, case, func, select

from edge_contracts.digest import short
from edge_contracts.sketch import QuantileSketch, merge_quantiles
from edge_fleet.alerts.forgeries import REFUSED
from edge_fleet.alerts.machine import Phase
from edge_fleet.alerts.obedience import astray
from edge_fleet.metrics.exposition import Family, Sample, by_label, one
from edge_fleet.schema import (
    alerts,
    bundles,
    devices,
    refusals,
    releases,
    rollouts,
    rollups,
    webhook_deliveries,
)
from edge_fleet.services import Server
from edge_fleet.standings.condition import SILENT_AFTER_S
from edge_fleet.storage.rollups import DAY_S, FLEET, MINUTE_S

LATENCY_MS = 10 * 60_000
QUANTILES = (0.5, 0.95, 0.99)


def collect(server: Server) -> list[Family]:
    """Every metric of a server at work."""
    counters = server.ingest.counters
    now_ms = server.now_ms()
    with server.store.read() as connection:
        stored = [*_fleet(connection, now_ms), *_models(connection, now_ms)]
    return [
        Family(
            "edgefleet_info",
            "gauge",
            "The release that serves.",
            (Sample(1, {"version": version("edgefleet")}),),
        ),
        one("edgefleet_broker_up", "gauge", "Whether the server hears its broker.", server.link.is_up),
        one("edgefleet_messages_received_total", "counter", "Messages from the broker.", counters.received),
        one(
            "edgefleet_messages_waiting",
            "gauge",
            "Messages not worked on yet.",
            server.ingest.waiting,
        ),
        one("edgefleet_envelopes_stored_total", "counter", "New envelopes stored.", counters.envelopes),
        one("edgefleet_records_stored_total", "counter", "Records in them.", counters.records),
        one("edgefleet_acknowledgements_total", "counter", "Acknowledgements sent.", counters.acknowledged),
        one("edgefleet_batches_failed_total", "counter", "Batches not stored.", counters.failed_batches),
        *stored,
    ]


def _fleet(connection: Connection, now_ms: int) -> Iterator[Family]:
    state = case(
        (devices.c.revoked_ms.is_not(None), "revoked"),
        (devices.c.last_seen_ms.is_(None), "never-seen"),
        (devices.c.last_seen_ms >= now_ms - round(1000 * SILENT_AFTER_S), "seen"),
        else_="silent",
    ).label("state")
    counted = {"seen": 0, "silent": 0, "never-seen": 0, "revoked": 0}
    rows = connection.execute(select(state, func.count().label("n")).select_from(devices).group_by(state))
    counted |= {row.state: row.n for row in rows}
    yield by_label(
        "edgefleet_devices",
        "gauge",
        f"Devices; seen is in the last {SILENT_AFTER_S / 60:.0f} minutes.",
        "state",
        dict(counted),
    )
    yield one(
        "edgefleet_devices_foreign_director",
        "gauge",
        "Devices that say they obey a director's key which is not, or not any more, of this server.",
        astray(connection),
    )
    total = func.sum(refusals.c.count).label("total")
    # a counter that is first seen at 1 has not increased for Prometheus: those of our alerts begin at 0
    refused = dict.fromkeys(chain.from_iterable(REFUSED.values()), 0.0)
    rows = connection.execute(select(refusals.c.reason, total).group_by(refusals.c.reason))
    refused |= {row.reason: float(row.total) for row in rows}
    yield by_label(
        "edgefleet_refused_total",
        "counter",
        "Messages that were not believed.",
        "reason",
        refused,
    )
    own = alerts.c
    open_ones = connection.execute(
        select(own.rule, own.level, own.phase, func.count().label("n"))
        .where(own.phase != Phase.RESOLVED)
        .group_by(own.rule, own.level, own.phase)
        .order_by(own.rule, own.level, own.phase)
    )
    samples = tuple(
        Sample(row.n, {"rule": row.rule, "level": row.level, "phase": row.phase}) for row in open_ones
    )
    yield Family("edgefleet_alerts", "gauge", "Alerts that are not resolved.", samples)
    phases = connection.execute(select(rollouts.c.phase, func.count().label("n")).group_by(rollouts.c.phase))
    yield by_label(
        "edgefleet_rollouts", "gauge", "Rollouts by phase.", "phase", {row.phase: row.n for row in phases}
    )
    waiting, dead = webhook_deliveries.c.delivered_ms.is_(None), webhook_deliveries.c.dead_ms
    sent = connection.execute(
        select(
            func.coalesce(func.sum(case((waiting & dead.is_(None), 1), else_=0)), 0).label("waiting"),
            func.coalesce(func.sum(case((waiting & dead.is_not(None), 1), else_=0)), 0).label("dead"),
        )
    ).one()
    yield by_label(
        "edgefleet_webhook_deliveries",
        "gauge",
        "Webhooks that wait, or were given up.",
        "state",
        {"waiting": int(sent.waiting), "dead": int(sent.dead)},
    )


def _models(connection: Connection, now_ms: int) -> Iterator[Family]:
    """By bundle: sums over the days that are kept, and the latency of the last ten minutes."""
    own = rollups.c
    named = {row.digest: row for row in connection.execute(_names())}
    sums = connection.execute(
        select(
            own.bundle,
            func.sum(own.inferences).label("inferences"),
            func.sum(own.errors).label("errors"),
            func.sum(own.refused).label("refused"),
        )
        .where(own.step_s == DAY_S, own.device == FLEET)
        .group_by(own.bundle)
        .order_by(own.bundle)
    ).all()
    for name, said in (
        ("inferences", "Answered inferences."),
        ("errors", "Failed inferences."),
        ("refused", "Inputs that the contract did not allow."),
    ):
        samples = tuple(Sample(int(getattr(row, name)), _labels(row.bundle, named)) for row in sums)
        yield Family(f"edgefleet_model_{name}_total", "counter", said, samples)
    recent = connection.execute(
        select(own.bundle, own.latency).where(
            own.step_s == MINUTE_S, own.device == FLEET, own.start_ms >= now_ms - LATENCY_MS
        )
    )
    sketches: dict[str, list[QuantileSketch]] = {}
    for row in recent:
        bins = {int(index): count for index, count in row.latency.items()}
        sketches.setdefault(row.bundle, []).append(QuantileSketch(bins=bins))
    latency = []
    for bundle, found in sorted(sketches.items()):
        merged = merge_quantiles(found)
        for q in QUANTILES:
            value = merged.quantile(q)
            if value is not None:
                latency.append(Sample(value / 1000, {**_labels(bundle, named), "q": f"{q:g}"}))
    yield Family(
        "edgefleet_model_latency_seconds", "gauge", "Of single inferences, last ten minutes.", tuple(latency)
    )


def _names() -> Select[Any]:
    return select(bundles.c.digest, bundles.c.profile, releases.c.name, releases.c.version).join(
        releases, releases.c.counter == bundles.c.counter
    )


def _labels(bundle: str, named: Mapping[str, Row[Any]]) -> dict[str, str]:
    row = named.get(bundle)
    if row is None:
        return {"release": "", "profile": "", "bundle": short(bundle)}
    return {"release": f"{row.name}@{row.version}", "profile": row.profile, "bundle": short(bundle)}
