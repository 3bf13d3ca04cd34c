"""The page that withdraws a release: what will happen, to how many, and why."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Response

from edge_fleet.api.access import Shared
from edge_fleet.auth import Right
from edge_fleet.console.forms import carry_out, doer, looker, tell
from edge_fleet.console.page import Text, make_router
from edge_fleet.console.session import Session
from edge_fleet.errors import RequestInvalid
from edge_fleet.lineage import rows
from edge_fleet.lineage.find import require_release
from edge_fleet.lineage.withdrawn import concerned
from edge_fleet.rollouts.withdrawing import at_work, withdraw
from edge_fleet.services import Server
from edge_fleet.standings import find as standing

router = make_router()

Looker = Annotated[Session, Depends(looker(Right.OPERATE, "lineage"))]
Doer = Annotated[Session, Depends(doer(Right.OPERATE, "lineage"))]


@router.get("/console/models/{release}/withdraw")
def ask(release: str, services: Shared, visitor: Looker) -> Response:
    """What it would do, and a place for the reason."""
    return _page(services, visitor, release)


@router.post("/console/models/{release}/withdraw")
def do(release: str, services: Shared, visitor: Doer, why: Text = "") -> Response:
    """Switch it off wherever it runs."""

    def act() -> None:
        if not why.strip():
            raise RequestInvalid("a reason is needed: devices show it to whoever stands before one")
        withdraw(services, release, visitor.who.name, why.strip()[:500])

    return carry_out(
        act, f"/models/{release}", lambda status, error: _page(services, visitor, release, status, error)
    )


def _page(services: Server, visitor: Session, release: str, status: int = 200, error: str = "") -> Response:
    with services.store.read() as connection:
        counter = require_release(connection, release)
        found = rows.shown(connection, release)
        running = standing.by_bundle(connection, [bundle["digest"] for bundle in found["bundles"]])
        rollouts = [one.id for one in at_work(connection, counter)]
        told = len(concerned(connection, counter))
    return tell(
        visitor,
        "withdraw.html",
        services.now_ms(),
        status,
        error,
        release=found,
        named=f"{found['name']}@{found['version']}",
        running=sum(running.values()),
        told=told,
        rollouts=rollouts,
    )
