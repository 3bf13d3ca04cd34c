"""Whom the device obeys and whose bundles it believes, now; what changes that, and what obeys it.

The director's key is the config's, the publishers' come from there, from signed statements and from a person
at the device (`device/trust.py`); here they are held while the daemon runs. Used from the agent's thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from edge_agent.device.config import follow, read_config, trusted_publishers
from edge_agent.device.home import Home
from edge_agent.errors import AgentError
from edge_agent.updates.slots import Tell
from edge_contracts.errors import ContractError
from edge_contracts.messages import Assignment, unseal
from edge_contracts.topics import Channel, topic

log = logging.getLogger(__name__)


class Allegiance:
    """The keys that count.

    Args:
        tell: Takes what goes into the telemetry as an event.
        changed: Called when other keys count.

    Attributes:
        config: Of the fleet, None for a device that belongs to none.
        trusted: Whose bundles may be installed.
    """

    def __init__(self, home: Home, tell: Callable[[Tell], None], changed: Callable[[], None]) -> None:
        """Read what is stored.

        Raises:
            HomeInvalid: It cannot be read.
        """
        self._home, self._tell, self._changed = home, tell, changed
        self.config = read_config(home)
        self.trusted = trusted_publishers(home, self.config)

    def read(self, payload: bytes) -> Assignment | None:
        """An assignment as the director signed it for this device, or None: the refusal is logged."""
        config = self.config
        if config is None:
            raise AssertionError("an assignment without a fleet")
        where = topic(config.fleet, config.device, Channel.ASSIGNMENT)
        try:
            assignment = unseal(Assignment, payload, where, config.director)
        except ContractError as error:
            log.warning("assignment refused", extra={"reason": str(error)})
            return None
        if assignment.device != config.device:
            log.warning("assignment refused", extra={"reason": f"it is for {assignment.device}"})
            return None
        return assignment

    def follow(self, envelope: bytes) -> None:
        """Follow a statement about keys that came with an assignment; most are known already."""
        try:
            statement = follow(self._home, self.config, envelope)
        except (AgentError, ContractError) as error:
            log.warning("statement about keys refused", extra={"reason": str(error)})
            return
        if statement is not None:
            self._tell(Tell("keys-changed", detail=statement.reason))
            self.refresh()

    def refresh(self) -> None:
        """Take what is stored now: a statement may name another director, a person another publisher."""
        self.config = read_config(self._home)
        self.trusted = trusted_publishers(self._home, self.config)
        self._changed()
