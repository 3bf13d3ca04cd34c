"""The conductor: looks at every rollout in turn, stores what follows, then lets it be sent.

Everything that a step changes - the position, the assignments, the history - is one transaction, and
sending only ever repeats what is stored. So the server may die between any two lines and go on where
it was. An operator's order and a tick that meet do not mix: the second is refused, and tries again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from edge_fleet import orders
from edge_fleet.assignment import SETTLED, State
from edge_fleet.assignment import Event as AssignmentEvent
from edge_fleet.audit import record
from edge_fleet.errors import Conflict
from edge_fleet.evidence import StageEvidence, gather
from edge_fleet.lineage.stages import require_rollable
from edge_fleet.rollouts import candidates, readings, rows, selector, targets
from edge_fleet.rollouts import members as member_rows
from edge_fleet.rollouts.decision import Decision, decide, decide_return
from edge_fleet.rollouts.members import MemberRow
from edge_fleet.rollouts.phases import WATCHED, Event, Phase, TransitionInvalid, step
from edge_fleet.rollouts.plan import RolloutPlan
from edge_fleet.rollouts.rows import Rollout, RolloutChanged
from edge_fleet.services import Services

log = logging.getLogger(__name__)

ACTOR = "conductor"
TICK_S = 1.0
IDLE_SHARE = 4  # rests four times as long as a tick took: at most a fifth of one core
# A device that speaks but does not get on with its assignment is given longer than a silent one.
STALLED_FACTOR = 4
ATTEMPTS = 5  # of an operator's order that meets ticks


class Conductor:
    """Moves the rollouts of one server."""

    def __init__(self, services: Services) -> None:
        """Take the server's parts; `run` does the work, again and again."""
        self._services = services
        self.failures = 0  # rollouts, or rounds of all of them, that could not be looked at

    # operators' orders

    def create(self, plan: RolloutPlan, actor: str) -> str:
        """Store a rollout as a draft; returns its id.

        Raises:
            NotFound: The release has not been published.
        """
        with self._services.store.write() as connection:
            release = candidates.load_release(connection, plan.model, plan.version)
            now_ms = self._services.now_ms()
            rollout = rows.create(connection, plan, release.counter, actor, now_ms)
            record(connection, actor, "rollout created", rollout, now_ms, release=plan.release)
        self._tell(rollout)
        return rollout

    def start(self, rollout: str, actor: str) -> None:
        """Begin the first stage.

        Raises:
            NotFound: No such rollout.
            Conflict: It has been started, it would reach nobody, another rollout is at work on its
                devices, or its release is not approved as the fleet's policy asks.
        """

        def check(connection: Connection, found: Rollout) -> None:
            require_rollable(connection, found.counter)
            chosen = candidates.load_targets(connection, found)
            other = _overlap(connection, found)
            if other is not None:
                device, other_rollout = other
                raise Conflict(
                    f"rollout {other_rollout} is at work on {device}, which {found.plan.select!r} names too; "
                    "a device takes part in one rollout at a time"
                )
            if not any(target.bundle for target in chosen):
                reasons = "; ".join(f"{t.device}: {t.reason}" for t in chosen[:3])
                raise Conflict(
                    f"rollout {found.id} would reach no device: "
                    + (reasons or f"none matches {found.plan.select!r}")
                )

        self._order(rollout, Event.STARTED, actor, f"started by {actor}", check)

    def pause(self, rollout: str, actor: str) -> None:
        """Begin no further stage; devices that are assigned go on, and the gates keep watching.

        Raises:
            NotFound, Conflict: No such rollout, or not in a phase that allows it.
        """
        self._order(rollout, Event.PAUSED, actor, f"paused by {actor}")

    def resume(self, rollout: str, actor: str) -> None:
        """Go on; the stage bakes anew.

        Raises:
            NotFound, Conflict: No such rollout, or not in a phase that allows it.
        """
        self._order(rollout, Event.RESUMED, actor, f"resumed by {actor}")

    def abort(self, rollout: str, actor: str) -> None:
        """Stop for good; devices keep what they have.

        Raises:
            NotFound, Conflict: No such rollout, or not in a phase that allows it.
        """
        self._order(rollout, Event.ABORTED, actor, f"aborted by {actor}")

    def recall(self, rollout: str, actor: str, why: str = "") -> None:
        """Send every device back to what it had, also after the rollout has ended.

        Raises:
            NotFound, Conflict: No such rollout, or not in a phase that allows it.
        """
        told = f"rolled back by {actor}" + (f": {why}" if why else "")
        self._order(rollout, Event.RECALLED, actor, told)

    # the loop

    def run(self, stop: threading.Event) -> None:
        """Look after the rollouts until told to stop."""
        rest_s = TICK_S
        while not stop.wait(rest_s):
            begun = time.monotonic()
            self.attend(self._services.now_ms())
            rest_s = max(TICK_S, IDLE_SHARE * (time.monotonic() - begun))

    def attend(self, now_ms: int) -> None:
        """Tick; what goes wrong with one rollout, or while the database is away, ends nothing else."""
        try:
            with self._services.store.read() as connection:
                watched = rows.load_ids(connection, WATCHED)
        except SQLAlchemyError as error:
            self.failures += 1
            log.error("rollouts not looked at", extra={"reason": str(error)[:300]})
            return
        for rollout in watched:
            try:
                self.tick(rollout, now_ms)
            except Exception:  # the outermost loop: the watch over the others must go on
                self.failures += 1
                log.exception("rollout not looked at", extra={"rollout": rollout})

    def tick(self, rollout: str, now_ms: int) -> None:
        """Do for a rollout what its evidence and the time ask for."""
        try:
            while self._advance(rollout, now_ms):
                pass
        except RolloutChanged:  # by an operator's order: the next tick sees what it has become
            log.info("rollout changed under the tick", extra={"rollout": rollout})

    def _advance(self, rollout: str, now_ms: int) -> bool:
        """One step of one rollout; True when there may be another at once."""
        store = self._services.store
        with store.read() as connection:
            found = rows.load(connection, rollout)
            members: Sequence[MemberRow] = member_rows.load_members(connection, rollout)
        if found.position.phase not in WATCHED:
            return False
        members = self._note_silence(found, members, now_ms)
        self._send_pending(members)
        if found.position.phase is Phase.ROLLING_BACK:
            return self._watch_return(found, members, now_ms)
        if found.position.phase is Phase.RUNNING and self._reach(found, members, now_ms):
            return True
        with store.read() as connection:
            evidence = self.evidence(connection, found, members)
        decision = decide(found.plan, found.position, evidence, now_ms / 1000)
        return self._carry_out(found, decision, now_ms)

    def evidence(
        self, connection: Connection, rollout: Rollout, members: Sequence[MemberRow]
    ) -> StageEvidence:
        """What is known about a rollout that has been started."""
        assert rollout.started_ms is not None, f"rollout {rollout.id} has not been started"
        reached = [row.member for row in members]
        digests = {member.bundle for member in reached} | {m.previous for m in reached if m.previous}
        return gather(
            reached,
            readings.load_readings(connection, reached, rollout.started_ms),
            readings.load_facts(connection, digests),
            rollout.position.stage,
            rollout.started_ms / 1000,
            candidates.count_bundles(connection, rollout.counter),
        )

    def _reach(self, rollout: Rollout, members: Sequence[MemberRow], now_ms: int) -> bool:
        """Assign the release to the devices that the stage has still to reach; True when there were any.

        Devices that enrol while the last stage is being reached join it here.
        """
        stage = rollout.plan.stages[rollout.position.stage]
        reached = [row.member.device for row in members]
        with self._services.store.write() as connection:
            devices = {device.id: device for device in candidates.load_devices(connection, rollout.id)}
            due = targets.due(rollout.id, stage, reached, candidates.load_targets(connection, rollout))
            if not due:
                return False
            rows.explain(connection, rollout, f"assigned to {len(due)} devices", None)
            active = {device.active for device in devices.values() if device.active}
            known = candidates.known_bundles(connection, active)
            for target in due:
                previous = devices[target.device].active
                number = orders.issue(
                    connection,
                    target.device,
                    target.bundle,
                    now_ms,
                    rollout=rollout.id,
                    stage=rollout.position.stage,
                    permit_downgrade=rollout.plan.permit_downgrade,
                )
                member_rows.add_member(
                    connection,
                    rollout.id,
                    rollout.position.stage,
                    target,
                    previous if previous in known else None,
                    number,
                )
        self._services.dispatch.soon([target.device for target in due])
        self._tell(rollout.id)
        return True

    def _carry_out(self, rollout: Rollout, decision: Decision, now_ms: int) -> bool:
        with self._services.store.write() as connection:
            why = decision.why or rollout.why
            news = rows.explain(connection, rollout, why, decision.verdicts)
            sent: list[str] = []
            if decision.event is not None:
                sent = self._move(connection, rollout, decision.event, ACTOR, decision.why, now_ms)
        if decision.event is None:
            if news:
                self._tell(rollout.id)
            return False
        self._announce(rollout, decision.event, decision.why, sent)
        return True

    def _watch_return(self, rollout: Rollout, members: Sequence[MemberRow], now_ms: int) -> bool:
        event, why = decide_return(
            {row.member.device: row.back_state for row in members if row.back_state is not None}
        )
        if event is None:
            return False
        # `why` keeps the reason for going back: that is what a person will look for
        told = f"{rollout.why}; {why}"
        with self._services.store.write() as connection:
            self._move(connection, rollout, event, ACTOR, told, now_ms)
        self._announce(rollout, event, why, [])
        return False

    def _move(
        self, connection: Connection, rollout: Rollout, event: Event, actor: str, why: str, now_ms: int
    ) -> list[str]:
        """Store a step with all that belongs to it; returns the devices that it assigned something."""
        position = step(rollout.position, event, now_ms / 1000)
        rows.move(connection, rollout, position, event, actor, why)
        if position.phase is not Phase.ROLLING_BACK:
            return []
        sent = []
        for row in member_rows.load_members(connection, rollout.id):
            device = row.member.device
            newest = orders.newest(connection, device)
            # a later rollout has the device now: what it runs is no longer ours to undo
            if row.back is not None or newest is None or newest.number != row.number:
                continue
            back = orders.issue(
                connection,
                device,
                row.member.previous,
                now_ms,
                rollout=rollout.id,
                stage=row.member.stage,
                permit_downgrade=True,
            )
            member_rows.set_back(connection, rollout.id, device, back)
            if row.member.previous is None:
                # nothing to go back to: the order only stops the release from being offered again
                orders.note(connection, device, back, AssignmentEvent.CONFIRMED, now_ms)
            sent.append(device)
        return sent

    def _note_silence(
        self, rollout: Rollout, members: Sequence[MemberRow], now_ms: int
    ) -> Sequence[MemberRow]:
        """Mark assignments of devices that have been silent, or stalled, for too long."""
        silence_ms = rollout.plan.silence_s * 1000
        silent = []
        for row in members:
            state = row.member.state if row.back_state is None else row.back_state
            quiet_since = max(row.changed_ms, row.last_seen_ms or 0)
            stalled = now_ms - row.changed_ms > STALLED_FACTOR * silence_ms
            if state not in SETTLED and (now_ms - quiet_since > silence_ms or stalled):
                silent.append(row)
        if not silent:
            return members
        with self._services.store.write() as connection:
            for row in silent:
                number = row.number if row.back is None else row.back
                orders.note(connection, row.member.device, number, AssignmentEvent.SILENT, now_ms)
            return member_rows.load_members(connection, rollout.id)

    def _send_pending(self, members: Sequence[MemberRow]) -> None:
        """Send what was stored and not sent: the server stopped in between."""
        pending = [
            row.member.device
            for row in members
            if (row.member.state if row.back_state is None else row.back_state) is State.PENDING
        ]
        if pending:
            self._services.dispatch.soon(pending)

    def _order(
        self,
        rollout: str,
        event: Event,
        actor: str,
        why: str,
        check: Callable[[Connection, Rollout], None] = lambda _connection, _rollout: None,
    ) -> None:
        """Carry out an operator's order."""
        now_ms = self._services.now_ms()
        for _ in range(ATTEMPTS):
            try:
                with self._services.store.write() as connection:
                    found = rows.load(connection, rollout)
                    step(found.position, event, now_ms / 1000)  # refuse before anything is checked
                    check(connection, found)
                    sent = self._move(connection, found, event, actor, why, now_ms)
                    record(connection, actor, f"rollout {event}", rollout, now_ms)
            except TransitionInvalid as error:
                raise Conflict(f"rollout {rollout}: {error}") from None
            except RolloutChanged:
                continue
            self._announce(found, event, why, sent)
            return
        raise Conflict(f"rollout {rollout} changes faster than the order can be given; try again")

    def _announce(self, rollout: Rollout, event: Event, why: str, sent: Sequence[str]) -> None:
        log.info("rollout %s", event, extra={"rollout": rollout.id, "why": why})
        if sent:
            self._services.dispatch.soon(sent)
        self._tell(rollout.id)

    def _tell(self, rollout: str) -> None:
        self._services.bus.publish("rollout", rollout=rollout)


def _overlap(connection: Connection, rollout: Rollout) -> tuple[str, str] | None:
    """A device that another rollout at work names too, and that rollout."""
    mine = selector.parse(rollout.plan.select)
    devices = candidates.load_devices(connection, rollout.id)
    for other in rows.load_all(connection, WATCHED):
        theirs = selector.parse(other.plan.select)
        for device in devices:
            where = (device.id, device.profile, device.labels)
            if mine.matches(*where) and theirs.matches(*where):
                return device.id, other.id
    return None
