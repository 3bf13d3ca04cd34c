"""The page on which a rollout is planned: a form for the common canary, the plan as YAML, a check, a dry run.

The form only writes YAML: there is one way from a plan to a rollout, and what is started is what is read.
"""

from __future__ import annotations

import tomllib
from typing import Annotated, Any, Literal

from fastapi import Depends, Form, Query, Response
from markupsafe import Markup

from edge_contracts.errors import ContractError, FormatInvalid
from edge_fleet.api import simulation
from edge_fleet.api.access import Shared
from edge_fleet.auth import Right
from edge_fleet.console.forms import doer, looker, tell
from edge_fleet.console.page import Text, go, make_router
from edge_fleet.console.rollouts import shown
from edge_fleet.console.session import Session
from edge_fleet.errors import FleetError, RequestInvalid
from edge_fleet.gates import GATES
from edge_fleet.registry import listed as release_rows
from edge_fleet.rollouts import rows
from edge_fleet.rollouts.faults import Fault, every
from edge_fleet.rollouts.operator import Operator
from edge_fleet.rollouts.plan import FORMAT, Kind, OnFailure, RolloutPlan, parse_plan
from edge_fleet.rollouts.plan_file import MAX_BYTES, read_plan_text
from edge_fleet.rollouts.plan_text import described
from edge_fleet.rollouts.preview import Preview, preview
from edge_fleet.rollouts.template import again, template, written
from edge_fleet.services import Server
from edge_fleet.simulation import defects
from edge_fleet.simulation.description import FleetDescription, parse_fleet
from edge_fleet.simulation.jobs import DryRun, Request
from edge_fleet.simulation.plot import svg
from edge_fleet.simulation.report import UNKNOWN, duration, label, most_frequent, notes, size

router = make_router()

Planner = Annotated[Session, Depends(looker(Right.OPERATE, "rollouts"))]
Doer = Annotated[Session, Depends(doer(Right.OPERATE, "rollouts"))]
WHAT = "plan"
CANARY = {"canary": "5%", "bake_min": "30", "select": "all", "on_failure": str(OnFailure.ROLLBACK_ROLLOUT)}


@router.get("/console/rollouts/new")
def plan_page(
    services: Shared,
    visitor: Planner,
    release: str = Query("", max_length=130),
    like: str = Query("", max_length=64),
    kind: Kind | None = None,
    dry_run: str = Query("", max_length=40),
) -> Response:
    """The page, empty, with the template, with the plan of another rollout, or with a dry run."""
    if dry_run:
        found = services.dry_runs.get(dry_run)
        return _page(services, visitor, found.request.text, dry_run=found)
    text = ""
    if like:
        with services.store.read() as connection:
            text = again(rows.load(connection, like).plan)
    elif kind is not None:
        text = template(release or "NAME@VERSION", kind)
    return _page(services, visitor, text, form={"release": release})


@router.post("/console/rollouts/new/canary")
def canary(
    services: Shared,
    visitor: Doer,
    release: Text = "",
    select: Text = "",
    canary: Text = "",
    bake_min: Text = "",
    on_failure: Text = "",
) -> Response:
    """Write the plan of a canary as YAML; nothing is made yet."""
    form = {
        "release": release,
        "select": select,
        "canary": canary,
        "bake_min": bake_min,
        "on_failure": on_failure,
    }
    wrong: dict[str, str] = {}
    try:
        bake_s = 60 * float(bake_min)
    except ValueError:
        wrong["bake_min"] = f"{bake_min!r:.40} is not a number of minutes"
        bake_s = 0.0
    plan: dict[str, Any] = {
        "format": FORMAT,
        "release": release,
        "kind": str(Kind.CANARY),
        "select": select or "all",
        "stages": [canary, "100%"],
        "bake_s": bake_s,
        "on_failure": on_failure,
    }
    names = {"release": "release", "select": "select", "stages": "canary", "bake_s": "bake_min"}
    for fault in every(RolloutPlan, plan, {}):
        wrong.setdefault(names.get(fault.field.split(".")[0], fault.field), fault.told)
    if wrong:
        return _page(services, visitor, "", form=form, wrong=wrong, status=400)
    return _page(services, visitor, written(plan), form=form, checked=True)


@router.get("/console/rollouts/new/canary")
def canary_again(visitor: Planner) -> Response:
    """The empty form again: nothing is kept of one that was sent."""
    return go("/rollouts/new")


