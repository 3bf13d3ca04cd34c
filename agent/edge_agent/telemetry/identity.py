"""Who speaks in an outbox, and who may acknowledge."""

from __future__ import annotations

from dataclasses import dataclass

from edge_contracts.keys import PrivateKey, PublicKey
from edge_contracts.topics import Channel, topic


@dataclass(frozen=True)
class Identity:
    """Who signs the envelopes and whose acks count."""

    fleet: str
    device: str
    key: PrivateKey
    director: PublicKey

    @property
    def telemetry(self) -> str:
        """The topic that every envelope is bound to."""
        return topic(self.fleet, self.device, Channel.TELEMETRY)

    @property
    def ack(self) -> str:
        """The topic that every ack is bound to."""
        return topic(self.fleet, self.device, Channel.ACK)
