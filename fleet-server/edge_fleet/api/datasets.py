"""Kept inputs over HTTP: devices send them, people label them, training gets them back with lineage."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import cbor2
from fastapi import Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from sqlalchemy import select
from typing_extensions import TypedDict

from edge_contracts.keys import PublicKey
from edge_fleet.access.device_keys import former_of, signer_of
from edge_fleet.api.access import Operator, Reader, Shared, refused
from edge_fleet.api.answers import Router
from edge_fleet.api.openapi import gives
from edge_fleet.api.row_ids import LAST, RowId
from edge_fleet.datasets import retraining, rows
from edge_fleet.datasets.export import Sample, as_npz, as_parquet
from edge_fleet.datasets.review import Review, claimed_device, inputs_of, open_review
from edge_fleet.errors import Unauthorized
from edge_fleet.lineage.targets import targets_of
from edge_fleet.model import Frozen, parse_object
from edge_fleet.schema import devices
from edge_fleet.services import Server

router = Router(prefix="/api/v1", tags=["datasets"])

MOST = 5000
MAX_EXPORT_BYTES = 128 << 20  # of inputs, unpacked, in one file: the file is made in memory
_one_export = threading.Lock()
What = Annotated[
    str | None, Query(max_length=140, description="Of the bundles of a release or a digest only")
]


class LabelRequest(Frozen):
    """The right class, by its name or number."""

    label: str = Field(min_length=1, max_length=200)


class RetrainingRequest(Frozen):
    """A release or a digest, and why it should be trained again."""

    what: str = Field(min_length=1, max_length=140)
    why: str = Field(default="", max_length=500)


class SampleLabelled(TypedDict):
    """A kept input whose class was said.

    Args:
        label: As it was said.
    """

    sample: int
    label: str


class RetrainingAsked(TypedDict):
    """How many receivers are told, by bundle."""

    bundles: dict[str, int]


@router.post("/review", status_code=204)
async def take(request: Request, services: Shared) -> Response:
    """An input that a device kept for review, signed by the device: what `review set --upload-to` sends."""
    envelope = await request.body()
    await run_in_threadpool(_take, request, services, envelope)
    return Response(status_code=204)


@router.get("/datasets/samples")
def list_samples(
    services: Shared,
    who: Reader,
    what: What = None,
    labelled: bool | None = None,
    most: int = Query(200, ge=1, le=MOST),
) -> list[rows.KeptSample]:
    """Kept inputs, newest first, without the inputs themselves."""
    with services.store.read() as connection:
        return rows.listed(connection, what, labelled, most)


@router.post("/datasets/samples/{sample}/label")
def label(body: LabelRequest, services: Shared, who: Operator, sample: RowId) -> SampleLabelled:
    """Say which class is right."""
    with services.store.write() as connection:
        rows.label(connection, sample, body.label, who.name, services.now_ms())
    return {"sample": sample, "label": body.label}


@router.get("/datasets/export", **gives("application/octet-stream"))
def export(
    services: Shared,
    who: Operator,
    what: What = None,
    labelled: bool | None = Query(None, description="With, or without a label; both when not stated"),
    form: Literal["npz", "parquet"] = "npz",
    most: int = Query(MOST, ge=1, le=MOST),
    before: int | None = Query(None, ge=0, le=LAST, description="Those of smaller ids only"),
) -> Response:
    """Kept inputs, labels and lineage as one file; they may show people: reading alone is not enough.

    The newest, as many as fit one file, oldest of them first. `Link: <...>; rel="next"` (RFC 8288) says where
    the older ones are, when there are any.
    """
    with _one_export:
        with services.store.read() as connection:
            # one more than is given tells whether there are older ones
            found = rows.payloads(connection, what, labelled, most + 1, before)
            samples, is_all = _fitting(found, most)
        content = as_npz(samples) if form == "npz" else as_parquet(samples)
    headers = {"Content-Disposition": f'attachment; filename="samples.{form}"', "Cache-Control": "no-store"}
    if not is_all:
        stated: dict[str, str | int | None]
        stated = {"what": what, "labelled": None if labelled is None else str(labelled).lower(), "form": form}
        stated |= {"most": most, "before": samples[0].id}
        query = urlencode({name: value for name, value in stated.items() if value is not None})
        headers["Link"] = f'</api/v1/datasets/export?{query}>; rel="next"'
    return Response(content, media_type="application/octet-stream", headers=headers)


@router.post("/datasets/retraining", status_code=201)
def request_retraining(body: RetrainingRequest, services: Shared, who: Operator) -> RetrainingAsked:
    """Tell the receivers of retraining.requested, with what is known and where the samples are."""
    with services.store.write() as connection:
        told = {
            target.bundle: retraining.request(
                connection, target.bundle, body.why, {"asked_by": who.name}, who.name, services.now_ms()
            )
            for target in targets_of(connection, body.what)
        }
    return {"bundles": told}


def _take(request: Request, services: Server, envelope: bytes) -> None:
    device = claimed_device(envelope)
    with services.store.read() as connection:
        row = connection.execute(
            select(devices.c.public_key, devices.c.revoked_ms).where(devices.c.id == device)
        ).one_or_none()
        former = former_of(connection, [device])
    if row is None or row.revoked_ms is not None:
        raise refused(request, services, Unauthorized("the device is not known here"))
    signer = signer_of(envelope, PublicKey(row.public_key), former.get(device, {}))
    review = open_review(envelope, services.config.fleet, device, signer)
    with services.store.write() as connection:
        rows.store(connection, envelope, review, services.now_ms())


def _fitting(found: Iterable[tuple[Any, bytes]], most: int) -> tuple[list[Sample], bool]:
    """What goes into one file, oldest first, and whether it is all; one sample always fits."""
    samples: list[Sample] = []
    size = 0
    for row, payload in found:
        sample = _sample(row, payload)
        size += sum(array.nbytes for array in sample.inputs.values())
        if samples and (len(samples) == most or size > MAX_EXPORT_BYTES):
            return samples[::-1], False
        samples.append(sample)
    return samples[::-1], True


def _sample(row: Any, payload: bytes) -> Sample:
    inputs = inputs_of(parse_object(Review, cbor2.loads(payload), "a stored input"))
    answer = -1 if row.answer is None else row.answer
    lineage = (row.id, row.device, row.bundle, row.artifact, row.digest, row.number, row.time_ms)
    return Sample(inputs, row.label, (*lineage, row.reason, answer, row.labelled_by))
