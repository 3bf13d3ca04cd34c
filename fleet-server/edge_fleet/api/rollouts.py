"""Rollouts over HTTP: planning, starting, watching and stopping them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import Field

from edge_contracts.model import Frozen
from edge_fleet.api.access import Operator, Reader, Shared
from edge_fleet.errors import Conflict
from edge_fleet.gates import GATES
from edge_fleet.rollouts.conductor import Conductor
from edge_fleet.rollouts.plan import parse_plan
from edge_fleet.rollouts.view import listed, shown
from edge_fleet.services import Server

router = APIRouter(prefix="/api/v1", tags=["rollouts"])


class RolloutRequest(Frozen):
    """A plan, and whether to start it at once.

    Args:
        plan: In the format edgefleet.rollout/1; faults in it are named with the nearest right word.
    """

    plan: dict[str, Any]
    start: bool = False


class RollbackRequest(Frozen):
    """Why everything goes back; kept with the rollout."""

    why: str = Field(default="", max_length=500)


@router.get("/gates")
def list_gates(who: Reader) -> list[dict[str, Any]]:
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
def list_rollouts(services: Shared, who: Reader) -> list[dict[str, Any]]:
    """Every rollout, newest first."""
    with services.store.read() as connection:
        return listed(connection)


@router.get("/rollouts/{rollout}")
def show_rollout(rollout: str, services: Shared, who: Reader) -> dict[str, Any]:
    """One rollout: stages, devices, what the gates say and why, who is left out and why."""
    return _shown(services, rollout)


@router.post("/rollouts", status_code=201)
def create_rollout(body: RolloutRequest, services: Shared, who: Operator) -> dict[str, Any]:
    """Make a rollout of a published release; it is a draft until it is started, also when that fails."""
    conductor = Conductor(services)
    rollout = conductor.create(parse_plan(body.plan), who.name)
    if body.start:
        try:
            conductor.start(rollout, who.name)
        except Conflict as error:
            raise Conflict(f"{rollout} was made, but not started: {error}") from None
    return _shown(services, rollout)


@router.post("/rollouts/{rollout}/start")
def start_rollout(rollout: str, services: Shared, who: Operator) -> dict[str, Any]:
    """Begin the first stage."""
    Conductor(services).start(rollout, who.name)
    return _shown(services, rollout)


@router.post("/rollouts/{rollout}/pause")
def pause_rollout(rollout: str, services: Shared, who: Operator) -> dict[str, Any]:
    """Begin no further stage; a failing gate still undoes the rollout."""
    Conductor(services).pause(rollout, who.name)
    return _shown(services, rollout)


@router.post("/rollouts/{rollout}/resume")
def resume_rollout(rollout: str, services: Shared, who: Operator) -> dict[str, Any]:
    """Go on; the stage bakes anew."""
    Conductor(services).resume(rollout, who.name)
    return _shown(services, rollout)


@router.post("/rollouts/{rollout}/abort")
def abort_rollout(rollout: str, services: Shared, who: Operator) -> dict[str, Any]:
    """Stop for good; devices keep what they have."""
    Conductor(services).abort(rollout, who.name)
    return _shown(services, rollout)


@router.post("/rollouts/{rollout}/rollback")
def roll_back(
    rollout: str, services: Shared, who: Operator, body: RollbackRequest | None = None
) -> dict[str, Any]:
    """Send every device back to what it had."""
    Conductor(services).recall(rollout, who.name, body.why if body else "")
    return _shown(services, rollout)


def _shown(services: Server, rollout: str) -> dict[str, Any]:
    with services.store.read() as connection:
        return shown(connection, rollout)
