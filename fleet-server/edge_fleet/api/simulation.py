"""The recorded fleet over HTTP, as dry runs of rollouts read it."""

from __future__ import annotations

from fastapi import APIRouter

from edge_fleet.api.access import Reader, Shared
from edge_fleet.errors import Conflict
from edge_fleet.simulation.description import FleetDescription
from edge_fleet.simulation.recorded import NothingRecorded, describe

router = APIRouter(prefix="/api/v1", tags=["rollouts"])


@router.get("/fleet/description")
def fleet_description(services: Shared, who: Reader) -> FleetDescription:
    """The enrolled devices in figures, by their last day: what `rollout plan --simulate --recorded` reads."""
    try:
        with services.store.read() as connection:
            return describe(connection, services.now_ms())
    except NothingRecorded as error:
        raise Conflict(str(error)) from None
