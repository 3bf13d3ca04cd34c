"""The page of releases: where each comes from and how good it is."""

from __future__ import annotations

from typing import Any

from fastapi import Response
from sqlalchemy import Connection, select

from edge_contracts.manifest import Manifest
from edge_fleet.api.access import Shared
from edge_fleet.api.devices import describe
from edge_fleet.console.page import Visitor, answer, make_router
from edge_fleet.registry import listed
from edge_fleet.schema import bundles

router = make_router()


@router.get("/console/releases")
def releases(services: Shared, visitor: Visitor) -> Response:
    """Every release, with where it comes from and how good it is."""
    with services.store.read() as connection:
        found = releases_page(connection)
    return answer(visitor, "releases.html", services.now_ms(), releases=found)


def releases_page(connection: Connection) -> list[dict[str, Any]]:
    """Every release with its bundles' manifests, and how many devices run each."""
    running: dict[str, int] = {}
    for device in describe(connection):
        if device["active"]:
            bundle = device["active"]["bundle"]
            running[bundle] = running.get(bundle, 0) + 1
    manifests = {
        row.digest: Manifest.model_validate_json(row.manifest)
        for row in connection.execute(select(bundles.c.digest, bundles.c.manifest))
    }
    return [
        {
            **release,
            "bundles": [
                {
                    **bundle,
                    "manifest": manifests[bundle["digest"]],
                    "running": running.get(bundle["digest"], 0),
                }
                for bundle in release["bundles"]
            ],
        }
        for release in listed(connection)
    ]
