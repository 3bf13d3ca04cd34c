"""Webhooks over HTTP: who is told, what waits, what was given up."""

from __future__ import annotations

from typing import Literal

from fastapi import Query
from pydantic import Field
from typing_extensions import TypedDict

from edge_fleet.api.access import Admin, Reader, Shared
from edge_fleet.api.answers import Router
from edge_fleet.api.row_ids import RowId, Skipped
from edge_fleet.audit import record
from edge_fleet.model import Frozen
from edge_fleet.webhooks import rows

router = Router(prefix="/api/v1/webhooks", tags=["webhooks"])


class WebhookRequest(Frozen):
    """Whom to tell.

    Args:
        kinds: Of `rows.KINDS`; none for all but "test".
    """

    url: str = Field(min_length=1, max_length=500)
    kinds: tuple[str, ...] = Field(default=(), max_length=8)


class WebhookAdded(TypedDict):
    """A receiver that is told from now on.

    Args:
        secret: That signs what it gets, as standardwebhooks.com has it; shown once.
    """

    id: str
    url: str
    kinds: list[str]
    secret: str


class WebhookRemoved(TypedDict):
    """A receiver that is told nothing any more."""

    id: str
    removed: Literal[True]


class WebhookTested(TypedDict):
    """A receiver that a message of kind "test" is on its way to."""

    id: str
    queued: Literal[True]


class DeliveryRetried(TypedDict):
    """A delivery that is tried again."""

    delivery: int
    queued: Literal[True]


@router.get("")
def list_webhooks(services: Shared, who: Reader) -> list[rows.WebhookShown]:
    """Who is told of what, and what waits."""
    with services.store.read() as connection:
        return rows.listed(connection)


@router.post("", status_code=201)
def add_webhook(body: WebhookRequest, services: Shared, who: Admin) -> WebhookAdded:
    """Tell a receiver from now on; its secret is shown here and can be derived again by this server only."""
    with services.store.write() as connection:
        made = rows.add(connection, body.url, body.kinds, who.name, services.now_ms())
        found = rows.require(connection, made)
        url, kinds = found.url, found.kinds
    return {"id": made, "url": url, "kinds": kinds, "secret": services.keys.webhook_secret(made)}


@router.post("/{webhook}/remove")
def remove_webhook(webhook: str, services: Shared, who: Admin) -> WebhookRemoved:
    """Tell it nothing any more."""
    with services.store.write() as connection:
        rows.remove(connection, webhook, who.name, services.now_ms())
    return {"id": webhook, "removed": True}


@router.post("/{webhook}/test")
def test_webhook(webhook: str, services: Shared, who: Admin) -> WebhookTested:
    """Send it a message of kind "test"."""
    now_ms = services.now_ms()
    with services.store.write() as connection:
        rows.require(connection, webhook)
        rows.enqueue(connection, "test", {"by": who.name}, now_ms, only=webhook)
        record(connection, who.name, "webhook tested", webhook, now_ms)
    return {"id": webhook, "queued": True}


@router.get("/deliveries")
def list_deliveries(
    services: Shared,
    who: Reader,
    dead: bool = Query(False, description="Those that were given up only"),
    most: int = Query(100, ge=1, le=1000),
    skip: Skipped = 0,
) -> list[rows.DeliveryShown]:
    """The newest deliveries: attempts, the last answer, and when it is tried again."""
    with services.store.read() as connection:
        return rows.deliveries(connection, dead, most, skip)


@router.post("/deliveries/{delivery}/retry")
def retry_delivery(services: Shared, who: Admin, delivery: RowId) -> DeliveryRetried:
    """Try one again that was given up."""
    with services.store.write() as connection:
        rows.retry(connection, delivery, who.name, services.now_ms())
    return {"delivery": delivery, "queued": True}
