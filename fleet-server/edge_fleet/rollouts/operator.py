"""What operators may order of a rollout, one function each: for the API, the command line and the console.

Orders to single devices are in `device_orders.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from edge_fleet.access.two_people import require_approved
from edge_fleet.audit import record
from edge_fleet.errors import Conflict, Forbidden
from edge_fleet.gates import Outcome
from edge_fleet.rollouts import candidates, rows
from edge_fleet.rollouts.decision import decide, passes
from edge_fleet.rollouts.looking import evidence_of, look, look_for
from edge_fleet.rollouts.outlook import left_out, overlap
from edge_fleet.rollouts.permission import require_permitted
from edge_fleet.rollouts.phases import Event, Phase, TransitionInvalid, step
from edge_fleet.rollouts.plan import Kind, RolloutPlan, at_s
from edge_fleet.rollouts.preview import unmade
from edge_fleet.rollouts.rows import Rollout, RolloutChanged
from edge_fleet.rollouts.seen import Seen
from edge_fleet.rollouts.storing import announce, move
from edge_fleet.services import Services

ATTEMPTS = 5  # of an order that meets looks of the conductor

# What an order comes to, given where the rollout stands; a Conflict when it may not be.
Meaning = Callable[[Connection, Rollout], Event]


class Operator:
    """Gives orders to the rollouts of one server."""

    def __init__(self, services: Services, seen: Seen | None = None) -> None:
        """Take the server's parts.

        Args:
            seen: Where the rollout stood for whoever gives the order; when it stands elsewhere by now, the
                order is a Conflict. None: it is given to the rollout as it is.
        """
        self._services, self._seen = services, seen

    def create(self, plan: RolloutPlan, actor: str, at_once: bool = False) -> str:
        """Store a rollout as a draft; returns its id.

        Args:
            at_once: It is to be started now. A rehearsal is not made then where it would reach nobody: a game
                day is of one day, and nobody starts its draft later.

        Raises:
            NotFound: The release has not been published.
            Conflict: Such a rehearsal would reach nobody, or another rollout is at work on its devices.
        """
        with self._services.store.write() as connection:
            release = candidates.load_release(connection, plan.model, plan.version)
            now_ms = self._services.now_ms()
            if at_once and plan.kind is Kind.REHEARSAL:
                _require_free(connection, unmade(connection, plan, actor, now_ms), now_ms)
            rollout = rows.create(connection, plan, release.counter, actor, now_ms)
            record(connection, actor, "rollout created", rollout, now_ms, release=plan.release)
        self._services.bus.publish("rollout", rollout=rollout)
        return rollout

    def start(self, rollout: str, actor: str) -> None:
        """Begin the first stage, or wait for the plan's start_at.

        Raises:
            NotFound: No such rollout.
            Conflict: It has been started, it would reach nobody, another rollout of the same priority
                is at work on its devices, or it or its release is not approved as the policies ask.
        """
        now_ms = self._services.now_ms()

        def meaning(connection: Connection, found: Rollout) -> Event:
            if found.position.phase is not Phase.DRAFT:
                return Event.STARTED
            require_permitted(connection, found.counter)
            require_approved(connection, found, now_ms)
            _require_free(connection, found, now_ms)
            begins = at_s(found.plan.start_at)
            later = begins is not None and begins * 1000 > now_ms
            return Event.SCHEDULED if later else Event.STARTED

        self._order(rollout, meaning, actor, f"started by {actor}")

    def pause(self, rollout: str, actor: str) -> None:
        """Begin no further device; those that are assigned go on, and the gates keep watching.

        Raises:
            NotFound, Conflict: No such rollout, or not in a phase that allows it.
        """
        self._order(rollout, _always(Event.PAUSED), actor, f"paused by {actor}")

    def resume(self, rollout: str, actor: str) -> None:
        """Go on; the stage bakes anew, and a gate that still fails stops it again.

        Raises:
            NotFound, Conflict: No such rollout, or not in a phase that allows it.
        """
        self._order(rollout, _always(Event.RESUMED), actor, f"resumed by {actor}")

    def advance(self, rollout: str, actor: str) -> None:
        """Do not wait any longer: begin now, or take the stage or its first part as passed.

        It never leads past a failed gate.

        Raises:
            NotFound: No such rollout.
            Conflict: Not in a phase that allows it, or a gate fails, or its release may not be rolled out.
        """

        def meaning(connection: Connection, found: Rollout) -> Event:
            if found.position.phase is Phase.SCHEDULED:
                require_permitted(connection, found.counter)
                return Event.STARTED
            if found.position.phase is Phase.OPEN:
                return Event.FINISHED
            event = passes(found.plan, found.position)
            step(found.position, event, self._services.now_ms() / 1000)  # refuse before evidence is read
            _, view = look(connection, rollout, self._services.now_ms())
            evidence = evidence_of(connection, found, view.members)
            judged = decide(found.plan, found.position, evidence, self._services.now_ms() / 1000)
            failed = [v for v in judged.verdicts if v.outcome is Outcome.FAIL]
            if failed:
                raise Conflict(
                    f"rollout {rollout} cannot be advanced past a failed gate: "
                    + "; ".join(f"{v.gate}: {v.reason}" for v in failed)
                )
            return event

        self._order(rollout, meaning, actor, f"advanced by {actor}")

    def abort(self, rollout: str, actor: str, why: str = "") -> None:
        """Stop for good; devices keep what they have.

        Raises:
            NotFound, Conflict: No such rollout, or not in a phase that allows it.
        """
        told = f"aborted by {actor}" + (f": {why}" if why else "")
        self._order(rollout, _always(Event.ABORTED), actor, told)

    def reject(self, rollout: str, actor: str, why: str = "") -> None:
        """Say no to a draft that somebody else made; it is over.

        Raises:
            NotFound, Conflict: No such rollout, or it has begun.
            Forbidden: The actor made it, and may abort it.
        """

        def meaning(_connection: Connection, found: Rollout) -> Event:
            if found.created_by == actor[:64]:
                raise Forbidden(f"{actor} made rollout {rollout}; whoever made it aborts it")
            if found.position.phase is not Phase.DRAFT:
                raise Conflict(f"rollout {rollout} is {found.position.phase}; only a draft is rejected")
            return Event.ABORTED

        self._order(rollout, meaning, actor, f"rejected by {actor}" + (f": {why}" if why else ""))

    def recall(self, rollout: str, actor: str, why: str = "") -> None:
        """Send every device back to what it had, also after the end; once more those that could not.

        Raises:
            NotFound, Conflict: No such rollout, or not in a phase that allows it.
        """
        told = f"rolled back by {actor}" + (f": {why}" if why else "")

        def meaning(connection: Connection, found: Rollout) -> Event:
            if found.position.phase is not Phase.ROLLED_BACK:
                return Event.RECALLED
            _, view = look(connection, rollout, self._services.now_ms())
            if not any(row.is_stuck for row in view.counted):
                raise Conflict(
                    f"rollout {rollout} is rolled back: every device is, or its order waits for it"
                )
            return Event.RECALLED

        self._order(rollout, meaning, actor, told)

    def _order(self, rollout: str, meaning: Meaning, actor: str, why: str) -> None:
        """Carry an order out, in one transaction with its line in the audit log."""
        now_ms = self._services.now_ms()
        for _ in range(ATTEMPTS):
            try:
                with self._services.store.write() as connection:
                    found = rows.load(connection, rollout)
                    if self._seen is not None and not self._seen.holds(found.position):
                        raise Conflict(_moved_on(found, self._seen))
                    event = meaning(connection, found)
                    view = look_for(connection, found, event, now_ms)
                    sent = move(connection, found, view, event, actor, why, now_ms)
                    record(connection, actor, f"rollout {event}", rollout, now_ms, why=why)
            except TransitionInvalid as error:
                raise Conflict(f"rollout {rollout}: {error}") from None
            except RolloutChanged:
                continue
            announce(self._services, found, event, why, sent)
            return
        raise Conflict(f"rollout {rollout} changes faster than the order can be given; try again")


def _moved_on(found: Rollout, seen: Seen) -> str:
    now, stages = found.position, len(found.plan.stages)
    where = f" in stage {now.stage + 1} of {stages}" if now.stage >= 0 else ""
    before = f" in stage {seen.stage + 1}" if seen.stage != now.stage and seen.stage >= 0 else ""
    if seen.part is not now.part:
        where, before = f"{where} (part {now.part})", f"{before} (part {seen.part})"
    told = f" ({found.why})" if found.why else ""
    return (
        f"nothing was done: rollout {found.id} is {now.phase}{where} by now{told}, "
        f"and the order was given to one that was {seen.phase}{before}; look at it as it is and decide again"
    )


def _always(event: Event) -> Meaning:
    return lambda _connection, _rollout: event


def _require_free(connection: Connection, rollout: Rollout, now_ms: int) -> None:
    """See that it would reach somebody, and that none of its own priority is at work on its devices."""
    deadline = rollout.plan.deadline
    if deadline is not None and 1000 * deadline.timestamp() <= now_ms:
        raise Conflict(
            f"{f'rollout {rollout.id}' if rollout.id else f'the {rollout.plan.kind}'} would reach no device: "
            f"its deadline {deadline.isoformat()} has passed; make a plan with a later one"
        )
    other = overlap(connection, rollout, now_ms)
    if other is not None:
        device, other_rollout = other
        raise Conflict(
            f"rollout {other_rollout} is at work on {device}, which {rollout.plan.select!r} names too; "
            "a device takes part in one rollout at a time (another priority would settle who comes first)"
        )
    seen, without = left_out(connection, rollout, now_ms, 0, 3)
    if not seen.reaches:
        reasons = "; ".join(f"{t.device}: {t.reason}" for t in without)
        raise Conflict(
            f"{f'rollout {rollout.id}' if rollout.id else f'the {rollout.plan.kind}'} would reach no device: "
            + (reasons or f"none matches {rollout.plan.select!r}")
        )
