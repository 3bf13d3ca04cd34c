"""Rollouts over HTTP: planning, starting, watching and stopping them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

from fastapi import Query
from pydantic import Field
from typing_extensions import TypedDict

from edge_fleet.api.access import Operator, Reader, Shared
from edge_fleet.api.answers import Router
from edge_fleet.errors import Conflict
from edge_fleet.gates import GATES
from edge_fleet.model import Frozen
from edge_fleet.rollouts.answers import GateDescription, RolloutDevices, RolloutInFull, RolloutSummary
from edge_fleet.rollouts.device_orders import DeviceOrder, order_device
from edge_fleet.rollouts.operator import Operator as Orders
from edge_fleet.rollouts.plan import parse_plan
from edge_fleet.rollouts.plan_schema import plan_schema
from edge_fleet.rollouts.progress import Wanted
from edge_fleet.rollouts.seen import Seen
from edge_fleet.rollouts.standing import Standing
from edge_fleet.rollouts.view import MOST_SHOWN, devices_page, listed, shown
from edge_fleet.services import Server

router = Router(prefix="/api/v1", tags=["rollouts"])
MOST = 10_000  # devices in one answer
Limit = Annotated[int, Query(ge=0, le=MOST)]


class RolloutRequest(Frozen):
    """A plan, and whether to start it at once.

    Args:
        plan: In the format edgefleet.rollout/1; faults in it are named with the nearest right word.
    """

    plan: dict[str, Any]
    start: bool = False


class Reason(Frozen):
    """Why; kept with the rollout."""

    why: str = Field(default="", max_length=500)


# "$schema" is no name in Python
PlanSchema = TypedDict(
    "PlanSchema",
    {
        "$schema": str,
        "title": str,
        "description": str,
        "type": Literal["object"],
        "properties": dict[str, dict[str, Any]],
        "required": list[str],
        "additionalProperties": bool,
        "anyOf": list[dict[str, Any]],
        "$defs": dict[str, dict[str, Any]],
    },
)
PlanSchema.__doc__ = "A JSON Schema, 2020-12."


@router.get("/gates")
def list_gates(who: Reader) -> list[GateDescription]:
    """The gates that a plan may name, with their limits."""
    return [
        {
            "name": gate.name,
            "limit": gate.unit,
            "lowest": gate.lowest,
            "highest": gate.highest,
            "default": gate.default,
            "against": list(gate.against),
        }
        for gate in GATES.values()
    ]


@router.get("/rollouts")
def list_rollouts(services: Shared, who: Reader) -> list[RolloutSummary]:
    """Every rollout, newest first."""
    with services.store.read() as connection:
        return listed(connection)


@router.get("/rollouts/{rollout}")
def show_rollout(rollout: str, services: Shared, who: Reader, limit: Limit = MOST_SHOWN) -> RolloutInFull:
    """One rollout: stages, devices, what the gates say and why, who is left out and why.

    No more devices than `limit` are told, and no more of those left out: `next` is the cursor for
    /rollouts/ID/devices, `left_out` and `waits_for` count them all.
    """
    return _shown(services, rollout, limit)


@router.get("/rollouts/{rollout}/devices")
def show_devices(
    rollout: str,
    services: Shared,
    who: Reader,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
    after: Annotated[str, Query(max_length=100)] = "",
    page: Annotated[int, Query(ge=1, le=10**6)] = 1,
    q: Annotated[str, Query(max_length=200)] = "",
    stage: Annotated[int | None, Query(ge=1, le=100)] = None,
    standing: Standing | None = None,
) -> RolloutDevices:
    """Some devices that a rollout has reached, by stage and name: those after a cursor, or a page.

    `q` is a part of the name or of what the device said was wrong; of those that have it 10,000 are told.
    """
    wanted = Wanted(q, stage=None if stage is None else stage - 1, standing=standing)
    with services.store.read() as connection:
        return devices_page(connection, rollout, wanted, limit, after, 0 if after else (page - 1) * limit)


@router.post("/rollouts", status_code=201)
def create_rollout(
    body: RolloutRequest, services: Shared, who: Operator, limit: Limit = MOST_SHOWN
) -> RolloutInFull:
    """Make a rollout of a published release; it is a draft until it is started, also when that fails.

    A rehearsal that is to be started, and would reach nobody, is not made.
    """
    orders = Orders(services)
    rollout = orders.create(parse_plan(body.plan), who.name, at_once=body.start)
    if body.start:
        try:
            orders.start(rollout, who.name)
        except Conflict as error:
            raise Conflict(f"{rollout} was made, but not started: {error}") from None
    return _shown(services, rollout, limit)


@router.post("/rollouts/{rollout}/start")
def start_rollout(rollout: str, services: Shared, who: Operator, limit: Limit = MOST_SHOWN) -> RolloutInFull:
    """Begin the first stage, or wait for the plan's start_at."""
    Orders(services).start(rollout, who.name)
    return _shown(services, rollout, limit)


