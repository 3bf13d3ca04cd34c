"""Dry runs of rollouts over HTTP: the recorded fleet that they read, and making one."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from typing_extensions import TypedDict

from edge_fleet.api.access import Operator, Reader, Shared
from edge_fleet.api.answers import Router
from edge_fleet.errors import Conflict
from edge_fleet.model import Frozen
from edge_fleet.rollouts.plan import RolloutPlan, parse_plan
from edge_fleet.services import Server
from edge_fleet.simulation.defects import Kind
from edge_fleet.simulation.description import FleetDescription, parse_fleet
from edge_fleet.simulation.jobs import MOST_RUNS, MOST_SIZES, DryRunAnswer, Request, as_dict
from edge_fleet.simulation.recorded import NothingRecorded, describe

router = Router(prefix="/api/v1", tags=["rollouts"])


class DryRunRequest(Frozen):
    """A plan, and what to try it against.

    Args:
        fleet: In the format edgefleet.fleet/1; None: the fleet as it was recorded, those of its devices that
            would get the release.
        sizes: Of the defect; none for the usual ones.
        on: Share of the devices that show it.
        runs: Of each size, and of a good release.
    """

    plan: dict[str, Any]
    fleet: dict[str, Any] | None = None
    defect: Kind = Kind.ERRORS
    sizes: tuple[float, ...] = Field(default=(), max_length=MOST_SIZES)
    on: float = Field(default=1.0, gt=0, le=1)
    runs: int = Field(default=20, ge=1, le=MOST_RUNS)
    seed: int = Field(default=0, ge=0, le=2**63 - 1)


class PlanRequest(Frozen):
    """A plan whose devices are asked for, in the format edgefleet.rollout/1."""

    plan: dict[str, Any]


class DryRunBegun(TypedDict):
    """A dry run that is at work.

    Args:
        id: To ask for it by.
    """

    id: str


@router.post("/dry-runs", status_code=202)
def begin_dry_run(body: DryRunRequest, services: Shared, who: Operator) -> DryRunBegun:
    """Replay a plan some times against the fleet; the server makes one at a time."""
    plan = parse_plan(body.plan)
    fleet = recorded(services, plan) if body.fleet is None else parse_fleet(body.fleet)
    request = Request(plan, fleet, body.defect, body.sizes, body.on, body.runs, body.seed)
    return {"id": begin(services, request, who.name)}


@router.get("/dry-runs/{dry_run}")
def show_dry_run(dry_run: str, services: Shared, who: Reader) -> DryRunAnswer:
    """What came of it; `study` and `took_s` are null while it is at work."""
    return as_dict(services.dry_runs.get(dry_run))


def begin(services: Server, request: Request, actor: str) -> str:
    """Start a dry run whose end is news; its id."""
    return services.dry_runs.begin(
        request, actor, services.now_ms(), lambda name: services.bus.publish("rollout", dry_run=name)
    )


@router.get("/fleet/description")
def fleet_description(services: Shared, who: Reader) -> FleetDescription:
    """The enrolled devices in figures, by their last day."""
    return recorded(services)


@router.post("/fleet/description")
def plan_description(body: PlanRequest, services: Shared, who: Reader) -> FleetDescription:
    """The devices that would get a plan's release, and why others would not; stores nothing.

    It is what `rollout plan --simulate --recorded` reads. Without `without` the release is not published, and
    all devices are told.
    """
    return recorded(services, parse_plan(body.plan))


def recorded(services: Server, plan: RolloutPlan | None = None) -> FleetDescription:
    """The fleet as the server has seen it for a day, or those devices that would get a plan's release.

    Raises:
        Conflict: Nothing has reported, or nobody would get it.
    """
    try:
        with services.store.read() as connection:
            return describe(connection, services.now_ms(), plan)
    except NothingRecorded as error:
        raise Conflict(str(error)) from None
