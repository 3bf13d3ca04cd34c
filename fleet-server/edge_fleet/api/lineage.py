"""Lineage over HTTP: a release in full, comparing, search by digest, stages, recall, who gets what."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated

from fastapi import File, Query, Response, UploadFile
from fastapi.responses import StreamingResponse
from pydantic import Field
from typing_extensions import TypedDict

from edge_fleet.api.access import Admin, Approver, Operator, Publisher, Reader, Shared
from edge_fleet.api.answers import Router
from edge_fleet.api.openapi import gives
from edge_fleet.lineage import find, report, rows, stages
from edge_fleet.lineage.answers import ReleaseInFull, ReleasesCompared
from edge_fleet.lineage.overview import overview, page
from edge_fleet.lineage.proof import proof
from edge_fleet.lineage.resolution import Need, Resolution
from edge_fleet.lineage.runs import Run
from edge_fleet.lineage.targets import Target, targets_of
from edge_fleet.model import Frozen
from edge_fleet.rollouts import withdrawing
from edge_fleet.services import Server

router = Router(prefix="/api/v1/lineage", tags=["lineage"])

What = Annotated[
    str, Query(min_length=1, max_length=140, description="A release or a digest, or its beginning")
]
Named = Annotated[str, Query(min_length=1, max_length=140, description="Counter or NAME@VERSION")]
Version = Annotated[str, Field(max_length=64, pattern=r"^([0-9][\x21-\x7e]*)?$")]


class StageRequest(Frozen):
    """What happens to a release, and why; kept for ever.

    Args:
        release: Counter or NAME@VERSION.
    """

    release: str = Field(min_length=1, max_length=140)
    why: str = Field(default="", max_length=500)


class PolicyRequest(Frozen):
    """What this fleet asks of a release before a rollout of it may begin."""

    policy: stages.Policy


class NeedRequest(Frozen):
    """Versions of some software that artifacts of a runtime need."""

    runtime: str = Field(min_length=1, max_length=64)
    software: str = Field(min_length=1, max_length=64)
    at_least: Version = ""
    below: Version = ""


class NeedsRequest(Frozen):
    """All of them: they replace those of before."""

    needs: tuple[NeedRequest, ...] = Field(max_length=64)


class Recall(TypedDict):
    """Who ran what is recalled.

    Args:
        what: As it was asked for.
        devices: How many in all.
        predictions: Of all runs; at least, where a run has lost records.
        running: How many runs still go on.
        runs: Of the devices that are told, by device.
        next: For `after`: the last device that is told; null when no others come.
    """

    what: str
    targets: list[Target]
    devices: int
    predictions: int
    running: int
    runs: list[Run]
    next: str | None


class ReportKept(TypedDict):
    """A report that lies with its release.

    Args:
        release: As it was named.
        digest: Of the file.
    """

    release: str
    digest: str


class ReleasePolicy(TypedDict):
    """What this fleet asks of a release before a rollout of it may begin."""

    policy: stages.Policy


@router.get("/release")
def show(services: Shared, who: Reader, release: Named) -> ReleaseInFull:
    """A release with stage, history, evaluation, provenance, and what devices measured of each bundle."""
    with services.store.read() as connection:
        return rows.shown(connection, release)


@router.get("/compare")
def compare(services: Shared, who: Reader, before: Named, after: Named) -> ReleasesCompared:
    """What changed from one release to another, profile by profile."""
    with services.store.read() as connection:
        return rows.compared(connection, before, after)


@router.get("/find")
def search(services: Shared, who: Reader, digest: What) -> list[find.Hit]:
    """Everything whose digest begins so: bundle, archive, artifact, source, calibration, labels."""
    with services.store.read() as connection:
        return list(find.find(connection, digest))


@router.get("/explain")
def explain(
    services: Shared,
    who: Reader,
    release: Named,
    device: Annotated[str | None, Query(max_length=64)] = None,
    permit_downgrade: bool = False,
) -> list[Resolution]:
    """What every device, or one, gets of a release, and why; or why nothing."""
    with services.store.read() as connection:
        return rows.explained(connection, release, device, permit_downgrade)


@router.get("/recall")
def recalled(
    services: Shared,
    who: Reader,
    what: What,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    after: Annotated[str, Query(max_length=64)] = "",
) -> Recall:
    """Which devices ran it, since when, until when, how many predictions: from signed telemetry alone.

    No more devices than `limit` are told, each with all of its runs; the other figures are of all.
    """
    with services.store.read() as connection:
        targets = targets_of(connection, what)
        seen = overview(connection, targets)
        told = page(connection, targets, seen, limit, after)
    return {
        "what": what,
        "targets": targets,
        "devices": seen.devices,
        "predictions": seen.predictions,
        "running": seen.running,
        "runs": list(told.runs),
        "next": told.next,
    }


@router.get("/recall/proof", **gives("application/x-ndjson"))
def recall_proof(services: Shared, who: Reader, what: What) -> StreamingResponse:
    """The signed envelopes that a recall rests on, one JSON object a line."""
    with services.store.read() as connection:
        targets = targets_of(connection, what)
    return StreamingResponse(_proof(services, targets), media_type="application/x-ndjson")


def _proof(services: Server, targets: list[Target]) -> Iterator[str]:
    after = 0
    while not services.bus.closed:
        with services.store.read() as connection:
            page = list(proof(connection, services.config.fleet, targets, after))
        if not page:
            return
        after = page[-1]["id"]
        yield "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in page)


@router.post("/report")
def keep_report(
    upload: Annotated[UploadFile, File(alias="report")], services: Shared, who: Publisher, release: Named
) -> ReportKept:
    """Keep the report.html of a build with its release, in place of one that is there."""
    content = upload.file.read(report.MAX_BYTES + 1)
    with services.store.write() as connection:
        counter = find.require_release(connection, release)
        digest = report.keep(
            connection, services.home, counter, release, content, who.name, services.now_ms()
        )
    services.bus.publish("release", counter=counter)
    return {"release": release, "digest": digest}


@router.get("/report", **gives("text/html"))
def show_report(services: Shared, who: Reader, release: Named) -> Response:
    """The report of a build as it was kept; a browser runs nothing of it."""
    with services.store.read() as connection:
        counter = find.require_release(connection, release)
    content = report.read(services.home, counter, release)
    return Response(content, media_type="text/html; charset=utf-8", headers=report.HEADERS)


@router.post("/approve")
def approve(body: StageRequest, services: Shared, who: Approver) -> ReleaseInFull:
    """Approve a candidate; under the policy second-person not by one who published any of it."""
    return _note(services, body, stages.Event.APPROVED, who.name)


@router.post("/retire")
def retire(body: StageRequest, services: Shared, who: Approver) -> ReleaseInFull:
    """Let no rollout of it begin any more; devices that run it keep it."""
    return _note(services, body, stages.Event.RETIRED, who.name)


@router.post("/withdraw")
def withdraw(body: StageRequest, services: Shared, who: Operator) -> ReleaseInFull:
    """Have every device stop answering with it, and abort the rollouts of it; until it is reopened."""
    withdrawing.withdraw(services, body.release, who.name, body.why)
    with services.store.read() as connection:
        return rows.shown(connection, body.release)


@router.post("/reopen")
def reopen(body: StageRequest, services: Shared, who: Approver) -> ReleaseInFull:
    """Make a retired or withdrawn release a candidate again."""
    return _note(services, body, stages.Event.REOPENED, who.name)


@router.get("/policy")
def show_policy(services: Shared, who: Reader) -> ReleasePolicy:
    """What this fleet asks of a release before a rollout."""
    with services.store.read() as connection:
        return {"policy": stages.policy(connection)}


@router.post("/policy")
def change_policy(body: PolicyRequest, services: Shared, who: Admin) -> ReleasePolicy:
    """Change it; rollouts that run already go on."""
    with services.store.write() as connection:
        stages.set_policy(connection, body.policy, who.name, services.now_ms())
    return {"policy": body.policy}


@router.get("/needs")
def list_needs(services: Shared, who: Reader) -> list[Need]:
    """Which versions of runtimes and drivers artifacts need."""
    with services.store.read() as connection:
        return rows.software_needs(connection)


@router.post("/needs")
def replace_needs(body: NeedsRequest, services: Shared, who: Admin) -> list[Need]:
    """Replace them all."""
    needs = [Need(**need.model_dump()) for need in body.needs]
    with services.store.write() as connection:
        rows.set_software_needs(connection, needs, who.name, services.now_ms())
    return needs


def _note(services: Server, body: StageRequest, event: stages.Event, actor: str) -> ReleaseInFull:
    with services.store.write() as connection:
        counter = find.require_release(connection, body.release)
        stages.note(connection, counter, event, actor, services.now_ms(), body.why)
        answer = rows.shown(connection, body.release)
    services.bus.publish("release", counter=counter)
    return answer
