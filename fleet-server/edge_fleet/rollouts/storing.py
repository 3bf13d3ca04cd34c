"""Carrying a step out: its rows, in the caller's one transaction, and the news of it afterwards."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from edge_fleet import orders
from edge_fleet.assignment import Event as AssignmentEvent
from edge_fleet.rollouts import candidates, members, rows
from edge_fleet.rollouts.beginning import Begin
from edge_fleet.rollouts.engine import Step, View, goes_back, lets_go
from edge_fleet.rollouts.phases import Event, step
from edge_fleet.rollouts.reached import Reached
from edge_fleet.rollouts.retries import back_name
from edge_fleet.rollouts.rows import Rollout
from edge_fleet.services import Services

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Done:
    """What came of a step.

    Args:
        news: Something has changed that people see.
        sent: Devices whose assignment is to be sent.
    """

    news: bool
    sent: tuple[str, ...] = ()


def carry_out(
    connection: Connection, rollout: Rollout, view: View, found: Step, actor: str, now_ms: int
) -> Done:
    """Store all of a step.

    Raises:
        RolloutChanged: The rollout is no longer what the step rests on; nothing may be committed.
    """
    news = rows.explain(connection, rollout, found.why or rollout.why, found.verdicts)
    by_id = view.company.once("by id", lambda: {row.device: row for row in view.reached})
    for device in found.silent:
        row = by_id[device]
        number = row.number if row.back is None else row.back
        orders.note(connection, device, number, AssignmentEvent.SILENT, now_ms)
    if found.begin:
        _begin(connection, rollout, by_id, found.begin, now_ms)
    sent = [one.device for one in found.begin]
    for device, cause in found.back:
        row = by_id[device]
        if send_back(connection, rollout, row, now_ms):
            used = Counter(row.used) + Counter({back_name(cause): 1})
            members.change(connection, rollout.id, device, retries=dict(used))
            sent.append(device)
    if found.event is not None:
        sent += move(connection, rollout, view, found.event, actor, found.why, now_ms)
    return Done(news or bool(found.silent or sent) or found.event is not None, tuple(sent))


def move(
    connection: Connection, rollout: Rollout, view: View, event: Event, actor: str, why: str, now_ms: int
) -> list[str]:
    """Store a new position with the assignments that it brings; returns the devices to be sent them."""
    position = step(rollout.position, event, now_ms / 1000, rollout.plan.first_part)
    rows.move(connection, rollout, position, event, actor, why)
    back = [
        row.device for row in goes_back(view, position.phase) if send_back(connection, rollout, row, now_ms)
    ]
    return back + [
        row.device for row in lets_go(view, position.phase) if let_go(connection, rollout, row, now_ms)
    ]


def let_go(connection: Connection, rollout: Rollout, row: Reached, now_ms: int) -> bool:
    """Tell a device that was prepared in vain to keep what it has; False when that is not ours to say."""
    newest = orders.newest(connection, row.device)
    if newest is None or newest.number != row.number:
        return False
    back = orders.issue(connection, row.device, None, now_ms, rollout=rollout.id, stage=row.member.stage)
    members.change(connection, rollout.id, row.device, back=back)
    return True


def send_back(connection: Connection, rollout: Rollout, row: Reached, now_ms: int) -> bool:
    """Give a device the assignment that takes the release away again; False when it is not ours to give.

    One that could not go back is told once more, under a new number: a device answers each once.
    """
    newest = orders.newest(connection, row.device)
    # a later rollout has the device now: what it runs is no longer ours to undo
    if newest is None or newest.number != (row.number if row.back is None else row.back):
        return False
    back = orders.issue(
        connection,
        row.device,
        row.member.previous,
        now_ms,
        rollout=rollout.id,
        stage=row.member.stage,
        permit_downgrade=True,
    )
    members.change(connection, rollout.id, row.device, back=back)
    if row.member.previous is None:
        # nothing to go back to: the order only stops the release from being offered again
        orders.note(connection, row.device, back, AssignmentEvent.CONFIRMED, now_ms)
    return True


def announce(
    services: Services, rollout: Rollout, event: Event | None, why: str, sent: Sequence[str]
) -> None:
    """Let what was stored be sent and seen."""
    if event is not None:
        log.info("rollout %s", event, extra={"rollout": rollout.id, "why": why})
    if sent:
        services.dispatch.soon(sent)
    services.bus.publish("rollout", rollout=rollout.id)


def _begin(
    connection: Connection,
    rollout: Rollout,
    reached: dict[str, Reached],
    begin: Sequence[Begin],
    now_ms: int,
) -> None:
    fresh = [one.device for one in begin if one.device not in reached]
    runs = candidates.active_bundles(connection, fresh)
    known = candidates.known_bundles(connection, set(runs.values()))
    for one in begin:
        row = reached.get(one.device)
        stage = rollout.position.stage if row is None else row.member.stage
        number = orders.issue(
            connection,
            one.device,
            one.bundle,
            now_ms,
            rollout=rollout.id,
            stage=stage,
            permit_downgrade=rollout.plan.permit_downgrade,
            expires_ms=0 if one.expires_s is None else round(one.expires_s * 1000),
            terms=rollout.plan.terms_of(one.part),
        )
        if row is None:
            previous = runs.get(one.device)
            members.add(
                connection,
                rollout.id,
                stage,
                one.device,
                one.bundle,
                previous if previous in known else None,
                number,
            )
        else:
            used = Counter(row.used)
            if one.cause is not None:
                used[one.cause] += 1
            members.change(connection, rollout.id, one.device, number=number, retries=dict(used))
