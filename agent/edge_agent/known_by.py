"""The key that this device is known by, while the daemon runs: all that signs goes over to another.

How a key follows another is `device/succession.py`'s business. Used from the agent's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from edge_agent.allegiance import Allegiance
from edge_agent.device.succession import Succession
from edge_agent.doubt.keeper import Keeper
from edge_agent.doubt.outbound import Sender
from edge_agent.errors import NotEnrolled
from edge_agent.telemetry.mqtt import Link
from edge_agent.updates.slots import Tell
from edge_contracts.messages import Assignment
from edge_contracts.succession import NextKey

if TYPE_CHECKING:
    from edge_agent.telemetry.reporter import Reporter


@dataclass(frozen=True)
class KnownBy:
    """Who signs on an enrolled device."""

    succession: Succession
    allegiance: Allegiance
    keeper: Keeper
    link: Link
    reporter: Reporter
    tell: Callable[[Tell], None]

    def told(self, kind: str) -> NextKey | None:
        """What a snapshot says of the next key: only a status does, for a server of before refuses it."""
        return self.succession.told() if kind == "status" else None

    def tick(self, now_s: float) -> None:
        """Tell the server of the next key when it is time."""
        if self.link.is_up and self.succession.is_due(now_s):
            self.reporter.status()

    def heard(self, assignment: Assignment) -> None:
        """Take note of what the director says of keys."""
        key = self.succession.heard(assignment)
        config = self.allegiance.config
        if key is None or config is None:
            return
        self.allegiance.refresh()
        self.keeper.send_as(Sender.of(config, key))
        self.reporter.sign_with(key, monotonic())
        self.tell(Tell("key-changed", detail=key.public.key_id))


def rotate(known_by: KnownBy | None) -> str:
    """Begin with another key, as a person at the device asks; what to answer.

    Raises:
        NotEnrolled: There is no fleet that a key could be told to.
        HomeInvalid: It cannot be written.
    """
    if known_by is None:
        raise NotEnrolled("this device belongs to no fleet: there is no key that could change")
    return known_by.succession.begin()
