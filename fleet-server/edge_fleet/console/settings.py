"""Settings: the part that is everybody's own (password, sessions), and the way to the parts for admins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Response
from pydantic import SecretStr

from edge_fleet.access import sessions
from edge_fleet.api import users as api
from edge_fleet.api.access import Shared
from edge_fleet.api.users import PasswordChange
from edge_fleet.auth import RIGHTS, Right
from edge_fleet.console.forms import asked, carry_out, doer, tell
from edge_fleet.console.page import Text, Visitor, make_router
from edge_fleet.console.session import Session
from edge_fleet.errors import NotFound, RequestInvalid
from edge_fleet.services import Server

router = make_router()

Own = Annotated[Session, Depends(doer(Right.READ, "users"))]


@dataclass(frozen=True)
class Part:
    """A page below the settings.

    Args:
        right: Who may see it has this right in its area.
    """

    path: str
    name: str
    right: Right
    area: str


PARTS = (
    Part("/console/settings", "You", Right.READ, "users"),
    Part("/console/settings/users", "Users", Right.ADMIN, "users"),
    Part("/console/settings/tokens", "Tokens", Right.OPERATE, "tokens"),
    Part("/console/settings/webhooks", "Webhooks", Right.READ, "webhooks"),
    Part("/console/settings/keys", "Keys", Right.READ, "keys"),
    Part("/console/settings/system", "System", Right.READ, "administration"),
)


def settled(
    visitor: Session, template: str, now_ms: int, status: int = 200, error: str = "", **values: Any
) -> Response:
    """A page of the settings, with the way to the others that this visitor may see."""
    parts = [part for part in PARTS if visitor.who.may(part.right, part.area)]
    return tell(visitor, template, now_ms, status, error, parts=parts, **values)


@router.get("/console/settings")
def you(services: Shared, visitor: Visitor) -> Response:
    """Who one is here, where one is logged in, one's password."""
    return _you(services, visitor)


@router.post("/console/settings")
def change(
    services: Shared,
    visitor: Own,
    do: Text = "",
    session: Text = "",
    before: Text = "",
    after: Text = "",
    again: Text = "",
) -> Response:
    """Change one's password, or end a session."""

    def act() -> None:
        if do == "password":
            if after != again:
                raise RequestInvalid("the new password and its repetition differ")
            body = asked(PasswordChange, before=SecretStr(before), after=SecretStr(after))
            api.change_password(body, services, visitor.who)
        elif do == "end":
            api.end_session(session, services, visitor.who)
        else:
            raise NotFound(f"no such order {do!r:.40}; possible: password, end")

    # another password ends every session: the way on leads over the login
    return carry_out(act, "/settings", lambda status, error: _you(services, visitor, status, error))


def _you(services: Server, visitor: Session, status: int = 200, error: str = "") -> Response:
    now_ms = services.now_ms()
    with services.store.read() as connection:
        found = sessions.listed(connection, visitor.who, now_ms)
    return settled(
        visitor,
        "settings.html",
        now_ms,
        status,
        error,
        sessions=found,
        rights=sorted(RIGHTS[visitor.who.role]),
        everybodys=visitor.who.may(Right.ADMIN, sessions.AREA),
    )