@router.post("/console/rollouts/new")
def from_text(
    services: Shared,
    visitor: Doer,
    plan: Annotated[str, Form(max_length=MAX_BYTES)] = "",
    do: Annotated[Literal["check", "simulate", "draft", "start"], Form()] = "check",
    defect: Annotated[defects.Kind, Form()] = defects.Kind.ERRORS,
    sizes: Text = "",
    on: Text = "1",
    runs: Text = "20",
    fleet: Annotated[str, Form(max_length=MAX_BYTES)] = "",
) -> Response:
    """Check a plan, try it in a dry run, make it a draft, or make and start it."""
    plan = plan.replace("\r\n", "\n")
    try:
        document = read_plan_text(plan.encode(), WHAT)
    except FormatInvalid as error:
        return _page(services, visitor, plan, faults=(Fault(None, "", str(error)),), status=400)
    faults = every(RolloutPlan, document.raw, document.lines)
    if faults:
        return _page(services, visitor, plan, faults=faults, status=400)
    asked = {"defect": str(defect), "sizes": sizes, "on": on, "runs": runs, "fleet": fleet}
    try:
        parsed = parse_plan(document.raw, document.what, document.lines)
        if do == "check":
            return _page(services, visitor, plan, checked=True)
        if do == "simulate":
            request = Request(
                parsed,
                _fleet(services, fleet, parsed),
                defect,
                _numbers(sizes),
                _number(on),
                int(_number(runs)),
                0,
                plan,
            )
            return go(f"/rollouts/new?dry_run={simulation.begin(services, request, visitor.who.name)}")
        return _made(services, visitor, parsed, do == "start")
    except (FleetError, ContractError) as error:
        status = error.status if isinstance(error, FleetError) else 400
        return _page(services, visitor, plan, asked=asked, error=str(error), status=status)


def _made(services: Server, visitor: Session, plan: RolloutPlan, start: bool) -> Response:
    """The draft, started or not; one that cannot start stays a draft, and its page says why.

    Raises:
        Conflict: It is a rehearsal of nobody, and was not made.
    """
    operator = Operator(services)
    made = operator.create(plan, visitor.who.name, at_once=start)
    if start:
        try:
            operator.start(made, visitor.who.name)
        except FleetError as error:
            return shown(
                services, visitor, made, status=error.status, error=f"it was made, but not started: {error}"
            )
    return go(f"/rollouts/{made}")


def _page(
    services: Server,
    visitor: Session,
    text: str,
    form: dict[str, str] | None = None,
    wrong: dict[str, str] | None = None,
    faults: tuple[Fault, ...] = (),
    checked: bool = False,
    dry_run: DryRun | None = None,
    asked: dict[str, str] | None = None,
    status: int = 200,
    error: str = "",
) -> Response:
    """The page.

    Args:
        text: The plan so far.
        form: What stands in the form of the canary.
        wrong: What is wrong with it, by field.
        checked: The plan has no fault: it is laid beside the fleet.
        asked: What stands in the form of the dry run.
    """
    now_ms = services.now_ms()
    found: Preview | None = None
    plan: RolloutPlan | None = None
    with services.store.read() as connection:
        known = [f"{row['name']}@{row['version']}" for row in release_rows(connection)]
        if checked:
            plan = parse_plan(read_plan_text(text.encode(), WHAT).raw)
            try:
                found = preview(connection, plan, visitor.who.name, now_ms)
            except FleetError as refused:
                status, error = refused.status, str(refused)
    standing = {"defect": "errors", "sizes": "", "on": "1", "runs": "20", "fleet": ""}
    if dry_run is not None:
        standing |= _asked_of(dry_run)
    return tell(
        visitor,
        "plan.html",
        now_ms,
        status,
        error,
        text=text,
        known=known,
        form={
            **CANARY,
            "release": known[0] if known else "",
            **{k: v for k, v in (form or {}).items() if v},
        },
        wrong=wrong or {},
        faults=faults,
        preview=found,
        lines=described(plan) if plan is not None else [],
        plan=plan,
        dry_run=dry_run,
        study=None if dry_run is None else _study(dry_run),
        asked={**standing, **(asked or {})},
        defects=list(defects.Kind),
        kinds=list(Kind),
        gates=GATES,
        on_failure=list(OnFailure),
    )


def _study(found: DryRun) -> dict[str, Any] | None:
    """A dry run's outcome as a table and a picture."""
    study = found.study
    if study is None:
        return None
    good, *bad = study.rows
    stages = ", ".join(str(stage) for stage in found.request.plan.stages)
    title = f"{found.request.plan.release} in stages {stages}"
    return {
        "devices": study.devices,
        "good": good,
        "false_halt_most": study.false_halt_most,
        "left_out": study.left_out,
        "notes": notes(study),
        "expires": any(row.expired for row in study.rows),
        "unknown": UNKNOWN if study.without is None else "",
        "without": most_frequent(study.without or {}),
        "ended": duration(good.ended_s),
        "sent": size(good.sent_bytes),
        "rows": [(label(row), row, duration(row.ended_s) if row.halted else "-") for row in bad],
        # what it writes is escaped there
        "plot": Markup(svg(study, title)),
    }


def _asked_of(found: DryRun) -> dict[str, str]:
    request = found.request
    return {
        "defect": str(request.kind),
        "sizes": ", ".join(f"{one:g}" for one in request.sizes),
        "on": f"{request.on:g}",
        "runs": str(request.runs),
    }


def _fleet(services: Server, text: str, plan: RolloutPlan) -> FleetDescription:
    """The fleet of a dry run: as it was recorded, or as somebody described it in TOML."""
    if not text.strip():
        return simulation.recorded(services, plan)
    try:
        raw = tomllib.loads(text.replace("\r\n", "\n"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RequestInvalid(f"the description of the fleet is not TOML: {error}") from None
    return parse_fleet(raw, "the description of the fleet")


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(_number(part) for part in text.split(",") if part.strip())


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise RequestInvalid(f"{text.strip()!r:.40} is not a number") from None
