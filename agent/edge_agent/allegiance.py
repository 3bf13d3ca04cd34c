"""Whom the device obeys and whose bundles it believes, now; what changes that, and what obeys it.

The director's key is the config's, the publishers' come from there, from signed statements and from a person
at the device (`device/trust.py`); here they are held while the daemon runs. Used from the agent's thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from edge_agent.device.config import follow, read_config, read_device_key, trusted_publishers
from edge_agent.device.home import Home
from edge_agent.device.mending import mend
from edge_agent.errors import AgentError, HomeInvalid
from edge_agent.updates.slots import Tell
from edge_contracts.digest import digest_of
from edge_contracts.envelope import enclosed_statements, unseal
from edge_contracts.errors import ContractError, KeyUnknown
from edge_contracts.keys import PrivateKey
from edge_contracts.messages import Assignment
from edge_contracts.topics import Channel, topic

log = logging.getLogger(__name__)

REMEMBERED = 100  # as many as a server sends


class Allegiance:
    """The keys that count.

    Args:
        tell: Takes what goes into the telemetry as an event.
        changed: Called when other keys count.

    Attributes:
        config: Of the fleet, None for a device that belongs to none.
        key: The device's own at the start; None without a fleet, and where it is lost.
        mended: What was damaged of the identity's files and has been put back, a line each.
        trusted: Whose bundles may be installed.
        stranger: Id of a key that has signed the last assignment and is not the director's, else "".
    """

    def __init__(self, home: Home, tell: Callable[[Tell], None], changed: Callable[[], None]) -> None:
        """Read what is stored.

        Raises:
            HomeInvalid: It cannot be read.
        """
        self._home, self._tell, self._changed = home, tell, changed
        self.mended = mend(home)
        self.config = read_config(home)
        self._key_lost = ""
        self.key = self._own_key()
        self.trusted = trusted_publishers(home, self.config)
        self.stranger = ""
        self._refused: tuple[str, ...] = ()  # told of already

    def _own_key(self) -> PrivateKey | None:
        """The device's key. Without it nothing can be said or heard, but what is installed can answer."""
        try:
            return None if self.config is None else read_device_key(self._home, self.config)
        except HomeInvalid as error:
            self._key_lost = str(error)
            return None

    def warn(self) -> None:
        """Say in the log what does not work without a fleet or a key."""
        what = "answers with what is installed, takes no updates, reports nothing"
        if self.config is None:
            log.warning(f"not enrolled: {what}")
        elif self.key is None:
            log.error(f"the device's key is lost: {what}", extra={"reason": self._key_lost})

    @property
    def obeyed(self) -> str:
        """Id of the director's key; "" without a fleet."""
        return self.config.director.key_id if self.config is not None else ""

    @property
    def era(self) -> int:
        """How often a publisher has said who directs: assignments are numbered anew with each."""
        return self.config.era if self.config is not None else 0

    def read(self, payload: bytes) -> Assignment | None:
        """An assignment as the director signed it for this device, or None: the refusal is logged.

        The statements in it are followed first, whoever the message is by: each is signed itself. So a device
        that was away is led from its director to the next, and what a former one says besides is not obeyed.
        """
        signer, statements = _enclosed(payload)
        for envelope in statements:
            self.follow(envelope)
        config = self.config
        if config is None:
            raise AssertionError("an assignment without a fleet")
        where = topic(config.fleet, config.device, Channel.ASSIGNMENT)
        try:
            assignment = unseal(Assignment, payload, where, config.director)
        except KeyUnknown as error:
            log.warning("assignment refused", extra={"reason": str(error)})
            self._not_ours(signer)
            return None
        except ContractError as error:
            log.warning("assignment refused", extra={"reason": str(error)})
            return None
        if assignment.device != config.device:
            log.warning("assignment refused", extra={"reason": f"it is for {assignment.device}"})
            return None
        self.stranger = ""
        return assignment

    def _not_ours(self, signer: str) -> None:
        """Say once that somebody else assigns; what runs goes on."""
        if self.stranger:
            return
        self.stranger = signer
        detail = f"an assignment by {signer:.80}; this device obeys {self.obeyed}"
        self._tell(Tell("director-unknown", code="director-unknown", detail=detail))

    def follow(self, envelope: bytes) -> None:
        """Follow a statement about keys that came with an assignment; most are known already."""
        try:
            statement = follow(self._home, self.config, envelope)
        except (AgentError, ContractError) as error:
            # those of a former director, or of a publisher that was retired since, come with every assignment
            said = digest_of(envelope)
            if said not in self._refused:
                self._refused = (*self._refused, said)[-REMEMBERED:]
                log.warning("statement about keys refused", extra={"reason": str(error)})
            return
        if statement is not None:
            self._tell(Tell("keys-changed", detail=statement.reason))
            self.refresh()

    def refresh(self) -> None:
        """Take what is stored now: a statement may name another director, a person another publisher."""
        before = self.obeyed
        self.config = read_config(self._home)
        self.trusted = trusted_publishers(self._home, self.config)
        self._changed()
        if before and self.obeyed != before:
            log.warning("director changed", extra={"before": before, "after": self.obeyed})
            self._tell(Tell("director-changed", detail=self.obeyed))


def _enclosed(payload: bytes) -> tuple[str, tuple[bytes, ...]]:
    """What an assignment of whoever says to be by, and the statements in it; nothing where it is none."""
    try:
        return enclosed_statements(payload)
    except ContractError:
        return "", ()
