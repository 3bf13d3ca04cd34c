"""Forms that do something: who may send which, what is answered, and tables a page at a time.

A form's handler depends on a `doer`: that the form is of this session and its sender has the right, is known
before the handler begins (a test walks all routes). What a form does is one function of the API's or of the
module that owns it; what that refuses is shown on the page that the form came from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

from fastapi import Form, Request, Response
from pydantic import BaseModel, ValidationError

from edge_contracts.errors import ContractError
from edge_fleet.auth import Right
from edge_fleet.console import rendering, session
from edge_fleet.console.page import go
from edge_fleet.console.session import Session
from edge_fleet.errors import FleetError, Forbidden, RequestInvalid
from edge_fleet.model import first_fault

PAGE = 50
T = TypeVar("T", bound=BaseModel)


def doer(right: Right, area: str) -> Callable[..., Session]:
    """A dependency: who sends a form that needs a right in an area of the API."""

    def sender(request: Request, csrf: Annotated[str, Form(max_length=128)] = "") -> Session:
        visitor = session.current(request)
        session.require_form(request, visitor, csrf)
        require(visitor, right, area)
        return visitor

    sender.right, sender.area = right, area  # type: ignore[attr-defined]
    return sender


def looker(right: Right, area: str) -> Callable[..., Session]:
    """A dependency: who looks at a page that not everybody may see."""

    def visitor(request: Request) -> Session:
        found = session.current(request)
        require(found, right, area)
        return found

    visitor.right, visitor.area = right, area  # type: ignore[attr-defined]
    return visitor


def require(visitor: Session, right: Right, area: str) -> None:
    """Make sure that somebody has a right.

    Raises:
        Forbidden: The role does not have it.
    """
    if not visitor.who.may(right, area):
        raise Forbidden(
            f"{visitor.who.name} is logged in with the role {visitor.who.role} and may look, not {right}: "
            f"this needs the right to {right} {area}"
        )


def tell(
    visitor: Session, template: str, now_ms: int, status: int = 200, error: str = "", **values: Any
) -> Response:
    """A page for somebody who is logged in, with what was refused on top."""
    return rendering.page(template, now_ms, status, who=visitor.who, csrf=visitor.csrf, error=error, **values)


def carry_out(
    do: Callable[[], object], then: str | Callable[[Any], str], again: Callable[[int, str], Response]
) -> Response:
    """Do what a form asks for and lead on; what is refused is told on the form's page.

    Args:
        then: A path below the console, or what makes one of the outcome.
        again: The form's page with a status and an error.
    """
    try:
        done = do()
    except (FleetError, ContractError) as error:
        return again(error.status if isinstance(error, FleetError) else 400, str(error))
    return go(then if isinstance(then, str) else then(done))


def asked(model: type[T], **fields: Any) -> T:
    """A request as the API knows it, from the fields of a form.

    Raises:
        RequestInvalid: A field does not fit.
    """
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise RequestInvalid(first_fault(error)) from None


@dataclass(frozen=True)
class Paged:
    """Where one is in a long table.

    Args:
        total: Rows in all.
        fields: Of the address, but for the page.
    """

    number: int
    total: int
    fields: Mapping[str, str]
    size: int = PAGE

    @property
    def pages(self) -> int:
        """How many there are, at least one."""
        return max(1, -(-self.total // self.size))

    @property
    def first(self) -> int:
        """Number of the first row shown, from 1; 0 when there is none."""
        return min(self.total, (self.number - 1) * self.size + 1)

    @property
    def last(self) -> int:
        """Number of the last row shown."""
        return min(self.total, self.number * self.size)

    def at(self, number: int) -> str:
        """The address of another page, as a query."""
        kept = {name: value for name, value in self.fields.items() if value}
        return "?" + urlencode({**kept, "page": number})


def offset(page: int, size: int = PAGE) -> int:
    """Rows before a page."""
    return (page - 1) * size
