"""The pages of models: every version, one in full, two beside each other, search by digest, and recall."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request, Response
from sqlalchemy import Connection, func, select

from edge_contracts.manifest import Manifest
from edge_fleet.api.access import Shared
from edge_fleet.auth import Right
from edge_fleet.console import session
from edge_fleet.console.page import Text, Visitor, answer, go, make_router, require
from edge_fleet.errors import NotFound, RequestInvalid
from edge_fleet.lineage import find as digests
from edge_fleet.lineage import report, rows, stages
from edge_fleet.lineage.find import manifest_of
from edge_fleet.lineage.overview import Overview, overview, page
from edge_fleet.lineage.runs import Run
from edge_fleet.lineage.targets import Target, targets_of
from edge_fleet.schema import bundles, releases
from edge_fleet.standings import find as standing

router = make_router()

PAGE = 20
CHOICES = 500  # versions that can be chosen from
RUNS = 200  # of a recall, shown; the proof has all
EVENTS = {
    "approve": stages.Event.APPROVED,
    "retire": stages.Event.RETIRED,
    "reopen": stages.Event.REOPENED,
}
Digest = Annotated[str, Query(max_length=140)]
Named = Annotated[str, Query(max_length=140)]


@router.get("/console/models")
def models(
    services: Shared,
    visitor: Visitor,
    q: Annotated[str, Query(max_length=130)] = "",
    page: Annotated[int, Query(ge=1, le=10**6)] = 1,
) -> Response:
    """Every version, the newest first."""
    with services.store.read() as connection:
        values = models_page(connection, q, page)
    return answer(visitor, "models.html", services.now_ms(), **values)


@router.get("/console/models/compare")
def compare(services: Shared, visitor: Visitor, before: Named = "", after: Named = "") -> Response:
    """A version beside another."""
    with services.store.read() as connection:
        found = rows.compared(connection, before, after) if before and after else None
        known = _names(connection)
    return answer(
        visitor, "compare.html", services.now_ms(), before=before, after=after, found=found, known=known
    )


@router.get("/console/models/find")
def search(services: Shared, visitor: Visitor, q: Digest = "") -> Response:
    """Everything whose digest begins so."""
    hits, missing = [], ""
    with services.store.read() as connection:
        if q.strip():
            try:
                hits = digests.find(connection, q)
            except (NotFound, RequestInvalid) as error:
                missing = str(error)
    return answer(visitor, "digests.html", services.now_ms(), q=q, hits=hits, missing=missing)


@router.get("/console/models/recall")
def recall(services: Shared, visitor: Visitor, what: Digest = "") -> Response:
    """Which devices ran something, since when, and how often it answered."""
    targets: list[Target] = []
    seen = Overview()
    first: tuple[Run, ...] = ()
    missing = ""
    with services.store.read() as connection:
        if what.strip():
            try:
                targets = targets_of(connection, what.strip())
                seen = overview(connection, targets)
                first = page(connection, targets, seen, RUNS).runs[:RUNS]
            except (NotFound, RequestInvalid) as error:
                missing = str(error)
        named = _named(connection, {target.bundle for target in targets})
    return answer(
        visitor,
        "recall.html",
        services.now_ms(),
        what=what,
        targets=targets,
        named=named,
        shown=first,
        count=seen.runs,
        devices=seen.devices,
        predictions=seen.predictions,
        running=seen.running,
        missing=missing,
    )


@router.get("/console/models/{release}")
def model(release: str, services: Shared, visitor: Visitor) -> Response:
    """One version in full."""
    with services.store.read() as connection:
        values = model_page(connection, release)
    possible = [
        name for name, event in EVENTS.items() if (values["release"]["stage"], event) in stages.TRANSITIONS
    ]
    has_report = report.report_path(services.home, values["release"]["counter"]).is_file()
    return answer(
        visitor, "model.html", services.now_ms(), **values, possible=possible, has_report=has_report
    )


@router.get("/console/models/{release}/report")
def build_report(release: str, services: Shared, visitor: Visitor) -> Response:
    """The report of the build as it was kept: a page by itself, of which a browser runs nothing."""
    with services.store.read() as connection:
        counter = digests.require_release(connection, release)
    content = report.read(services.home, counter, release)
    return Response(content, media_type="text/html; charset=utf-8", headers=report.HEADERS)


@router.post("/console/models/{release}/{step}")
def change_stage(
    release: str,
    step: str,
    request: Request,
    services: Shared,
    visitor: Visitor,
    csrf: Text = "",
    why: Text = "",
) -> Response:
    """Approve, retire or reopen a version."""
    session.require_form(request, visitor, csrf)
    require(visitor, Right.APPROVE)
    if step not in EVENTS:
        raise NotFound(f"no such step {step!r:.40}; possible: {', '.join(EVENTS)}")
    with services.store.write() as connection:
        counter = digests.require_release(connection, release)
        stages.note(connection, counter, EVENTS[step], visitor.who.name, services.now_ms(), why)
    services.bus.publish("release", counter=counter)
    return go(f"/models/{release}")


def models_page(connection: Connection, text: str, page: int) -> dict[str, Any]:
    """Versions whose name or number has this text in it, a page of them."""
    own = releases.c
    query = select(own.counter, own.name, own.version, own.created_ms)
    counted = select(func.count()).select_from(releases)
    for word in text.split():
        fits = own.name.icontains(word, autoescape=True) | own.version.icontains(word, autoescape=True)
        query, counted = query.where(fits), counted.where(fits)
    matching = connection.execute(counted).scalar_one()
    pages = max(1, -(-matching // PAGE))
    page = min(page, pages)
    found = connection.execute(query.order_by(own.counter.desc()).limit(PAGE).offset((page - 1) * PAGE)).all()
    known = stages.stages_of(connection)
    held: dict[int, list[dict[str, Any]]] = {}
    made = connection.execute(
        select(bundles.c.counter, bundles.c.digest, bundles.c.profile, bundles.c.manifest)
        .where(bundles.c.counter.in_([row.counter for row in found]))
        .order_by(bundles.c.profile)
    ).all()
    running = standing.by_bundle(connection, [row.digest for row in made])
    for row in made:
        held.setdefault(row.counter, []).append(
            {
                "digest": row.digest,
                "profile": row.profile,
                "manifest": manifest_of(row.manifest),
                "running": running.get(row.digest, 0),
            }
        )
    return {
        "releases": [
            {
                "counter": row.counter,
                "name": row.name,
                "version": row.version,
                "created_ms": row.created_ms,
                "stage": known.get(row.counter, stages.Stage.CANDIDATE),
                "bundles": held.get(row.counter, []),
                "running": sum(bundle["running"] for bundle in held.get(row.counter, [])),
            }
            for row in found
        ],
        "q": text,
        "page": page,
        "pages": pages,
        "matching": matching,
    }


def model_page(connection: Connection, text: str) -> dict[str, Any]:
    """Everything that is known of a version.

    Raises:
        NotFound: It has not been published.
    """
    release = rows.shown(connection, text, devices=False)
    wanted = [bundle["digest"] for bundle in release["bundles"]]
    manifests: dict[str, Manifest] = {
        row.digest: manifest_of(row.manifest)
        for row in connection.execute(
            select(bundles.c.digest, bundles.c.manifest).where(bundles.c.digest.in_(wanted))
        )
    }
    earlier = connection.execute(
        select(releases.c.name, releases.c.version)
        .where(releases.c.name == release["name"], releases.c.counter < release["counter"])
        .order_by(releases.c.counter.desc())
        .limit(1)
    ).one_or_none()
    return {
        "release": release,
        "named": f"{release['name']}@{release['version']}",
        "manifests": manifests,
        "running": standing.by_bundle(connection, wanted),
        "earlier": f"{earlier.name}@{earlier.version}" if earlier else "",
    }


def _names(connection: Connection) -> list[str]:
    found = connection.execute(
        select(releases.c.name, releases.c.version).order_by(releases.c.counter.desc()).limit(CHOICES)
    )
    return [f"{row.name}@{row.version}" for row in found]


def _named(connection: Connection, wanted: set[str]) -> dict[str, str]:
    """Name, version and profile of bundles, by digest."""
    found = connection.execute(
        select(bundles.c.digest, bundles.c.profile, releases.c.name, releases.c.version)
        .join(releases, releases.c.counter == bundles.c.counter)
        .where(bundles.c.digest.in_(list(wanted)))
    )
    return {row.digest: f"{row.name} {row.version} for {row.profile}" for row in found}
