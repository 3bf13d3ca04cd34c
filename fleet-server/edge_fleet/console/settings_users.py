"""Settings: people, their roles and passwords."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Response
from pydantic import SecretStr

from edge_fleet.access import users
from edge_fleet.api import users as api
from edge_fleet.api.access import Shared
from edge_fleet.api.users import NewUser, UserChange
from edge_fleet.auth import PERSONAL, RIGHTS, Right
from edge_fleet.console.forms import asked, carry_out, doer, looker
from edge_fleet.console.page import Text, make_router
from edge_fleet.console.session import Session
from edge_fleet.console.settings import settled
from edge_fleet.errors import Conflict, NotFound
from edge_fleet.services import Server

router = make_router()

Looker = Annotated[Session, Depends(looker(Right.ADMIN, "users"))]
Doer = Annotated[Session, Depends(doer(Right.ADMIN, "users"))]
DEEDS = ("add", "role", "password", "disable", "enable", "logout")


@router.get("/console/settings/users")
def list_users(services: Shared, visitor: Looker) -> Response:
    """Everybody."""
    return _page(services, visitor)


@router.post("/console/settings/users")
def change(
    services: Shared, visitor: Doer, do: Text = "", name: Text = "", role: Text = "", password: Text = ""
) -> Response:
    """Add somebody, or change a role or a password, disable, enable, log out everywhere."""

    def act() -> None:
        if do == "add":
            api.add_user(
                asked(NewUser, name=name, role=role, password=SecretStr(password)), services, visitor.who
            )
        elif do == "logout":
            api.log_out_user(name, services, visitor.who)
        elif do in DEEDS:
            if do == "disable" and name == visitor.who.user:
                raise Conflict("you would lock yourself out; another admin can disable you")
            stated: dict[str, Any] = {
                "role": {"role": role},
                "password": {"password": SecretStr(password)},
                "disable": {"disabled": True},
                "enable": {"disabled": False},
            }
            api.change_user(name, asked(UserChange, **stated[do]), services, visitor.who)
        else:
            raise NotFound(f"no such order {do!r:.40}; possible: {', '.join(DEEDS)}")

    return carry_out(
        act, f"/settings/users#user-{name}", lambda status, error: _page(services, visitor, status, error)
    )


def _page(services: Server, visitor: Session, status: int = 200, error: str = "") -> Response:
    with services.store.read() as connection:
        found = users.listed(connection)
    return settled(
        visitor,
        "settings_users.html",
        services.now_ms(),
        status,
        error,
        users=found,
        roles=PERSONAL,
        rights={role: RIGHTS[role] for role in PERSONAL},
        every=list(Right),
    )
