"""What one device did with one artifact, and the numbers of the envelopes that say so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """Envelopes of one stream, first and last number; every number between holds a window that counts."""

    epoch: str
    first_seq: int
    last_seq: int


@dataclass(frozen=True)
class Run:
    """What one device did with one artifact.

    Args:
        since_ms, until_ms: Of the first and last window, by the device's clock.
        first_received_ms, last_received_ms: The same by the server's clock.
        predictions: Answered inferences; at least, where `lost` is not 0.
        running: Whether the device's own last word is that it runs it now.
        lost: Records that the device has said it lost in the same streams.
        proof: The envelopes that the figures rest on; none of what is only in daily sums, which do not know
            the artifact (""), nor the runtime.
    """

    device: str
    bundle: str
    artifact: str
    runtimes: tuple[str, ...]
    since_ms: int
    until_ms: int
    first_received_ms: int
    last_received_ms: int
    windows: int
    predictions: int
    errors: int
    running: bool
    lost: int
    proof: tuple[Range, ...]


def ranges(numbers: Iterable[tuple[str, int]]) -> tuple[Range, ...]:
    """Numbers of envelopes, in order, as unbroken ranges."""
    found: list[Range] = []
    for epoch, seq in numbers:
        last = found[-1] if found else None
        if last is not None and last.epoch == epoch and seq <= last.last_seq + 1:
            found[-1] = Range(epoch, last.first_seq, max(seq, last.last_seq))
        else:
            found.append(Range(epoch, seq, seq))
    return tuple(found)
