"""The order in which a rollout reaches devices, kept while devices come and go. Pure.

It is a hash of the rollout and the device: no device is always the first to be tried on, and a restart, a new
device or another database order changes nothing. Hashes are spread evenly, so lists by their first byte are
short, and what changes is put in its place without a look at the others.
"""

from __future__ import annotations

import hashlib
import itertools
from bisect import bisect_left
from collections.abc import Iterable, Iterator

BUCKETS = 256

Place = tuple[bytes, str]  # a hash, and whose it is


def place_of(rollout: str, device: str) -> Place:
    """Where a device stands in the order of a rollout."""
    return hashlib.sha256(f"{rollout}\n{device}".encode()).digest(), device


class Order:
    """Devices, each once."""

    def __init__(self, rollout: str, devices: Iterable[str] = ()) -> None:
        """Take all that are known, which is quicker than one after the other."""
        self._rollout = rollout
        self._buckets: list[list[Place]] = [[] for _ in range(BUCKETS)]
        self._size = 0
        for device in set(devices):
            place = place_of(rollout, device)
            self._buckets[place[0][0]].append(place)
            self._size += 1
        for bucket in self._buckets:
            bucket.sort()

    def __len__(self) -> int:
        """How many there are."""
        return self._size

    def __iter__(self) -> Iterator[Place]:
        """All of them, the first to be reached first."""
        for bucket in self._buckets:
            yield from bucket

    def add(self, device: str) -> None:
        """Let a device in; one that is there stays where it is."""
        place = place_of(self._rollout, device)
        bucket = self._buckets[place[0][0]]
        at = bisect_left(bucket, place)
        if at == len(bucket) or bucket[at] != place:
            bucket.insert(at, place)
            self._size += 1

    def remove(self, device: str) -> None:
        """Let a device go; one that is not there is not missed."""
        place = place_of(self._rollout, device)
        bucket = self._buckets[place[0][0]]
        at = bisect_left(bucket, place)
        if at < len(bucket) and bucket[at] == place:
            del bucket[at]
            self._size -= 1

    def at(self, index: int) -> Place | None:
        """The device that so many come before; None where there are no more than these."""
        for bucket in self._buckets:
            if index < len(bucket):
                return bucket[index]
            index -= len(bucket)
        return None

    def before(self, end: Place | None) -> int:
        """How many come before a place; all of them before None."""
        if end is None:
            return self._size
        first = end[0][0]
        return sum(map(len, self._buckets[:first])) + bisect_left(self._buckets[first], end)

    def until(self, end: Place | None) -> Iterator[Place]:
        """Those that come before a place; all of them before None."""
        return iter(self) if end is None else itertools.takewhile(lambda place: place < end, self)

    def from_end(self, count: int) -> Place | None:
        """The first of so many that come last; None of none.

        Args:
            count: At most as many as there are.
        """
        for bucket in reversed(self._buckets):
            if 0 < count <= len(bucket):
                return bucket[-count]
            count -= len(bucket)
        return None
