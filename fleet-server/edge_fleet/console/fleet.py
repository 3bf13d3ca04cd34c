"""The fleet's page: counts, what needs attention, and one page of devices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fastapi import Query, Response
from sqlalchemy import Connection, select

from edge_fleet.api.access import Shared
from edge_fleet.api.devices import describe
from edge_fleet.console.device_rows import RECENT_MS, DeviceRow, device_row
from edge_fleet.console.health import URGENT, Health
from edge_fleet.console.page import Visitor, answer, make_router
from edge_fleet.evidence import Reading
from edge_fleet.rollouts.phases import WATCHED
from edge_fleet.rollouts.readings import load_facts, reading_of
from edge_fleet.rollouts.view import listed
from edge_fleet.schema import windows

router = make_router()

PAGE = 50


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


@router.get("/console")
def fleet(
    services: Shared,
    visitor: Visitor,
    q: str = Query("", max_length=200),
    health: str = Query("", max_length=20),
    profile: str = Query("", max_length=64),
    page: int = Query(1, ge=1, le=10**6),
) -> Response:
    """The fleet."""
    now_ms = services.now_ms()
    with services.store.read() as connection:
        found = fleet_page(connection, Filter(q, health, profile, page), now_ms)
        rollouts = [row for row in listed(connection) if row["phase"] in WATCHED]
    broker_up = services.link.is_up
    return answer(visitor, "fleet.html", now_ms, **found, rollouts=rollouts, broker_up=broker_up)


def fleet_rows(connection: Connection, now_ms: int) -> list[DeviceRow]:
    """Every device with its condition, the most urgent first."""
    devices = describe(connection)
    recent: dict[str, list[Reading]] = {}
    for row in connection.execute(select(windows).where(windows.c.received_ms >= now_ms - RECENT_MS)):
        recent.setdefault(row.device, []).append(reading_of(row))
    active = {d["active"]["bundle"] for d in devices if d["active"]}
    facts = load_facts(connection, active)
    rows = [device_row(device, recent.get(device["id"], []), facts, now_ms) for device in devices]
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


def _counts(words: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return counts
