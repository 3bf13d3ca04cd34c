"""What may be ordered of a rollout, of one of its devices, and of a draft that waits for approval.

Orders that can be taken back are buttons on the rollout's page. Those that cannot have a page of their own
that says what will happen and takes a reason. Each form says what its sender saw: an order to a rollout that
stands elsewhere by now is refused, and the answer shows where.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Response

from edge_fleet.access import two_people
from edge_fleet.api.access import Shared
from edge_fleet.auth import Right
from edge_fleet.console.forms import carry_out, doer, require, tell
from edge_fleet.console.page import Text, Visitor, make_router
from edge_fleet.console.rollouts import GRAVE, ORDERS, shown
from edge_fleet.console.session import Session
from edge_fleet.enrol import require_device
from edge_fleet.errors import NotFound
from edge_fleet.rollouts import progress, rows
from edge_fleet.rollouts.device_orders import DeviceOrder, offered, order_device
from edge_fleet.rollouts.members import load_members, skipped
from edge_fleet.rollouts.operator import Operator
from edge_fleet.rollouts.seen import Seen
from edge_fleet.services import Server

router = make_router()

Doer = Annotated[Session, Depends(doer(Right.OPERATE, "rollouts"))]
Approver = Annotated[Session, Depends(doer(Right.APPROVE, "rollouts"))]
# (name, what it says on the page, on its button)
WORDS = {
    "abort": ("Stop for good", "Devices keep what they have; nobody else gets the release.", "Abort"),
    "rollback": ("Roll back", "Every device that has the release goes back to what it had.", "Roll back"),
    "approve": ("Approve", "It may then be started, as far as this rule goes.", "Approve"),
    "reject": ("Reject", "The draft is over; it cannot be started any more.", "Reject"),
}
DEVICE_WORDS = {
    DeviceOrder.RETRY: ("Try again", "It is given the release again, whatever its budgets say."),
    DeviceOrder.SKIP: ("Leave out", "It is not given the release; one that is on its way is called off."),
    DeviceOrder.ROLLBACK: ("Send back", "It goes back to what it had, and counts for no gate any more."),
}


@router.get("/console/rollouts/{rollout}/{order}")
def ask(rollout: str, order: str, services: Shared, visitor: Visitor) -> Response:
    """The page that asks for a reason; of a button, the rollout's own page, which a refusal was shown on."""
    if order in ORDERS and order not in GRAVE:
        return shown(services, visitor, rollout)
    if order in WORDS:
        require(visitor, Right.OPERATE if order in ORDERS else Right.APPROVE, "rollouts")
    return _asked(services, visitor, rollout, order)


@router.post("/console/rollouts/{rollout}/approve")
def approve(rollout: str, services: Shared, visitor: Approver, why: Text = "") -> Response:
    """Give one's word for a draft that somebody else made."""

    def do() -> None:
        with services.store.write() as connection:
            two_people.approve(connection, rollout, visitor.who.name, why[:500], services.now_ms())
        services.bus.publish("rollout", rollout=rollout)

    return _done(services, visitor, rollout, do)


@router.post("/console/rollouts/{rollout}/reject")
def reject(rollout: str, services: Shared, visitor: Approver, why: Text = "", seen: Text = "") -> Response:
    """Say no to a draft that somebody else made."""

    def do() -> None:
        Operator(services, _seen(seen)).reject(rollout, visitor.who.name, why[:500])

    return _done(services, visitor, rollout, do)


@router.post("/console/rollouts/{rollout}/{order}")
def order(
    rollout: str, order: str, services: Shared, visitor: Doer, why: Text = "", seen: Text = ""
) -> Response:
    """Start, pause, resume, advance, abort or roll back."""
    if order not in ORDERS:
        raise NotFound(f"no such order {order!r:.40}; possible: {', '.join(ORDERS)}")
    reason = (why[:500],) if order in GRAVE else ()

    def do() -> None:
        ORDERS[order][1](Operator(services, _seen(seen)), rollout, visitor.who.name, *reason)

    return _done(services, visitor, rollout, do)


@router.get("/console/rollouts/{rollout}/devices/{device}")
def device(rollout: str, device: str, services: Shared, visitor: Visitor) -> Response:
    """One device of a rollout: how it stands, and what may be ordered of it."""
    return _device(services, visitor, rollout, device)


@router.post("/console/rollouts/{rollout}/devices/{device}/{order}")
def order_one(
    rollout: str, device: str, order: DeviceOrder, services: Shared, visitor: Doer, why: Text = ""
) -> Response:
    """Leave one device out, try it again, or send it back."""

    def again(status: int, error: str) -> Response:
        return _device(services, visitor, rollout, device, status, error)

    def do() -> None:
        order_device(services, rollout, device, order, visitor.who.name, why[:500])

    return carry_out(do, f"/rollouts/{rollout}/devices/{device}", again)


@router.get("/console/rollouts/{rollout}/devices/{device}/{order}")
def asked_one(rollout: str, device: str, order: DeviceOrder, services: Shared, visitor: Visitor) -> Response:
    """Where a refused order to a device is read again from: the device's page."""
    return _device(services, visitor, rollout, device)


def _done(services: Server, visitor: Session, rollout: str, do: Any) -> Response:
    """Carry an order out; a refusal is told on the rollout's page as it is now."""

    def again(status: int, error: str) -> Response:
        return shown(services, visitor, rollout, status=status, error=error)

    return carry_out(do, f"/rollouts/{rollout}", again)


def _asked(services: Server, visitor: Session, rollout: str, order: str) -> Response:
    if order not in WORDS:
        raise NotFound(f"no such order {order!r:.40}; possible: {', '.join([*ORDERS, *WORDS])}")
    with services.store.read() as connection:
        found = rows.load(connection, rollout)
        counts = progress.count(connection, [rollout])[rollout]
    return tell(
        visitor,
        "order.html",
        services.now_ms(),
        rollout=found,
        counts=counts,
        order=order,
        words_of=WORDS[order],
        seen=str(Seen.of(found.position)),
    )


def _device(
    services: Server, visitor: Session, rollout: str, device: str, status: int = 200, error: str = ""
) -> Response:
    with services.store.read() as connection:
        found = rows.load(connection, rollout)
        require_device(connection, device)
        reached = load_members(connection, rollout, [device])
        told = progress.page(connection, rollout, progress.Wanted(device=device), 0, 1).rows
        left_out = skipped(connection, rollout).get(device, "")
    phase = found.position.phase
    possible = offered(phase, reached[0] if reached else None, bool(left_out))
    return tell(
        visitor,
        "rollout_device.html",
        services.now_ms(),
        status,
        error,
        rollout=found,
        device=device,
        row=told[0] if told else None,
        left_out=left_out,
        orders=[(one, *DEVICE_WORDS[one]) for one in possible],
    )


def _seen(text: str) -> Seen | None:
    return Seen.parse(text) if text else None
