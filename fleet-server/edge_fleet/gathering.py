"""Laying telemetry out for the gates, device by device, and again only where something changed. Pure.

What a device contributes to a group follows from its own windows, kept as sums (`ledger.py`), and from when
it was reached; so it is worked out once, and again when it has reported or was reached. The groups' sums
follow (`sums.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from functools import partial
from typing import Protocol

from edge_fleet.evidence import BundleFacts, Group, Laid, Member, StageEvidence, Standing
from edge_fleet.laying import Other, Own, contribution, lay
from edge_fleet.ledger import EVERYTHING, NOTHING, Frame, Ledger
from edge_fleet.reading import Reading
from edge_fleet.sums import Growing


class Windows(Protocol):
    """Where windows come from, a device's in some portions after each other, in the order of arrival."""

    def fresh(self) -> Iterable[tuple[str, Sequence[Reading]]]:
        """Those that were not there at the last look."""

    def again(self, since_s: Mapping[str, float], fresh: bool) -> Iterable[tuple[str, Sequence[Reading]]]:
        """Windows of some devices once more.

        Args:
            since_s: By device, from when on; Unix seconds.
            fresh: Whether with those of `fresh`.
        """


class _Given:
    """Windows that are all there, in any order."""

    def __init__(self, readings: Iterable[Reading]) -> None:
        self._by_device: dict[str, list[Reading]] = {}
        for reading in sorted(readings, key=lambda r: r.received_s):
            self._by_device.setdefault(reading.device, []).append(reading)

    def fresh(self) -> Iterable[tuple[str, Sequence[Reading]]]:
        return self._by_device.items()

    def again(self, since_s: Mapping[str, float], fresh: bool) -> Iterator[tuple[str, Sequence[Reading]]]:
        raise AssertionError("nothing was taken before that could be taken again")


def gather(
    members: Sequence[Member],
    readings: Iterable[Reading],
    facts: Mapping[str, BundleFacts],
    stage: int,
    started_s: float,
    bundles: int = 1,
) -> StageEvidence:
    """Lay telemetry and states out for the gates.

    Args:
        readings: Windows of the new and of the previous bundles, of any device, in any order.
        facts: Of every bundle that a member was assigned; of previous ones as far as known.
        started_s: When the rollout began, Unix seconds: control windows are from then on.
        bundles: Of the release.
    """
    return Gathering().look(members, _Given(readings), facts, stage, started_s, bundles)


