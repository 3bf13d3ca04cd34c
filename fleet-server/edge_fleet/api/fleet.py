"""The fleet over HTTP: devices searched, narrowed, sorted and paged by the database."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from edge_fleet.api.access import Reader, Shared
from edge_fleet.standings.condition import Health
from edge_fleet.standings.find import SIZES, SORTS, Wanted, by_health, find

router = APIRouter(prefix="/api/v1", tags=["devices"])

_NAMES = "|".join(SORTS)


@router.get("/fleet")
def search_fleet(
    services: Shared,
    who: Reader,
    q: Annotated[str, Query(max_length=200, description="Parts of a name, label, profile or model")] = "",
    health: Health | None = None,
    profile: Annotated[str, Query(max_length=64)] = "",
    model: Annotated[str, Query(max_length=130, description="Name and version")] = "",
    degraded: Annotated[bool, Query(description="Not on the profile's first choice")] = False,
    sort: Annotated[str, Query(pattern=f"^({_NAMES})$")] = "urgency",
    page: Annotated[int, Query(ge=1, le=10**6)] = 1,
    size: Annotated[int, Query(ge=1, le=max(SIZES))] = 50,
) -> dict[str, Any]:
    """One page of devices with how each is doing and why, the most urgent first."""
    wanted = Wanted(q, health or "", profile, model, degraded, sort, page, size)
    with services.store.read() as connection:
        found = find(connection, wanted)
        total = sum(by_health(connection).values())
    hidden = ("words", "rank", "due_ms")
    return {
        "devices": [
            {**{k: v for k, v in row._mapping.items() if k not in hidden}, "degraded": bool(row.degraded)}
            for row in found.rows
        ],
        "matching": found.matching,
        "more": found.more,
        "total": total,
        "page": found.page,
        "pages": found.pages,
    }
