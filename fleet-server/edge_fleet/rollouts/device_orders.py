"""What operators may order of one device of a rollout: leave it out, try it again, send it back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum

from sqlalchemy import Connection, select

from edge_fleet import orders
from edge_fleet.assignment import FAILED, OPEN, State
from edge_fleet.audit import record
from edge_fleet.errors import Conflict, NotFound
from edge_fleet.rollouts import members, rows
from edge_fleet.rollouts.operator import ATTEMPTS
from edge_fleet.rollouts.parts import Part
from edge_fleet.rollouts.phases import ENDED, GUARDED, RETURNING, Phase
from edge_fleet.rollouts.reached import Left, Reached
from edge_fleet.rollouts.rows import Rollout, RolloutChanged
from edge_fleet.rollouts.storing import announce, send_back
from edge_fleet.schema import devices
from edge_fleet.services import Services


class DeviceOrder(StrEnum):
    """What can be ordered of one device."""

    SKIP = "skip"  # it is not given the release; when that is on its way, it keeps what it has
    RETRY = "retry"  # it is given the release again, whatever its budgets say
    ROLLBACK = "rollback"  # it goes back to what it had, and counts no more


def order_device(
    services: Services, rollout: str, device: str, order: DeviceOrder, actor: str, why: str = ""
) -> None:
    """Carry an order to one device of a rollout out.

    Raises:
        NotFound: No such rollout or device.
        Conflict: It makes no sense for this device now.
    """
    now_ms = services.now_ms()
    for _ in range(ATTEMPTS):
        try:
            with services.store.write() as connection:
                found = rows.load(connection, rollout)
                if connection.execute(select(devices.c.id).where(devices.c.id == device)).first() is None:
                    raise NotFound(f"no device {device!r:.80}")
                row = next(iter(members.load_members(connection, rollout, [device])), None)
                sent = _ORDERS[order](connection, found, row, device, actor, why, now_ms)
                rows.touch(connection, found)
                record(connection, actor, f"rollout device {order}", rollout, now_ms, device=device, why=why)
        except RolloutChanged:
            continue
        announce(services, found, None, "", [device] if sent else [])
        return
    raise Conflict(f"rollout {rollout} changes faster than the order can be given; try again")


def offered(phase: Phase, row: Reached | None, left_out: bool) -> tuple[DeviceOrder, ...]:
    """What makes sense for a device, as far as it and the rollout say; `order_device` has the last word.

    Args:
        row: None for one that was not reached.
        left_out: Whether an operator has left it out.
    """
    found = []
    begins = phase in GUARDED and phase is not Phase.PAUSED
    again = left_out if row is None else row.back is None and _failed(row)
    if begins and again:
        found.append(DeviceOrder.RETRY)
    has_it = row is not None and row.member.state is State.CONFIRMED
    going_back = row is not None and row.back is not None
    if phase not in ENDED | RETURNING and not has_it and not left_out and not going_back:
        found.append(DeviceOrder.SKIP)
    if row is not None and ((row.back is None and row.left is None) or row.is_stuck):
        found.append(DeviceOrder.ROLLBACK)
    return tuple(found)


def _failed(row: Reached) -> bool:
    return row.member.state in FAILED | {State.UNREACHABLE} or row.left is Left.SKIPPED


def _skip(
    connection: Connection,
    rollout: Rollout,
    row: Reached | None,
    device: str,
    actor: str,
    why: str,
    now_ms: int,
) -> bool:
    if rollout.position.phase in ENDED | RETURNING:
        raise Conflict(f"rollout {rollout.id} is {rollout.position.phase}: it begins no device any more")
    if row is not None and row.back is not None:
        raise Conflict(f"{device} was sent back already: there is nothing to leave out")
    if row is not None and row.member.state is State.CONFIRMED:
        raise Conflict(f"{device} has the release already; `rollback` sends it back")
    members.skip(connection, rollout.id, device, actor, why, now_ms)
    if row is None:
        return False
    members.change(connection, rollout.id, device, left_as=Left.SKIPPED)
    newest = orders.newest(connection, device)
    prepared = row.part is not Part.SWITCH and row.member.state not in FAILED
    if not (row.member.state in OPEN or prepared) or newest is None or newest.number != row.number:
        return False
    # it may be downloading, or on trial: an assignment of nothing makes it keep what it has
    orders.issue(connection, device, None, now_ms, rollout=rollout.id, stage=row.member.stage)
    return True


def _retry(
    connection: Connection,
    rollout: Rollout,
    row: Reached | None,
    device: str,
    actor: str,
    why: str,
    now_ms: int,
) -> bool:
    if rollout.position.phase not in GUARDED or rollout.position.phase is Phase.PAUSED:
        raise Conflict(f"rollout {rollout.id} is {rollout.position.phase}: it begins no device now")
    members.unskip(connection, rollout.id, device)
    if row is None:
        return False  # its stage begins it
    newest = orders.newest(connection, device)
    ours = newest is not None and newest.rollout == rollout.id
    if not _failed(row) or row.back is not None or not ours:
        raise Conflict(f"{device} is {row.left or row.state}: there is nothing to try again")
    # no more than the others of its stage are given now
    part = rollout.position.part if row.member.stage == rollout.position.stage else Part.SWITCH
    number = orders.issue(
        connection,
        device,
        row.member.bundle,
        now_ms,
        rollout=rollout.id,
        stage=row.member.stage,
        permit_downgrade=rollout.plan.permit_downgrade,
        terms=rollout.plan.terms_of(part),
    )
    members.change(connection, rollout.id, device, number=number, left_as=None)
    return True


def _rollback(
    connection: Connection,
    rollout: Rollout,
    row: Reached | None,
    device: str,
    actor: str,
    why: str,
    now_ms: int,
) -> bool:
    if row is None or row.left is Left.SKIPPED:
        raise Conflict(f"rollout {rollout.id} has not reached {device}: there is nothing to send back")
    if row.back is not None and not row.is_stuck:
        is_back = row.back_state is State.CONFIRMED
        raise Conflict(f"{device} is {'back already' if is_back else 'on its way back: its order stands'}")
    if not send_back(connection, rollout, row, now_ms):
        raise Conflict(f"a later assignment has taken {device} over since")
    if row.back is not None:
        return True  # told once more; what it counts for is not changed by that
    members.skip(connection, rollout.id, device, actor, why, now_ms)
    members.change(connection, rollout.id, device, left_as=Left.SENT_BACK)
    return True


_ORDERS: Mapping[DeviceOrder, Callable[[Connection, Rollout, Reached | None, str, str, str, int], bool]] = {
    DeviceOrder.SKIP: _skip,
    DeviceOrder.RETRY: _retry,
    DeviceOrder.ROLLBACK: _rollback,
}
