"""The fleet over HTTP: devices searched, narrowed, sorted and paged by the database."""

from __future__ import annotations

from typing import Annotated, Any, cast

from fastapi import Query
from sqlalchemy import Row
from typing_extensions import TypedDict

from edge_fleet.api.access import Reader, Shared
from edge_fleet.api.answers import Router
from edge_fleet.model import Instant
from edge_fleet.standings.condition import Health
from edge_fleet.standings.find import SIZES, SORTS, Wanted, by_health, find

router = Router(prefix="/api/v1", tags=["devices"])

_NAMES = "|".join(SORTS)


class DeviceStanding(TypedDict):
    """How a device is doing, as it was last looked at.

    Args:
        reason: Why `health` is what it is, in one line.
        since_ms: When this was found first.
        profile: The nearest.
        model: Name and version of what it runs; "" for nothing.
        bundle: The same by its digest.
        degraded: Not on its profile's first choice.
        fallback: Why not; "" when it is.
        inferences: Answered in the last minutes before `judged_ms`.
        faults: Failed and not let in, in the same minutes.
        p95_ms: Of single inferences, milliseconds; null when none was timed.
        distance: Of the number furthest from its baseline, as docs/drift.md has it; null without figures.
        furthest: The name of that number; "" without figures.
        last_seen_ms: Of the last verified message; null before the first.
        revoked_ms: Null while it is in the fleet.
    """

    device: str
    health: Health
    reason: str
    since_ms: Instant
    profile: str
    model: str
    bundle: str
    degraded: bool
    fallback: str
    inferences: int
    faults: int
    p95_ms: float | None
    distance: float | None
    furthest: str
    judged_ms: Instant
    labels: dict[str, str]
    last_seen_ms: Instant | None
    revoked_ms: Instant | None


class FleetPage(TypedDict):
    """Some devices of those that fit.

    Args:
        matching: How many fit, at most 10,000.
        more: Whether there are more than that.
        total: Devices in all.
        page: This one, from 1.
        pages: By `matching`.
    """

    devices: list[DeviceStanding]
    matching: int
    more: bool
    total: int
    page: int
    pages: int


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
) -> FleetPage:
    """One page of devices with how each is doing and why, the most urgent first."""
    wanted = Wanted(q, health or "", profile, model, degraded, sort, page, size)
    with services.store.read() as connection:
        found = find(connection, wanted)
        total = sum(by_health(connection).values())
    return {
        "devices": [_standing(row) for row in found.rows],
        "matching": found.matching,
        "more": found.more,
        "total": total,
        "page": found.page,
        "pages": found.pages,
    }


def _standing(row: Row[Any]) -> DeviceStanding:
    hidden = ("words", "rank", "due_ms")
    shown = {name: value for name, value in row._mapping.items() if name not in hidden}
    return cast("DeviceStanding", {**shown, "degraded": bool(row.degraded)})
