"""The conductor: looks at every rollout in turn, stores what follows, then lets it be sent.

What follows is `engine.py`'s to say. Everything that a step changes - the position, the assignments,
the history - is one transaction, and sending only ever repeats what is stored. So the server may die
between any two lines and go on where it was. An operator's order and a look that meet do not mix: the
second is refused, and tries again.
"""

from __future__ import annotations

import logging
import threading
import time

from sqlalchemy.exc import SQLAlchemyError

from edge_contracts.errors import one_line
from edge_fleet.assignment import State
from edge_fleet.rollouts import rows
from edge_fleet.rollouts.circles import leave
from edge_fleet.rollouts.engine import NOTHING, View, advance
from edge_fleet.rollouts.looking import Known, due_of, evidence_of, look
from edge_fleet.rollouts.phases import WATCHED
from edge_fleet.rollouts.rows import RolloutChanged
from edge_fleet.rollouts.storing import announce, carry_out
from edge_fleet.services import Services

log = logging.getLogger(__name__)

ACTOR = "conductor"
TICK_S = 1.0
IDLE_SHARE = 4  # rests four times as long as a tick took: at most a fifth of one core


class Conductor:
    """Moves the rollouts of one server."""

    def __init__(self, services: Services) -> None:
        """Take the server's parts; `run` does the work, again and again."""
        self._services = services
        self._known: dict[str, Known] = {}  # by rollout
        self.failures = 0  # rollouts, or rounds of all of them, that could not be looked at

    def run(self, stop: threading.Event) -> None:
        """Look after the rollouts until told to stop."""
        rest_s = TICK_S
        while not stop.wait(rest_s):
            begun = time.monotonic()
            self.attend(self._services.now_ms())
            rest_s = max(TICK_S, IDLE_SHARE * (time.monotonic() - begun))

    def attend(self, now_ms: int) -> None:
        """Look at each; what goes wrong with one, or while the database is away, ends nothing else."""
        try:
            with self._services.store.read() as connection:
                watched = rows.load_ids(connection, WATCHED)
        except SQLAlchemyError as error:
            self.failures += 1
            log.error("rollouts not looked at", extra={"reason": one_line(error)})
            return
        self._known = {rollout: self._known.get(rollout, Known()) for rollout in watched}
        for rollout in watched:
            try:
                self.tick(rollout, now_ms)
            except Exception:  # the outermost loop: the watch over the others must go on
                self.failures += 1
                log.exception("rollout not looked at", extra={"rollout": rollout})

    def tick(self, rollout: str, now_ms: int) -> None:
        """Do for a rollout what its evidence and the time ask for."""
        try:
            while self._look(rollout, now_ms):
                pass
        except RolloutChanged:  # by an operator's order: the next tick sees what it has become
            log.info("rollout changed under the tick", extra={"rollout": rollout})

    def _look(self, rollout: str, now_ms: int) -> bool:
        """One look at one rollout; True when there may be more to find at once."""
        store = self._services.store
        known = self._known_of(rollout)
        with store.read() as connection:
            found, view = look(connection, rollout, now_ms, known.roster)
            step = advance(
                view,
                now_ms / 1000,
                lambda: leave(
                    connection, found, due_of(connection, found, now_ms, known), now_ms, self._known_of
                ),
                lambda members: evidence_of(connection, found, members, known.readings),
            )
        self._send_pending(view)
        if step == NOTHING:
            return False
        with store.write() as connection:
            done = carry_out(connection, found, view, step, ACTOR, now_ms)
        if done.news:
            announce(self._services, found, step.event, step.why, done.sent)
        return step.looks_again

    def _known_of(self, rollout: str) -> Known:
        return self._known.setdefault(rollout, Known())

    def _send_pending(self, view: View) -> None:
        """Send what was stored and not sent: the server stopped in between."""
        pending = view.company.once(
            "pending", lambda: [row.device for row in view.counted if row.state is State.PENDING]
        )
        if pending:
            self._services.dispatch.soon(pending)
