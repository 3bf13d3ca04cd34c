"""Releases over HTTP: publishing bundles, listing releases, and the archives that devices download."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

from fastapi import File, UploadFile
from fastapi.responses import FileResponse
from sqlalchemy import select

from edge_contracts.digest import short
from edge_fleet.api.access import Device, Publisher, Reader, Shared
from edge_fleet.api.answers import Router
from edge_fleet.api.openapi import gives_parts
from edge_fleet.api.row_ids import RowId
from edge_fleet.errors import NotFound, ReleaseInvalid
from edge_fleet.registry import ReleaseSummary, archive_path, examine, listed, publish, trusted_publishers
from edge_fleet.schema import assignments, bundles

router = Router(prefix="/api/v1", tags=["releases"])

MAX_BUNDLES = 32


@router.get("/releases")
def list_releases(services: Shared, who: Reader) -> list[ReleaseSummary]:
    """Every release with its bundles, newest first."""
    with services.store.read() as connection:
        return listed(connection)


@router.get("/releases/{counter}")
def show_release(counter: RowId, services: Shared, who: Reader) -> ReleaseSummary:
    """One release."""
    with services.store.read() as connection:
        return listed(connection, counter)[0]


@router.post("/releases", status_code=201)
def publish_release(
    uploads: Annotated[list[UploadFile], File(alias="bundles")], services: Shared, who: Publisher
) -> ReleaseSummary:
    """Publish the bundles of one version, all or none; each must be signed by a trusted publisher."""
    if len(uploads) > MAX_BUNDLES:
        raise ReleaseInvalid(f"{len(uploads)} bundles in one call, at most {MAX_BUNDLES} are taken")
    folder = services.home.archives
    with tempfile.TemporaryDirectory(prefix=".upload-", dir=folder) as place:
        with services.store.read() as connection:
            trusted = trusted_publishers(connection)
        candidates = []
        for number, upload in enumerate(uploads):
            path = Path(place) / str(number)
            with path.open("wb") as stream:
                shutil.copyfileobj(upload.file, stream, 1 << 20)
            candidates.append(examine(path, (upload.filename or f"bundle {number + 1}")[:200], trusted))
        with services.store.write() as connection:
            counter = publish(connection, candidates, folder, who.name, services.now_ms())
            release = listed(connection, counter)[0]
    services.bus.publish("release", counter=counter)
    return release


@router.get("/archives/{digest}", **gives_parts("application/zip"))
def download(digest: str, services: Shared, device: Device) -> FileResponse:
    """A bundle that was assigned to the device that asks; Range and If-Range are understood."""
    with services.store.read() as connection:
        assigned = connection.execute(
            select(bundles.c.archive)
            .join(assignments, assignments.c.bundle == bundles.c.digest)
            .where(assignments.c.device == device, bundles.c.archive == digest)
        ).first()
    if assigned is None:
        raise NotFound(f"no archive {digest!r:.80} is assigned to this device")
    path = archive_path(services.home.archives, assigned.archive)
    if not path.is_file():
        raise NotFound(f"the file of archive {short(assigned.archive)} is gone from the server")
    # the digest is the best of entity tags: a resumed download can never mix two files
    return FileResponse(
        path,
        media_type="application/zip",
        headers={"ETag": f'"{assigned.archive}"', "Cache-Control": "private, no-transform"},
    )
