"""The page of one device: health, model and why, charts, chain, drift, history, and what can be ordered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Query, Request, Response
from sqlalchemy import Connection, select

from edge_fleet.api.access import Shared
from edge_fleet.api.devices import revoke_device, show_device
from edge_fleet.auth import Right
from edge_fleet.console import device_charts, device_history, session
from edge_fleet.console.device_charts import SPANS
from edge_fleet.console.page import Text, Visitor, answer, go, make_router, require
from edge_fleet.errors import NotFound, RequestInvalid
from edge_fleet.lineage import rows as lineage
from edge_fleet.lineage.resolution import Resolution
from edge_fleet.rollouts.device_orders import DeviceOrder, order_device
from edge_fleet.rollouts.readings import load_facts
from edge_fleet.schema import bundles, refusals, releases
from edge_fleet.standings.judge import Baselines, Judgement, judge

router = make_router()

REVOKE = "revoke"


@router.get("/console/devices/{device}")
def device(
    device: str,
    services: Shared,
    visitor: Visitor,
    span: Annotated[str, Query(max_length=20)] = "hour",
) -> Response:
    """One device."""
    if span not in SPANS:
        raise RequestInvalid(f"span: {span!r:.40} is not one of {', '.join(SPANS)}")
    now_ms = services.now_ms()
    found = show_device(device, services, visitor.who)
    with services.store.read() as connection:
        values = device_page(connection, found, span, now_ms)
    return answer(visitor, "device.html", now_ms, **values)


@router.post("/console/devices/{device}/{order}")
def order(
    device: str,
    order: str,
    request: Request,
    services: Shared,
    visitor: Visitor,
    csrf: Text = "",
    rollout: Text = "",
    why: Text = "",
) -> Response:
    """Leave it out of its rollout, try it again, send it back, or put it out of the fleet."""
    session.require_form(request, visitor, csrf)
    require(visitor, Right.OPERATE)
    if order == REVOKE:
        revoke_device(device, services, visitor.who)
    elif order in tuple(DeviceOrder):
        order_device(services, rollout, device, DeviceOrder(order), visitor.who.name, why[:500])
    else:
        raise NotFound(f"no such order {order!r:.40}; possible: {', '.join((*DeviceOrder, REVOKE))}")
    return go(f"/devices/{device}")


def device_page(connection: Connection, shown: Mapping[str, Any], span: str, now_ms: int) -> dict[str, Any]:
    """What the page shows.

    Args:
        shown: As `api.devices.show_device` gives it.
        span: One of SPANS.
    """
    name, active = str(shown["id"]), shown["active"] or {}
    judged = _judged(connection, name, now_ms)
    points = device_charts.load(connection, name, SPANS[span], now_ms)
    named = {one["bundle"] for one in shown["assignments"] if one["bundle"]}
    reported = {point.bundle for point in points} | ({active["bundle"]} if active else set())
    versions = _versions(connection, named | reported)
    facts = load_facts(connection, reported)
    last = points[-1] if points else None
    return {
        "device": shown,
        "judged": judged,
        "span": span,
        "spans": list(SPANS),
        "charts": device_charts.draw(points, SPANS[span], versions, facts, now_ms / 1000),
        "drifts": device_charts.against_baseline(points, active.get("bundle", ""), facts),
        "versions": versions,
        "why": _why(connection, shown),
        "streams": device_history.chain(connection, name),
        "history": device_history.history(connection, shown, versions),
        "rollout": device_history.newest_rollout(connection, name),
        "refusals": [
            dict(row)
            for row in connection.execute(
                select(refusals).where(refusals.c.device == name).order_by(refusals.c.last_ms.desc())
            ).mappings()
        ],
        "memory_bytes": last.memory_bytes if last else None,
        "temperature_c": last.temperature_c if last else None,
    }


def _judged(connection: Connection, device: str, now_ms: int) -> Judgement:
    """As of now: the fleet's table may be two minutes older."""
    ((_, judged),) = judge(connection, [device], now_ms, Baselines())
    return judged


def _versions(connection: Connection, wanted: set[str]) -> dict[str, str]:
    """Name and version of bundles, by digest."""
    rows = connection.execute(
        select(bundles.c.digest, releases.c.name, releases.c.version)
        .join(releases, releases.c.counter == bundles.c.counter)
        .where(bundles.c.digest.in_(list(wanted)))
    )
    return {row.digest: f"{row.name} {row.version}" for row in rows}


def _why(connection: Connection, shown: Mapping[str, Any]) -> list[tuple[str, str, Resolution]]:
    """What it gets of the release that it runs, of the one it was given last, and of the newest of that name.

    Each with what makes it of interest and the release's name.
    """
    if shown["revoked_ms"] is not None:
        return []
    wanted: dict[int, tuple[str, str]] = {}
    active, given = shown["active"] or {}, shown["assignment"] or {}
    for said, bundle in (("It runs", active.get("bundle")), ("It was given last", given.get("bundle"))):
        row = connection.execute(
            select(releases.c.counter, releases.c.name, releases.c.version)
            .join(bundles, bundles.c.counter == releases.c.counter)
            .where(bundles.c.digest == bundle)
        ).one_or_none()
        if row is not None:
            wanted.setdefault(row.counter, (said, f"{row.name}@{row.version}"))
    names = {named.split("@")[0] for _, named in wanted.values()}
    query = select(releases.c.counter, releases.c.name, releases.c.version)
    if names:
        query = query.where(releases.c.name.in_(names))
    newest = connection.execute(query.order_by(releases.c.counter.desc()).limit(1)).one_or_none()
    if newest is not None:
        wanted.setdefault(newest.counter, ("The newest is", f"{newest.name}@{newest.version}"))
    return [
        (said, named, lineage.explained(connection, named, str(shown["id"]))[0])
        for said, named in wanted.values()
    ]
