"""The telemetry of a simulated device: numbered, chained, signed, and kept until it is acknowledged."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from edge_contracts.envelope import chain_value, seal
from edge_contracts.keys import PrivateKey
from edge_contracts.messages import CHAIN_START, Gap, Telemetry, Window


@dataclass(frozen=True)
class Outgoing:
    """A message for the broker.

    Args:
        is_wrong: Whether no honest device would send it.
    """

    topic: str
    payload: bytes
    is_wrong: bool = False


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An envelope that is not acknowledged yet."""

    envelope: bytes
    made_s: float


class Stream:
    """One epoch of a device's telemetry.

    Args:
        topic: Where it goes; the signatures cover it.
    """

    def __init__(self, topic: str, key: PrivateKey) -> None:
        """Begin a new epoch."""
        self._topic, self._key = topic, key
        self.epoch, self.next_seq, self.prev = secrets.token_hex(8), 0, CHAIN_START
        self.acknowledged = 0
        self.lags_s: list[float] = []  # from each envelope's making to its ack; the reader clears it
        self._unacked: dict[int, _Waiting] = {}

    def go_on(self, epoch: str, next_seq: int, prev: bytes, unacknowledged: Mapping[int, str]) -> None:
        """Go on where an earlier run stood.

        Args:
            unacknowledged: Its envelopes by number, base64.
        """
        self.epoch, self.next_seq, self.prev = epoch, next_seq, prev
        self._unacked = {n: _Waiting(base64.b64decode(text), 0.0) for n, text in unacknowledged.items()}

    def kept(self) -> dict[int, str]:
        """What waits for an acknowledgement, by number, base64."""
        return {n: base64.b64encode(waiting.envelope).decode() for n, waiting in self._unacked.items()}

    def unacknowledged(self) -> list[Outgoing]:
        """The same as messages, to be sent again after a connection."""
        return [Outgoing(self._topic, waiting.envelope) for _, waiting in sorted(self._unacked.items())]

    @property
    def oldest_s(self) -> float | None:
        """When the oldest envelope was made that waits for an acknowledgement."""
        return min((waiting.made_s for waiting in self._unacked.values()), default=None)

    def seal(self, now_s: float, *records: Window | Gap) -> Outgoing:
        """The next envelope, which is kept until it is acknowledged."""
        message = Telemetry(epoch=self.epoch, seq=self.next_seq, prev=self.prev, recs=records)
        envelope = seal(message, self._topic, self._key)
        self._unacked[self.next_seq] = _Waiting(envelope, now_s)
        self.next_seq, self.prev = self.next_seq + 1, chain_value(envelope)
        return Outgoing(self._topic, envelope)

    def lose(self, now_s: float, record: Window) -> int:
        """Seal an envelope and lose it; gives its number."""
        number = self.next_seq
        self.seal(now_s, record)
        del self._unacked[number]
        return number

    def forget(self, high: int, now_s: float) -> None:
        """What the server has stored, up to this number, is kept no longer."""
        for number in [number for number in self._unacked if number <= high]:
            made_s = self._unacked.pop(number).made_s
            self.acknowledged += 1
            if made_s:
                self.lags_s.append(now_s - made_s)