class Gathering:
    """The evidence of one rollout, look by look. What a look gave is good until the next one."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self.ledgers: dict[str, Ledger] = {}
        self._groups: dict[str, _Group] = {}
        self._frames: Mapping[str, Frame] = {}
        self._members: dict[str, Member] = {}
        self._seen: Sequence[Member] | None = None
        self._standing = Standing(())

    def look(
        self,
        members: Sequence[Member],
        windows: Windows,
        facts: Mapping[str, BundleFacts],
        stage: int,
        started_s: float,
        bundles: int,
    ) -> StageEvidence:
        """What is known now.

        Args:
            started_s: The same at each look.
        """
        changed: set[str] = set()
        if members is not self._seen:
            known = {member.device: member for member in members}
            changed = {device for device in self._members.keys() | known.keys() if self._moved(device, known)}
            self._members, self._seen, self._standing = known, members, Standing(members)
            by_bundle: dict[str, list[Member]] = {}
            for member in members:
                by_bundle.setdefault(member.bundle, []).append(member)
            self._groups = {
                bundle: self._groups.get(bundle) or _Group(facts[bundle]) for bundle in sorted(by_bundle)
            }
            for bundle, group in self._groups.items():
                group.members = tuple(by_bundle[bundle])
            frames = {name: group.frame(started_s) for name, group in self._groups.items()}
            self._adapt(changed, frames, windows)
        changed |= self._take(windows)
        for name, group in self._groups.items():
            group.look(self._members, self.ledgers, changed, self._frames[name], facts)
        groups = tuple(group.found() for group in self._groups.values())
        found = StageEvidence(
            stage,
            tuple(members),
            groups,
            _together([group.reporting for group in self._groups.values()]),
            max(bundles, len(groups)),
            _together([group.comparing for group in self._groups.values()]),
        )
        found.__dict__["standing"] = self._standing  # counted already
        return found

    def _moved(self, device: str, now: Mapping[str, Member]) -> bool:
        """Whether it was reached, left, or reached again."""
        one, other = self._members.get(device), now.get(device)
        if one is None or other is None:
            return one is not other
        return (one.assigned_s, one.stage, one.bundle) != (other.assigned_s, other.stage, other.bundle)

    def _adapt(self, moved: Set[str], frames: Mapping[str, Frame], windows: Windows) -> None:
        """Let ledgers go on to what their devices are counted for now."""
        if frames != self._frames:
            self._frames, concerned = frames, set(self.ledgers)
        else:
            concerned = moved & self.ledgers.keys()
        since_s: dict[str, float] = {}
        for device in concerned:
            ledger = self.ledgers[device]
            at = ledger.counts_for(*self._terms(device), self._frames)
            if at != NOTHING:
                since_s[device] = at
                if at == EVERYTHING:
                    self.ledgers[device] = self._ledger(device)
        if since_s:
            for device, found in windows.again(since_s, fresh=False):
                ledger = self.ledgers[device]
                if since_s[device] == EVERYTHING:
                    ledger.take(found)
                else:
                    ledger.retake(found)

    def _take(self, windows: Windows) -> set[str]:
        """Take in what arrived; returns whose it is."""
        whose, late = set(), set()
        for device, found in windows.fresh():
            ledger = self.ledgers.get(device)
            if ledger is None:
                ledger = self.ledgers[device] = self._ledger(device)
            whose.add(device)
            if ledger.follows(found):
                ledger.take(found)
            else:
                late.add(device)
        if late:  # a clock was set back, or one message was stored after a later one
            for device in late:
                self.ledgers[device] = self._ledger(device)
            for device, found in windows.again(dict.fromkeys(late, EVERYTHING), fresh=True):
                self.ledgers[device].take(found)
        return whose

    def _ledger(self, device: str) -> Ledger:
        return Ledger(device, *self._terms(device), self._frames)

    def _terms(self, device: str) -> tuple[str | None, float]:
        """What a device is assigned, and since when; a control is none from when it is reached on."""
        member = self._members.get(device)
        return (None, math.inf) if member is None else (member.bundle, member.assigned_s)


class _Group:
    """The devices of one bundle, and those beside them."""

    def __init__(self, fact: BundleFacts) -> None:
        self._fact = fact
        self._facts: Mapping[str, BundleFacts] = {}
        self.members: tuple[Member, ...] = ()
        self._frame: Frame | None = None
        self._sums: Growing[Own | Other, Laid] = Growing(partial(lay, ()))
        self.reporting: set[str] = set()
        self.comparing: set[str] = set()

    def frame(self, started_s: float) -> Frame:
        """What decides what windows count for here."""
        first: dict[int, float] = {}
        for member in self.members:
            first[member.stage] = min(first.get(member.stage, math.inf), member.assigned_s)
        had = {member.previous for member in self.members if member.previous}
        return Frame(frozenset(had) - {self._fact.digest}, tuple(sorted(first.items())), started_s)

    def look(
        self,
        everybody: Mapping[str, Member],
        ledgers: Mapping[str, Ledger],
        changed: Iterable[str],
        frame: Frame,
        facts: Mapping[str, BundleFacts],
    ) -> None:
        """Take in what changed."""
        if (frame, facts) != (self._frame, self._facts):
            self._frame, self._facts = frame, facts
            self._sums = Growing(partial(lay, tuple(stage for stage, _ in frame.begun)))
            self.reporting, self.comparing = set(), set()
            changed = ledgers
        for device in changed:
            ledger, member = ledgers.get(device), everybody.get(device)
            part = None
            if ledger is not None:
                stage = -1 if member is None else member.stage
                part = contribution(ledger, stage, self._fact.digest, frame, facts)
            self._sums.put(device, part)
            own = part if isinstance(part, Own) else None
            _keep(self.reporting, device, own is not None and own.new.asked.inferences > 0)
            _keep(self.comparing, device, own is not None and own.comparing)
        self._sums.look()

    def found(self) -> Group:
        """The group as gates see it."""
        fact = self._fact
        return Group(fact.digest, fact.profile, self.members, fact.latency_p95_ms, self._sums, self._facts)


def _keep(names: set[str], device: str, whether: bool) -> None:
    if whether:
        names.add(device)
    else:
        names.discard(device)


def _together(names: Sequence[Set[str]]) -> Set[str]:
    """The union; of one group as it is, for that is of every device."""
    return names[0] if len(names) == 1 else frozenset().union(*names)
