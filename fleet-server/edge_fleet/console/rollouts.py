"""The pages of rollouts: all of them, a form for a new one, and one with its orders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import Depends, Query, Request, Response

from edge_fleet.api.access import Shared
from edge_fleet.auth import Right
from edge_fleet.console import session
from edge_fleet.console.page import Text, Visitor, answer, go, make_router, number, read_form, require
from edge_fleet.errors import NotFound
from edge_fleet.gates import GATES
from edge_fleet.registry import listed as release_rows
from edge_fleet.rollouts.operator import Operator
from edge_fleet.rollouts.phases import TRANSITIONS, Event
from edge_fleet.rollouts.plan import FORMAT, parse_plan
from edge_fleet.rollouts.view import listed, shown

router = make_router()

# what an operator may order, the event that it is, and what carries it out
ORDERS: dict[str, tuple[Event, Callable[[Operator, str, str], None]]] = {
    "start": (Event.STARTED, Operator.start),
    "pause": (Event.PAUSED, Operator.pause),
    "resume": (Event.RESUMED, Operator.resume),
    "advance": (Event.ADVANCED, Operator.advance),
    "abort": (Event.ABORTED, Operator.abort),
    "rollback": (Event.RECALLED, Operator.recall),
}


@router.get("/console/rollouts")
def rollouts(services: Shared, visitor: Visitor) -> Response:
    """Every rollout."""
    with services.store.read() as connection:
        found = listed(connection)
    return answer(visitor, "rollouts.html", services.now_ms(), rollouts=found)


@router.get("/console/rollouts/new")
def plan_form(services: Shared, visitor: Visitor, release: str = Query("", max_length=130)) -> Response:
    """A form for a plan."""
    with services.store.read() as connection:
        known = [f"{r['name']}@{r['version']}" for r in release_rows(connection)]
    return answer(visitor, "plan.html", services.now_ms(), release=release, known=known, gates=GATES)


@router.post("/console/rollouts/new")
def make_plan(
    request: Request,
    services: Shared,
    visitor: Visitor,
    form: Annotated[dict[str, str], Depends(read_form)],
) -> Response:
    """Make a rollout from the form and start it."""
    session.require_form(request, visitor, form.get("csrf", ""))
    require(visitor, Right.OPERATE)
    gates = {name: number(form.get(f"gate-{name}", ""), name) for name in GATES}
    numbers = {name: number(form.get(name, ""), name) for name in ("bake_s", "quorum", "silence_s")}
    plan = parse_plan(
        {
            "format": FORMAT,
            "release": form.get("release", ""),
            "select": form.get("select", ""),
            "stages": [part.strip() for part in form.get("stages", "").split(",")],
            **{name: found for name, found in numbers.items() if found is not None},
            "gates": {name: limit for name, limit in gates.items() if limit is not None},
        },
        "form",
    )
    operator = Operator(services)
    rollout = operator.create(plan, visitor.who.name)
    operator.start(rollout, visitor.who.name)
    return go(f"/rollouts/{rollout}")


@router.get("/console/rollouts/{rollout}")
def rollout(rollout: str, services: Shared, visitor: Visitor) -> Response:
    """One rollout."""
    with services.store.read() as connection:
        found = shown(connection, rollout, services.now_ms())
    possible = [name for name, (event, _) in ORDERS.items() if (found["phase"], event) in TRANSITIONS]
    return answer(visitor, "rollout.html", services.now_ms(), rollout=found, possible=possible)


@router.post("/console/rollouts/{rollout}/{order}")
def order(
    rollout: str, order: str, request: Request, services: Shared, visitor: Visitor, csrf: Text = ""
) -> Response:
    """Start, pause, resume, abort or roll back."""
    session.require_form(request, visitor, csrf)
    require(visitor, Right.OPERATE)
    if order not in ORDERS:
        raise NotFound(f"no such order {order!r:.40}; possible: {', '.join(ORDERS)}")
    ORDERS[order][1](Operator(services), rollout, visitor.who.name)
    return go(f"/rollouts/{rollout}")
