"""Settings: tokens for programs and devices; a secret is on the page that answers its making alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import Depends, Query, Request, Response

from edge_contracts.errors import ContractError
from edge_fleet.api import tokens as api
from edge_fleet.api.access import Shared, area_of, every
from edge_fleet.api.tokens import AREA, TokenRequest
from edge_fleet.auth import Right, Role
from edge_fleet.console.forms import PAGE, Paged, asked, carry_out, doer, looker, offset, require
from edge_fleet.console.page import Text, make_router
from edge_fleet.console.session import Session
from edge_fleet.console.settings import settled
from edge_fleet.errors import FleetError, RequestInvalid
from edge_fleet.services import Server

router = make_router()

Looker = Annotated[Session, Depends(looker(Right.OPERATE, AREA))]
Doer = Annotated[Session, Depends(doer(Right.OPERATE, AREA))]
Admin = Annotated[Session, Depends(doer(Right.ADMIN, AREA))]
EXPIRIES = {
    "": "the role's own: a day for enrolment, never for others",
    "3600": "an hour",
    "86400": "a day",
    "604800": "a week",
    "2592000": "30 days",
    "31536000": "a year",
}


@router.get("/console/settings/tokens")
def list_tokens(
    request: Request,
    services: Shared,
    visitor: Looker,
    all: bool = False,
    q: str = Query("", max_length=200),
    page: int = Query(1, ge=1, le=10**6),
) -> Response:
    """A page of those that somebody could use now, or of all that there ever were."""
    return _page(request, services, visitor, everything=all, q=q, page=page)


@router.post("/console/settings/tokens")
def make(
    request: Request,
    services: Shared,
    visitor: Doer,
    role: Text = "",
    label: Text = "",
    expires_s: Text = "",
    scopes: Text = "",
    user: Text = "",
    labels: Text = "",
) -> Response:
    """Make a token; what it is worth is shown in the answer."""
    typed = {
        "role": role,
        "label": label,
        "expires_s": expires_s,
        "scopes": scopes,
        "user": user,
        "labels": labels,
    }
    try:
        if expires_s not in EXPIRIES:
            raise RequestInvalid(f"a token for {expires_s!r:.20} s, expected one of {', '.join(EXPIRIES)}")
        body = asked(
            TokenRequest,
            role=role,
            label=label,
            expires_s=int(expires_s) if expires_s else None,
            device_labels=_labels(labels),
            scopes=tuple(_words(scopes)) or None,
            user=user or None,
        )
        made = api.create_token(body, request, services, visitor.who)
    except (FleetError, ContractError) as error:
        status = error.status if isinstance(error, FleetError) else 400
        return _page(request, services, visitor, status, str(error), typed=typed)
    return _page(request, services, visitor, made=made)


@router.post("/console/settings/tokens/revoke")
def revoke(request: Request, services: Shared, visitor: Admin, token: Text = "") -> Response:
    """Make a token worthless."""
    return carry_out(
        lambda: api.revoke_token(token, services, visitor.who),
        "/settings/tokens",
        lambda status, error: _page(request, services, visitor, status, error),
    )


def _page(
    request: Request,
    services: Server,
    visitor: Session,
    status: int = 200,
    error: str = "",
    everything: bool = False,
    q: str = "",
    page: int = 1,
    made: Mapping[str, object] | None = None,
    typed: dict[str, str] | None = None,
) -> Response:
    require(visitor, Right.OPERATE, AREA)
    is_admin = visitor.who.may(Right.ADMIN, AREA)
    total, found = api.find_tokens(services, not everything, q, offset(page), PAGE) if is_admin else (0, None)
    areas = sorted({area_of(route) for route in every(request.app.routes)} - {""})
    fields = ("role", "label", "expires_s", "scopes", "user", "labels")
    return settled(
        visitor,
        "settings_tokens.html",
        services.now_ms(),
        status,
        error,
        tokens=found,
        everything=everything,
        q=q,
        paged=Paged(page, total, {"q": q, "all": "true" if everything else ""}),
        made=made,
        typed=typed or dict.fromkeys(fields, ""),
        roles=list(Role) if is_admin else [Role.ENROL],
        expiries=EXPIRIES,
        areas=areas,
    )


def _words(text: str) -> list[str]:
    return [word for part in text.split(",") for word in part.split()]


def _labels(text: str) -> dict[str, str]:
    found = {}
    for word in _words(text):
        name, equals, value = word.partition("=")
        if not equals:
            raise RequestInvalid(f"{word!r:.60} is not KEY=VALUE, such as site=lab")
        found[name] = value
    return found
