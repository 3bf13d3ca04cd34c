"""What the updater needs around it: who answers, who does long work, where shadows lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from edge_agent.runtimes.choice import Option
from edge_agent.updates.health import Finding
from edge_agent.updates.slots import Slot, Slots, Tell
from edge_agent.worker import Then, Work
from edge_contracts.bundle import Bundle
from edge_contracts.lineup import ShadowTerms

BarredWays = Callable[[Mapping[Option, str]], Mapping[Option, str]]


class Barred(Protocol):
    """Says which ways to run a bundle are in quarantine; see `warden.Warden.barred`."""

    def __call__(self, ways: Mapping[Option, str], bundle: str) -> dict[Option, str]:
        """With the reasons."""


class Shadows(Protocol):
    """Where assigned shadows lie; see `doubt.ordered.OrderedShadows`."""

    def lying(self, digest: str) -> Bundle | None:
        """A bundle that lies there whole; its signature is still to be verified."""

    def bring(
        self, bundle: Bundle, number: int, terms: ShadowTerms, slots: Slots, barred: BarredWays | None = None
    ) -> None:
        """Put a verified one there, after a trial in a child process."""


class Jobs(Protocol):
    """Who does the long work; see `worker.Worker`."""

    @property
    def busy(self) -> bool:
        """Whether a job that counts is under way."""

    def begin(self, work: Work, then: Then) -> None:
        """Start a job."""

    def cancel(self) -> None:
        """Call it off."""


class Host(Protocol):
    """What the updater needs of the agent around it."""

    def serve(self, slot: Slot | None) -> Finding | None:
        """Answer with what a slot holds; a finding when that is impossible."""

    def tell(self, tell: Tell) -> None:
        """Put an event into the telemetry."""

    def changed(self) -> None:
        """The state that is reported has changed."""