@router.post("/rollouts/{rollout}/pause")
def pause_rollout(rollout: str, services: Shared, who: Operator, limit: Limit = MOST_SHOWN) -> RolloutInFull:
    """Begin no further device; a failing gate still counts."""
    Orders(services).pause(rollout, who.name)
    return _shown(services, rollout, limit)


@router.post("/rollouts/{rollout}/resume")
def resume_rollout(rollout: str, services: Shared, who: Operator, limit: Limit = MOST_SHOWN) -> RolloutInFull:
    """Go on; the stage bakes anew."""
    Orders(services).resume(rollout, who.name)
    return _shown(services, rollout, limit)


@router.post("/rollouts/{rollout}/advance")
def advance_rollout(
    rollout: str,
    services: Shared,
    who: Operator,
    seen: Annotated[str, Query(max_length=40)] = "",
    limit: Limit = MOST_SHOWN,
) -> RolloutInFull:
    """Do not wait any longer: begin now, or take the stage as passed; never past a failed gate.

    Args:
        seen: Where it stood for who orders it, such as running.0 or running.0.shadow (phase, stage, part);
            one that stands elsewhere by now is left alone, so that two who do it at once do it once.
    """
    Orders(services, Seen.parse(seen) if seen else None).advance(rollout, who.name)
    return _shown(services, rollout, limit)


@router.post("/rollouts/{rollout}/abort")
def abort_rollout(
    rollout: str, services: Shared, who: Operator, body: Reason | None = None, limit: Limit = MOST_SHOWN
) -> RolloutInFull:
    """Stop for good; devices keep what they have."""
    Orders(services).abort(rollout, who.name, body.why if body else "")
    return _shown(services, rollout, limit)


@router.post("/rollouts/{rollout}/rollback")
def roll_back(
    rollout: str, services: Shared, who: Operator, body: Reason | None = None, limit: Limit = MOST_SHOWN
) -> RolloutInFull:
    """Send every device back to what it had."""
    Orders(services).recall(rollout, who.name, body.why if body else "")
    return _shown(services, rollout, limit)


@router.post("/rollouts/{rollout}/devices/{device}/{order}")
def order_one_device(
    rollout: str,
    device: str,
    order: DeviceOrder,
    services: Shared,
    who: Operator,
    body: Reason | None = None,
    limit: Limit = MOST_SHOWN,
) -> RolloutInFull:
    """Leave one device out, try it again, or send it back."""
    order_device(services, rollout, device, order, who.name, body.why if body else "")
    return _shown(services, rollout, limit)


@router.get("/rollout-schema")
def show_plan_schema(who: Reader) -> PlanSchema:
    """The JSON Schema of plans."""
    return cast(PlanSchema, plan_schema())


def _shown(services: Server, rollout: str, limit: int) -> RolloutInFull:
    with services.store.read() as connection:
        return shown(connection, rollout, services.now_ms(), limit)
