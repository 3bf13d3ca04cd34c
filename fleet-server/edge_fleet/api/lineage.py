"""Lineage over HTTP: a release in full, comparing, search by digest, stages, recall, who gets what."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, File, Query, Response, UploadFile
from fastapi.responses import StreamingResponse
from pydantic import Field

from edge_fleet.api.access import Admin, Approver, Operator, Publisher, Reader, Shared
from edge_fleet.api.openapi import gives
from edge_fleet.lineage import find, recall, report, rows, stages
from edge_fleet.lineage.resolution import Need
from edge_fleet.model import Frozen
from edge_fleet.rollouts import withdrawing
from edge_fleet.services import Server

router = APIRouter(prefix="/api/v1/lineage", tags=["lineage"])

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


@router.get("/release")
def show(services: Shared, who: Reader, release: Named) -> dict[str, Any]:
    """A release with stage, history, evaluation, provenance, and what devices measured of each bundle."""
    with services.store.read() as connection:
        return rows.shown(connection, release)


@router.get("/compare")
def compare(services: Shared, who: Reader, before: Named, after: Named) -> dict[str, Any]:
    """What changed from one release to another, profile by profile."""
    with services.store.read() as connection:
        return rows.compared(connection, before, after)


@router.get("/find")
def search(services: Shared, who: Reader, digest: What) -> list[dict[str, Any]]:
    """Everything whose digest begins so: bundle, archive, artifact, source, calibration, labels."""
    with services.store.read() as connection:
        return [asdict(hit) for hit in find.find(connection, digest)]


@router.get("/explain")
def explain(
    services: Shared,
    who: Reader,
    release: Named,
    device: Annotated[str | None, Query(max_length=64)] = None,
    permit_downgrade: bool = False,
) -> list[dict[str, Any]]:
    """What every device, or one, gets of a release, and why; or why nothing."""
    with services.store.read() as connection:
        return [asdict(found) for found in rows.explained(connection, release, device, permit_downgrade)]


@router.get("/recall")
def recalled(services: Shared, who: Reader, what: What) -> dict[str, Any]:
    """Which devices ran it, since when, until when, how many predictions: from signed telemetry alone."""
    with services.store.read() as connection:
        targets = recall.targets_of(connection, what)
        runs = recall.recall(connection, targets)
    return {
        "what": what,
        "targets": [asdict(target) for target in targets],
        "devices": len({run.device for run in runs}),
        "predictions": sum(run.predictions for run in runs),
        "runs": [asdict(run) for run in runs],
    }


@router.get("/recall/proof", **gives("application/x-ndjson"))
def recall_proof(services: Shared, who: Reader, what: What) -> StreamingResponse:
    """The signed envelopes that a recall rests on, one JSON object a line."""
    with services.store.read() as connection:
        targets = recall.targets_of(connection, what)
    return StreamingResponse(_proof(services, targets), media_type="application/x-ndjson")


def _proof(services: Server, targets: list[recall.Target]) -> Iterator[str]:
    after = 0
    while not services.bus.closed:
        with services.store.read() as connection:
            page = list(recall.proof(connection, services.config.fleet, targets, after))
        if not page:
            return
        after = page[-1]["id"]
        yield "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in page)


@router.post("/report")
def keep_report(
    upload: Annotated[UploadFile, File(alias="report")], services: Shared, who: Publisher, release: Named
) -> dict[str, str]:
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
def approve(body: StageRequest, services: Shared, who: Approver) -> dict[str, Any]:
    """Approve a candidate; under the policy second-person not by one who published any of it."""
    return _note(services, body, stages.Event.APPROVED, who.name)


@router.post("/retire")
def retire(body: StageRequest, services: Shared, who: Approver) -> dict[str, Any]:
    """Let no rollout of it begin any more; devices that run it keep it."""
    return _note(services, body, stages.Event.RETIRED, who.name)


@router.post("/withdraw")
def withdraw(body: StageRequest, services: Shared, who: Operator) -> dict[str, Any]:
    """Have every device stop answering with it, and abort the rollouts of it; until it is reopened."""
    withdrawing.withdraw(services, body.release, who.name, body.why)
    with services.store.read() as connection:
        return rows.shown(connection, body.release)


@router.post("/reopen")
def reopen(body: StageRequest, services: Shared, who: Approver) -> dict[str, Any]:
    """Make a retired or withdrawn release a candidate again."""
    return _note(services, body, stages.Event.REOPENED, who.name)


@router.get("/policy")
def show_policy(services: Shared, who: Reader) -> dict[str, str]:
    """What this fleet asks of a release before a rollout."""
    with services.store.read() as connection:
        return {"policy": stages.policy(connection)}


@router.post("/policy")
def change_policy(body: PolicyRequest, services: Shared, who: Admin) -> dict[str, str]:
    """Change it; rollouts that run already go on."""
    with services.store.write() as connection:
        stages.set_policy(connection, body.policy, who.name, services.now_ms())
    return {"policy": body.policy}


@router.get("/needs")
def list_needs(services: Shared, who: Reader) -> list[dict[str, Any]]:
    """Which versions of runtimes and drivers artifacts need."""
    with services.store.read() as connection:
        return [asdict(need) for need in rows.software_needs(connection)]


@router.post("/needs")
def replace_needs(body: NeedsRequest, services: Shared, who: Admin) -> list[dict[str, Any]]:
    """Replace them all."""
    needs = [Need(**need.model_dump()) for need in body.needs]
    with services.store.write() as connection:
        rows.set_software_needs(connection, needs, who.name, services.now_ms())
    return [asdict(need) for need in needs]


def _note(services: Server, body: StageRequest, event: stages.Event, actor: str) -> dict[str, Any]:
    with services.store.write() as connection:
        counter = find.require_release(connection, body.release)
        stages.note(connection, counter, event, actor, services.now_ms(), body.why)
        answer = rows.shown(connection, body.release)
    services.bus.publish("release", counter=counter)
    return answer
