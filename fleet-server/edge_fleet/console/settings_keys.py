"""Settings: whose bundles are trusted, who directs, and what devices are told about keys."""

from __future__ import annotations

import base64
from typing import Annotated, Literal

from fastapi import Depends, File, Response, UploadFile

from edge_contracts.keys import parse_public
from edge_contracts.trust import MAX_STATEMENT_BYTES
from edge_fleet.api import admin, keys
from edge_fleet.api.access import Shared
from edge_fleet.api.admin import PublisherRequest
from edge_fleet.api.keys import DirectorChange, DirectorRetirement, PublisherChange, StatementRequest
from edge_fleet.auth import Right
from edge_fleet.console.forms import asked, carry_out, doer, require
from edge_fleet.console.page import Text, Visitor, make_router
from edge_fleet.console.session import Session
from edge_fleet.console.settings import settled
from edge_fleet.errors import NotFound, RequestInvalid
from edge_fleet.services import Server

router = make_router()

Doer = Annotated[Session, Depends(doer(Right.ADMIN, "keys"))]
ORDERS = (
    "add",
    "retire",
    "revoke",
    "statement",
    "make-director",
    "rotate-director",
    "retire-director",
)
CHANGES: dict[str, Literal["retire", "revoke"]] = {"retire": "retire", "revoke": "revoke"}


@router.get("/console/settings/keys")
def list_keys(services: Shared, visitor: Visitor) -> Response:
    """Publishers, statements and directors."""
    return _page(services, visitor)


@router.post("/console/settings/keys")
def change(
    services: Shared,
    visitor: Doer,
    do: Text = "",
    public_key: Text = "",
    label: Text = "",
    key_id: Text = "",
    reason: Text = "",
    stop: Text = "",
    force: Text = "",
    statement: Annotated[UploadFile | None, File()] = None,
) -> Response:
    """Trust a key, retire or revoke one, follow a publisher's signed statement, or change the director's."""

    def act() -> None:
        if do == "add":
            require(visitor, Right.ADMIN, "administration")
            body = asked(PublisherRequest, public_key=_base64(public_key.strip()), label=label)
            admin.add_publisher(body, services, visitor.who)
        elif do in CHANGES:
            said = asked(PublisherChange, stop=stop == "on", reason=reason[:300])
            keys.change_publisher(key_id, CHANGES[do], said, services, visitor.who)
        elif do == "statement":
            keys.apply_statement(_statement(statement), services, visitor.who)
        elif do == "make-director":
            keys.make_director(services, visitor.who)
        elif do == "rotate-director":
            keys.rotate_director(key_id, asked(DirectorChange, reason=reason[:300]), services, visitor.who)
        elif do == "retire-director":
            named = asked(DirectorRetirement, force=force == "on")
            keys.retire_director(key_id, named, services, visitor.who)
        else:
            raise NotFound(f"no such order {do!r:.40}; possible: {', '.join(ORDERS)}")

    return carry_out(act, "/settings/keys", lambda status, error: _page(services, visitor, status, error))


def _base64(text: str) -> str:
    """A public key as the API takes it, of what people have: the file public.pem, or base64 already."""
    return parse_public(text.encode(), "the text").base64 if text.startswith("-----") else text


def _statement(upload: UploadFile | None) -> StatementRequest:
    content = b"" if upload is None else upload.file.read(MAX_STATEMENT_BYTES + 1)
    if not content:
        raise RequestInvalid("no file was sent; give the file of `edge-convert keys change`")
    return asked(StatementRequest, statement=base64.b64encode(content))


def _page(services: Server, visitor: Session, status: int = 200, error: str = "") -> Response:
    return settled(
        visitor,
        "settings_keys.html",
        services.now_ms(),
        status,
        error,
        publishers=admin.list_publishers(services, visitor.who),
        statements=list(reversed(keys.list_statements(services, visitor.who))),
        directors=keys.list_directors(services, visitor.who),
    )
