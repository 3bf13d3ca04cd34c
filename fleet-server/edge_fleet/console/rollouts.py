"""The pages of rollouts: a list of them, and one with its stages, gates, devices and history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from fastapi import Query, Response
from sqlalchemy import Connection, func, select

from edge_fleet.api.access import Shared
from edge_fleet.console import charts, evidence
from edge_fleet.console.forms import PAGE, Paged, offset, tell
from edge_fleet.console.page import Visitor, answer, make_router
from edge_fleet.console.session import Session
from edge_fleet.rollouts import listing, outlook, part_words, progress, rows
from edge_fleet.rollouts.approvals import asked
from edge_fleet.rollouts.operator import Operator
from edge_fleet.rollouts.parts import Part
from edge_fleet.rollouts.phases import ENDED, RETURNING, TRANSITIONS, Event, Phase
from edge_fleet.rollouts.plan_text import described
from edge_fleet.rollouts.progress import Counts, Wanted
from edge_fleet.rollouts.rows import Rollout
from edge_fleet.rollouts.seen import Seen
from edge_fleet.rollouts.standing import Standing
from edge_fleet.rollouts.targets import Target
from edge_fleet.schema import rollout_stages, rollout_steps
from edge_fleet.services import Server

router = make_router()

# what an operator may order, the event that it is, and what carries it out
ORDERS: dict[str, tuple[Event, Callable[..., None]]] = {
    "start": (Event.STARTED, Operator.start),
    "pause": (Event.PAUSED, Operator.pause),
    "resume": (Event.RESUMED, Operator.resume),
    "advance": (Event.ADVANCED, Operator.advance),
    "abort": (Event.ABORTED, Operator.abort),
    "rollback": (Event.RECALLED, Operator.recall),
}
# those that cannot be taken back are asked for on a page of their own, with a reason
GRAVE = frozenset({"abort", "rollback"})
REASONS = 20  # why devices are without a release, the most frequent
RECENT = 30  # lines of the history that are shown unasked


@router.get("/console/rollouts")
def rollouts(
    services: Shared,
    visitor: Visitor,
    q: str = Query("", max_length=200),
    show: Literal["open", "ended", "all"] = "all",
    page: int = Query(1, ge=1, le=10**6),
) -> Response:
    """A page of rollouts."""
    wanted = listing.Wanted(listing.GROUPS[show], q)
    with services.store.read() as connection:
        total, found = listing.page(connection, wanted, offset(page), PAGE)
    return answer(
        visitor,
        "rollouts.html",
        services.now_ms(),
        rollouts=[(rollout, counts, bar(rollout.id, counts.total)) for rollout, counts in found],
        paged=Paged(page, total, {"q": q, "show": show}),
        q=q,
        show=show,
    )


@router.get("/console/rollouts/{rollout}")
def rollout(
    rollout: str,
    services: Shared,
    visitor: Visitor,
    q: str = Query("", max_length=200),
    stage: int | None = Query(None, ge=1, le=100),
    standing: Standing | None = None,
    history: Literal["", "all"] = "",
    page: int = Query(1, ge=1, le=10**6),
) -> Response:
    """One rollout."""
    wanted = Wanted(q, stage=None if stage is None else stage - 1, standing=standing)
    return shown(services, visitor, rollout, wanted, page, history == "all")


@router.get("/console/rollouts/{rollout}/left-out")
def left_out(
    rollout: str, services: Shared, visitor: Visitor, page: int = Query(1, ge=1, le=10**6)
) -> Response:
    """The selected devices that get nothing, and those that have to wait, each with the reason."""
    now_ms = services.now_ms()
    with services.store.read() as connection:
        found = rows.load(connection, rollout)
        ended = found.position.phase in ENDED | RETURNING
        reasons: list[tuple[str, int]] = []
        without: list[Target] = []
        if not ended:
            seen, without = outlook.left_out(connection, found, now_ms, offset(page), PAGE)
            reasons = seen.reasons
    return answer(
        visitor,
        "left_out.html",
        now_ms,
        rollout=found,
        ended=ended,
        targets=without,
        reasons=reasons[:REASONS],
        further=len(reasons) - REASONS,
        paged=Paged(page, sum(count for _, count in reasons), {}),
    )


def shown(
    services: Server,
    visitor: Session,
    rollout: str,
    wanted: Wanted | None = None,
    page: int = 1,
    all_history: bool = False,
    status: int = 200,
    error: str = "",
) -> Response:
    """The page of one rollout; also after an order that was refused.

    Raises:
        NotFound: There is none.
    """
    wanted = wanted or Wanted()
    now_ms = services.now_ms()
    with services.store.read() as connection:
        found = rows.load(connection, rollout)
        values = overview(connection, found, now_ms)
        found_devices = progress.page(connection, rollout, wanted, offset(page), PAGE)
        steps, history = _history(connection, rollout, found.plan.first_part, None if all_history else RECENT)
    fields = {
        "q": wanted.text,
        "stage": "" if wanted.stage is None else str(wanted.stage + 1),
        "standing": str(wanted.standing or ""),
    }
    return tell(
        visitor,
        "rollout.html",
        now_ms,
        status,
        error,
        rollout=found,
        **values,
        plan=described(found.plan),
        members=found_devices.rows,
        more=found_devices.more,
        paged=Paged(page, found_devices.total, fields),
        fields=fields,
        standings=list(Standing),
        history=history,
        steps=steps,
    )


def overview(connection: Connection, found: Rollout, now_ms: int) -> dict[str, Any]:
    """Where a rollout stands: its stages with the devices and gates of each, and what may be ordered."""
    counts = progress.count(connection, [found.id])[found.id]
    phase = found.position.phase
    safety = None
    if counts.total[Standing.GOING_BACK] or counts.total[Standing.BACK] or counts.total[Standing.NOT_BACK]:
        safety = progress.way_back(connection, found.id)
    return {
        "counts": counts,
        "silent": progress.silent(connection, found.id),
        "stages": _stages(connection, found, counts),
        "seen": str(Seen.of(found.position)),
        "possible": [
            name
            for name, (event, _) in ORDERS.items()
            # of one that is rolled back only where somebody did not come back
            if (phase, event) in TRANSITIONS
            and (phase is not Phase.ROLLED_BACK or counts.total[Standing.NOT_BACK])
            # nobody goes back from one that has reached nobody
            and (event is not Event.RECALLED or counts.reached)
        ],
        "grave": GRAVE,
        "approvals": asked(connection, found, now_ms) if phase is Phase.DRAFT else (),
        "targets": _draft(connection, found, now_ms) if phase is Phase.DRAFT else None,
        "part": _part(found, counts),
        "safety": safety,
        "ended": phase in ENDED,
        "undone": phase in RETURNING or phase is Phase.ROLLED_BACK,
    }


def bar(what: str, counts: Any, total: int | None = None) -> Any:
    """How devices stand, as one bar."""
    return charts.stacked([(word, counts[word]) for word in Standing], what, total)


def _stages(connection: Connection, found: Rollout, counts: Counts) -> list[dict[str, Any]]:
    begun = {
        row.stage: row
        for row in connection.execute(select(rollout_stages).where(rollout_stages.c.rollout == found.id))
    }
    stages = []
    for index, stage in enumerate(found.plan.stages):
        row = begun.get(index)
        own = counts.stages.get(index, Counts().total)
        verdicts = rows.verdicts_of(row) if row is not None else ()
        stages.append(
            {
                "number": index + 1,
                "share": str(stage),
                "bake_s": found.plan.bake_of(index),
                "begun_ms": None if row is None else row.begun_ms,
                "counts": own,
                "bar": bar(f"stage {index + 1}", own),
                "gates": [
                    {
                        "name": verdict.gate,
                        "outcome": verdict.outcome,
                        "reason": verdict.reason,
                        "evidence": evidence.laid_out(verdict.gate, list(verdict.evidence)),
                    }
                    for verdict in verdicts
                ],
            }
        )
    return stages


def _part(found: Rollout, counts: Counts) -> part_words.Progress | None:
    """How far the current stage is with its part; None for stages of one part, and when it is over."""
    position = found.position
    first = found.plan.first_part
    if first is Part.SWITCH or position.stage < 0 or position.phase in ENDED | RETURNING:
        return None
    states = counts.states(position.stage)
    return part_words.tell(first, position.part, position.phase, found.plan.quorum, states)


def _draft(connection: Connection, found: Rollout, now_ms: int) -> dict[str, int]:
    """Whom a draft would reach."""
    seen = outlook.outlook(connection, found, now_ms)
    return {"selected": seen.selected, "reaches": seen.reaches}


def _history(
    connection: Connection, rollout: str, first: Part, most: int | None
) -> tuple[int, list[tuple[Any, str]]]:
    """How many steps there are, and the newest, each with the part that it left its stage at."""
    own = rollout_steps.c
    here = own.rollout == rollout
    total = connection.execute(select(func.count()).select_from(rollout_steps).where(here)).scalar_one()
    query = select(rollout_steps).where(here).order_by(own.id.desc())
    rows = connection.execute(query if most is None else query.limit(most)).all()
    parts = part_words.of_steps(first, (Event(row.event) for row in reversed(rows)))
    return total, list(zip(rows, reversed(parts), strict=True))
