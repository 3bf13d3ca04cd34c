"""Settings: who is told of alerts, and what became of each message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from fastapi import Depends, Form, Query, Response

from edge_contracts.errors import ContractError
from edge_fleet.api import webhooks as api
from edge_fleet.api.access import Shared
from edge_fleet.api.row_ids import LAST
from edge_fleet.api.webhooks import WebhookRequest
from edge_fleet.auth import Right
from edge_fleet.console.forms import PAGE, Paged, asked, carry_out, doer, offset
from edge_fleet.console.page import Text, Visitor, make_router
from edge_fleet.console.session import Session
from edge_fleet.console.settings import settled
from edge_fleet.errors import FleetError, NotFound, RequestInvalid
from edge_fleet.services import Server
from edge_fleet.webhooks import rows

router = make_router()

Doer = Annotated[Session, Depends(doer(Right.ADMIN, "webhooks"))]


@router.get("/console/settings/webhooks")
def list_webhooks(
    services: Shared,
    visitor: Visitor,
    show: Literal["all", "dead"] = "all",
    page: int = Query(1, ge=1, le=10**6),
) -> Response:
    """Receivers, and the newest deliveries."""
    return _page(services, visitor, show, page)


@router.post("/console/settings/webhooks")
def change(
    services: Shared,
    visitor: Doer,
    do: Text = "",
    url: Text = "",
    kinds: Annotated[list[str] | None, Form(max_length=8)] = None,
    webhook: Text = "",
    delivery: Text = "",
) -> Response:
    """Add or remove a receiver, try it, or try a message again that was given up."""
    try:
        if do == "add":
            made = api.add_webhook(
                asked(WebhookRequest, url=url, kinds=tuple(kinds or ())), services, visitor.who
            )
            return _page(services, visitor, made=made)
    except (FleetError, ContractError) as error:
        status = error.status if isinstance(error, FleetError) else 400
        return _page(services, visitor, status=status, error=str(error), url=url)

    def act() -> None:
        if do == "remove":
            api.remove_webhook(webhook, services, visitor.who)
        elif do == "test":
            api.test_webhook(webhook, services, visitor.who)
        elif do == "retry":
            if not delivery.isdecimal() or len(delivery) > len(str(LAST)) or int(delivery) > LAST:
                raise RequestInvalid(f"delivery {delivery!r:.20} is not a number")
            api.retry_delivery(services, visitor.who, int(delivery))
        else:
            raise NotFound(f"no such order {do!r:.40}; possible: add, remove, test, retry")

    return carry_out(
        act,
        "/settings/webhooks",
        lambda status, error: _page(services, visitor, status=status, error=error),
    )


def _page(
    services: Server,
    visitor: Session,
    show: str = "all",
    page: int = 1,
    made: Mapping[str, object] | None = None,
    status: int = 200,
    error: str = "",
    url: str = "",
) -> Response:
    with services.store.read() as connection:
        webhooks = rows.listed(connection)
        total = rows.count_deliveries(connection, show == "dead")
        deliveries = rows.deliveries(connection, show == "dead", PAGE, offset(page))
    return settled(
        visitor,
        "settings_webhooks.html",
        services.now_ms(),
        status,
        error,
        webhooks=webhooks,
        deliveries=deliveries,
        paged=Paged(page, total, {"show": show}),
        show=show,
        made=made,
        kinds=rows.KINDS[:-1],
        url=url,
    )
