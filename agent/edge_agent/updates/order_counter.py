"""The daemon's side of orders: carries out what a person at the device asks, and answers.

An install by order goes the whole way of an update, with its trial on live inputs; the order is
answered when the trial begins, or when the bundle is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from edge_agent.device.config import DeviceConfig, distrust, follow, trust
from edge_agent.device.home import Home
from edge_agent.errors import AgentError, HomeInvalid, InstallRefused
from edge_agent.updates import orders
from edge_agent.updates.local import open_for, require_last_good
from edge_agent.updates.slots import Event, Held, Tell
from edge_agent.updates.updater import Updater
from edge_agent.updates.withdrawing import require_standing
from edge_contracts.errors import ContractError
from edge_contracts.keys import PublicKey

log = logging.getLogger(__name__)


class OrderCounter:
    """Where orders are taken; used from the agent's thread.

    Args:
        trust_changed: Called when other keys count.
        feedback: Takes the label of a request; what it gives is shown.
        lift: Takes something out of quarantine; what to answer.
        rotate: Makes a next key; what to answer.
    """

    def __init__(
        self,
        home: Home,
        config: DeviceConfig | None,
        updater: Updater,
        trust_changed: Callable[[], None],
        feedback: Callable[[str, str], object],
        lift: Callable[[str], str],
        rotate: Callable[[], str],
    ) -> None:
        """Take the parts."""
        self._lift, self._rotate = lift, rotate
        self._home, self._config, self._updater = home, config, updater
        self._trust_changed, self._feedback = trust_changed, feedback
        self._carried_out: set[str] = set()
        self._installing: tuple[str, str] | None = None  # name of the order, bundle

    def serve(self) -> None:
        """Carry out what was ordered since the last time."""
        if self._installing is not None:
            return
        for name, order in orders.take(self._home, self._carried_out):
            self._carried_out.add(name)
            self._serve(name, order)
            if self._installing is not None:
                return  # answered when the slots say what became of it

    def _serve(self, name: str, order: orders.Order) -> None:
        log.info("order", extra={"kind": order.kind})
        try:
            done = self._carry_out(name, order)
        except (AgentError, ContractError) as error:
            orders.answer(self._home, name, error.code, str(error))
            return
        if done:
            orders.answer(self._home, name, "", done)

    def tell(self, tell: Tell) -> None:
        """Something has happened to a bundle: it may be the one that was ordered."""
        if self._installing is None:
            return
        name, bundle = self._installing
        if tell.event == "assigned":
            self._installing = None
            orders.answer(self._home, name, "superseded", "not installed: the server has assigned another")
        if tell.bundle != bundle:
            return
        if tell.event == "trial-started":
            self._installing = None
            orders.answer(self._home, name, "", "installed; on trial with live inputs, see edge-agent status")
        elif tell.event in ("refused", "rolled-back"):
            self._installing = None
            orders.answer(self._home, name, tell.code or "refused", f"not installed: {tell.detail}")

    def _carry_out(self, name: str, order: orders.Order) -> str:
        """Do it; what to answer, or "" when the answer comes later."""
        change = distrust if order.kind == "distrust" else trust
        for text in order.keys:
            change(self._home, PublicKey.from_base64(text))
        if order.keys:
            self._trust_changed()
        if order.kind == "follow":
            statement = follow(self._home, self._config, order.statement.encode())
            if statement is not None:
                self._trust_changed()
            return "known already" if statement is None else "followed"
        if order.kind == "rollback":
            require_last_good(self._updater.slots)
            if not self._updater.is_stuck:
                self._updater.advance(Event.ROLLBACK)
            if self._updater.is_stuck:
                raise HomeInvalid("the disk takes no new state: see edge-agent status")
            return "went back to the last good bundle"
        if order.kind == "feedback":
            return str(self._feedback(order.request, order.label))
        if order.kind == "install":
            return self._install(name, order)
        if order.kind == "rotate":
            return self._rotate()
        if order.kind == "lift":
            return self._lift(order.subject)
        return "trusted no longer" if order.kind == "distrust" else "trusted"

    def _install(self, name: str, order: orders.Order) -> str:
        if self._updater.is_busy or self._updater.is_stuck:
            raise InstallRefused("an update is under way; wait for it (edge-agent status), or roll it back")
        bundle = open_for(self._home, orders.archive_of(self._home, order), None)
        slots = self._updater.slots
        if slots.bundle_in(slots.active) == bundle.digest:
            return "it is the bundle that runs already"
        require_standing(slots, bundle.digest)
        self._installing = (name, bundle.digest)
        self._updater.stage(bundle, Held(bundle.digest))
        return ""
