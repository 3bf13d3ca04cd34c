"""The numbered, chained telemetry stream of one device and epoch: what is new, and what is complete.

Pure: `intake.py` gives it what is stored and stores what it answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from edge_contracts.messages import CHAIN_START


class Standing(StrEnum):
    """What an envelope is to its stream."""

    NEW = "new"
    DUPLICATE = "duplicate"  # the same bytes again: acknowledged again
    FORK = "fork"  # other bytes under a number that is taken: two histories, one of them false
    CHAIN_BROKEN = "chain-broken"  # does not follow from its neighbour


class Link(msgspec.Struct, frozen=True):
    """What the chain needs to know of one envelope."""

    prev: bytes
    chain: bytes


@dataclass(frozen=True)
class Position:
    """How far a stream is complete: what the ack says.

    Args:
        high: Largest stored number below which every one is stored or owned up to as lost; -1 for none.
        chain: Chain value of envelope `high`.
    """

    high: int = -1
    chain: bytes = CHAIN_START


def judge(seq: int, link: Link, same: Link | None, before: Link | None, after: Link | None) -> Standing:
    """Where an envelope stands to what is stored.

    Args:
        same, before, after: The stored envelopes seq, seq - 1 and seq + 1, where there are such.
    """
    if same is not None:
        return Standing.DUPLICATE if same == link else Standing.FORK
    if seq == 0 and link.prev != CHAIN_START:
        return Standing.CHAIN_BROKEN
    if before is not None and link.prev != before.chain:
        return Standing.CHAIN_BROKEN
    if after is not None and after.prev != link.chain:
        return Standing.CHAIN_BROKEN
    return Standing.NEW


def advance(
    position: Position, stored: Iterable[tuple[int, bytes]], lost: Sequence[tuple[int, int]]
) -> Position:
    """Move on over what is stored and over what the device says is lost.

    Args:
        stored: Number and chain value of stored envelopes above `position.high`, ascending.
        lost: First and last numbers of ranges that will never come; they may overlap.
    """
    accounted = position.high
    for seq, chain in stored:
        while accounted + 1 < seq:
            further = max((last for first, last in lost if first <= accounted + 1 <= last), default=-1)
            if further <= accounted:
                return position
            accounted = further
        accounted = max(accounted, seq)
        position = Position(seq, chain)
    return position
