"""The fleet's page: devices searched, narrowed, sorted and paged by the database."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Query, Response
from sqlalchemy import Connection

from edge_fleet.api.access import Shared
from edge_fleet.console.page import Visitor, answer, make_router
from edge_fleet.errors import RequestInvalid
from edge_fleet.standings import find
from edge_fleet.standings.condition import ORDER
from edge_fleet.standings.find import SIZES, SORTS, Wanted

router = make_router()

# what people read for the keys of SORTS
SORT_NAMES = {
    "urgency": "most urgent first",
    "name": "name",
    "profile": "profile",
    "model": "model",
    "longest": "longest in this health",
    "latest": "changed last",
    "inferences": "most inferences",
    "faults": "most without an answer",
    "p95": "slowest",
    "drift": "furthest from the baseline",
}


@router.get("/console/fleet")
def fleet(
    services: Shared,
    visitor: Visitor,
    q: Annotated[str, Query(max_length=200)] = "",
    health: Annotated[str, Query(max_length=20)] = "",
    profile: Annotated[str, Query(max_length=64)] = "",
    model: Annotated[str, Query(max_length=130)] = "",
    degraded: Annotated[str, Query(max_length=1)] = "",
    sort: Annotated[str, Query(max_length=20)] = "urgency",
    page: Annotated[int, Query(ge=1, le=10**6)] = 1,
    size: Annotated[int, Query(ge=1, le=max(SIZES))] = 50,
) -> Response:
    """One page of devices."""
    if sort not in SORTS:
        raise RequestInvalid(f"sort: {sort!r:.40} is not one of {', '.join(SORTS)}")
    wanted = Wanted(q, health, profile, model, degraded == "1", sort, page, size)
    now_ms = services.now_ms()
    with services.store.read() as connection:
        values = fleet_page(connection, wanted)
    return answer(visitor, "fleet.html", now_ms, **values)


def fleet_page(connection: Connection, wanted: Wanted) -> dict[str, Any]:
    """What the page shows."""
    found = find.find(connection, wanted)
    counts = find.by_health(connection)
    return {
        "wanted": wanted,
        "found": found,
        "given": find.newest_assignments(connection, [row.device for row in found.rows]),
        "counts": counts,
        "total": sum(counts.values()),
        "profiles": list(find.by_profile(connection)),
        "models": [name for name in find.by_model(connection) if name],
        "healths": ORDER,
        "sorts": SORT_NAMES,
        "sizes": SIZES,
        "at": lambda page: "?" + urlencode({**_as_query(wanted), "page": page}),
    }


def _as_query(wanted: Wanted) -> dict[str, str]:
    """What was asked for, without what is so anyway."""
    usual = Wanted()
    named = {
        "q": wanted.text,
        "health": wanted.health,
        "profile": wanted.profile,
        "model": wanted.model,
        "degraded": "1" if wanted.degraded else "",
        "sort": wanted.sort if wanted.sort != usual.sort else "",
        "size": str(wanted.size) if wanted.size != usual.size else "",
    }
    return {name: value for name, value in named.items() if value}
