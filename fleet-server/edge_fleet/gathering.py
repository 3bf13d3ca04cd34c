"""Laying telemetry out for the gates, device by device, and again only where something changed. Pure.

What a device contributes to a group follows from its own windows and from when it was reached; so it is
worked out once, and again when it has reported or was reached. The groups' sums follow (`sums.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial

from edge_contracts.sketch import Drift, QuantileSketch
from edge_fleet.clumping import Scatter, scatters
from edge_fleet.drifts import DeviceDrift, drifts_of
from edge_fleet.evidence import BundleFacts, Group, Laid, Member, StageEvidence, Standing
from edge_fleet.panel import DeviceRows, assemble, rows_of
from edge_fleet.reading import Exposure, Reading, sum_up
from edge_fleet.sums import Growing

Windows = Mapping[str, Sequence[Reading]]


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
    by_device: dict[str, list[Reading]] = {}
    for reading in readings:
        by_device.setdefault(reading.device, []).append(reading)
    return Gathering().look(members, by_device, by_device.keys(), facts, stage, started_s, bundles)


class Gathering:
    """The evidence of one rollout, look by look. What a look gave is good until the next one."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._groups: dict[str, _Group] = {}
        self._members: dict[str, Member] = {}
        self._seen: Sequence[Member] | None = None
        self._standing = Standing(())

    def look(
        self,
        members: Sequence[Member],
        windows: Windows,
        reported: Set[str],
        facts: Mapping[str, BundleFacts],
        stage: int,
        started_s: float,
        bundles: int,
    ) -> StageEvidence:
        """What is known now.

        Args:
            windows: By device, in the order of their arrival; they only grow.
            reported: Devices with windows that the last look did not have.
        """
        changed = set(reported)
        if members is not self._seen:
            known = {member.device: member for member in members}
            changed |= {
                device for device in self._members.keys() | known.keys() if self._moved(device, known)
            }
            self._members, self._seen, self._standing = known, members, Standing(members)
            by_bundle: dict[str, list[Member]] = {}
            for member in members:
                by_bundle.setdefault(member.bundle, []).append(member)
            self._groups = {
                bundle: self._groups.get(bundle) or _Group(facts[bundle]) for bundle in sorted(by_bundle)
            }
            for bundle, group in self._groups.items():
                group.consist_of(tuple(by_bundle[bundle]))
        for group in self._groups.values():
            group.look(self._members, windows, changed, facts, started_s)
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


@dataclass(frozen=True)
class _Frame:
    """What a device's contribution depends on, besides itself.

    Args:
        previous: What the group's devices had before.
        begun: Stages of the group, and when each first reached one of its devices.
    """

    previous: frozenset[str]
    begun: tuple[tuple[int, float], ...]
    started_s: float


@dataclass(frozen=True)
class _Windows:
    """Some windows of one device, worked up.

    Args:
        live: Sums of their live numbers, as few readings as there are bundles and numbers of bins.
    """

    exposure: Exposure
    live: tuple[Reading, ...]
    rows: DeviceRows | None
    scatter: Mapping[tuple[str, str, int], Scatter] = field(default_factory=dict)


@dataclass(frozen=True)
class _Own:
    """What a reached device contributes to its group; `_Other`: one that is not in the group."""

    stage: int
    new: _Windows
    earlier: _Windows
    shadow: DeviceRows | None
    drift: DeviceDrift | None
    comparing: bool


@dataclass(frozen=True)
class _Other:
    beside: _Windows
    from_stage: tuple[DeviceRows | None, ...]
    shadow: DeviceRows | None


class _Group:
    """The devices of one bundle, and those beside them."""

    def __init__(self, fact: BundleFacts) -> None:
        self._fact = fact
        self._facts: Mapping[str, BundleFacts] = {}
        self._members: tuple[Member, ...] = ()
        self._previous: frozenset[str] = frozenset()
        self._begun: tuple[tuple[int, float], ...] = ()
        self._frame: _Frame | None = None
        self._sums: Growing[_Own | _Other, Laid] = Growing(lambda parts: _lay((), parts))
        self.reporting: set[str] = set()
        self.comparing: set[str] = set()

    def consist_of(self, members: tuple[Member, ...]) -> None:
        """Its devices are these now."""
        first: dict[int, float] = {}
        for member in members:
            first[member.stage] = min(first.get(member.stage, math.inf), member.assigned_s)
        self._members, self._begun = members, tuple(sorted(first.items()))
        had = {member.previous for member in members if member.previous}
        self._previous = frozenset(had) - {self._fact.digest}

    def look(
        self,
        everybody: Mapping[str, Member],
        windows: Windows,
        changed: Iterable[str],
        facts: Mapping[str, BundleFacts],
        started_s: float,
    ) -> None:
        """Take in what changed."""
        frame = _Frame(self._previous, self._begun, started_s)
        if (frame, facts) != (self._frame, self._facts):
            self._frame, self._facts = frame, facts
            stages = tuple(stage for stage, _ in frame.begun)
            self._sums, self.reporting = Growing(partial(_lay, stages)), set()
            self.comparing = set()
            changed = windows
        for device in changed:
            part = self._part(device, everybody.get(device), windows.get(device, ()), frame)
            self._sums.put(device, part)
            if isinstance(part, _Own) and part.new.exposure.inferences:
                self.reporting.add(device)
            else:
                self.reporting.discard(device)
            if isinstance(part, _Own) and part.comparing:
                self.comparing.add(device)
            else:
                self.comparing.discard(device)
        self._sums.look()

    def found(self) -> Group:
        """The group as gates see it."""
        fact = self._fact
        return Group(fact.digest, fact.profile, self._members, fact.latency_p95_ms, self._sums, self._facts)

    def _part(
        self, device: str, member: Member | None, found: Sequence[Reading], frame: _Frame
    ) -> _Own | _Other | None:
        if not found:
            return None
        if member is not None and member.bundle == self._fact.digest:
            return self._own(member, found, frame)
        # a device that is reached later is a control until then
        return self._other(device, found, math.inf if member is None else member.assigned_s, frame)

    def _own(self, member: Member, found: Sequence[Reading], frame: _Frame) -> _Own:
        device, fact = member.device, self._fact
        new = [r for r in found if r.bundle == fact.digest and r.received_s >= member.assigned_s]
        earlier = [r for r in found if r.bundle in frame.previous]
        drift = None
        if new:
            drift = DeviceDrift(device, drifts_of(fact.baseline, new, earlier), self._by_bundle(earlier))
        return _Own(
            member.stage,
            _worked_up(device, new, of_release=True),
            _worked_up(device, earlier, of_release=True),
            self._shadow(device, found),
            drift,
            any(r.compared and r.shadow == fact.digest and r.received_s >= member.assigned_s for r in found),
        )

    def _other(self, device: str, found: Sequence[Reading], until_s: float, frame: _Frame) -> _Other:
        beside = [
            r for r in found if r.bundle in frame.previous and frame.started_s <= r.received_s < until_s
        ]
        return _Other(
            _worked_up(device, beside),
            tuple(rows_of(device, (r for r in beside if r.received_s >= first)) for _, first in frame.begun),
            self._shadow(device, found),
        )

    def _shadow(self, device: str, found: Sequence[Reading]) -> DeviceRows | None:
        own = self._fact.digest
        return rows_of(device, (r for r in found if r.compared and own in (r.shadow, r.bundle)))

    def _by_bundle(self, readings: Iterable[Reading]) -> tuple[Drift, ...]:
        """Compare windows of several bundles, each with the baseline of its own."""
        by_bundle: dict[str, list[Reading]] = {}
        for reading in readings:
            by_bundle.setdefault(reading.bundle, []).append(reading)
        return tuple(
            drift
            for bundle, kept in sorted(by_bundle.items())
            if bundle in self._facts
            for drift in drifts_of(self._facts[bundle].baseline, kept, ())
        )


def _lay(stages: Sequence[int], parts: Mapping[str, _Own | _Other]) -> Laid:
    """What some devices contribute, under each other."""
    own: list[_Own] = []
    others: list[_Other] = []
    shadows: list[DeviceRows | None] = []
    for device in sorted(parts):
        part = parts[device]
        shadows.append(part.shadow)
        if isinstance(part, _Own):
            own.append(part)
        else:
            others.append(part)
    return Laid(
        new=_added(one.new.exposure for one in own),
        earlier=_added(one.earlier.exposure for one in own),
        others=_added(one.beside.exposure for one in others),
        live={
            "new": tuple(reading for one in own for reading in one.new.live),
            "earlier": tuple(reading for one in own for reading in one.earlier.live),
            "others": tuple(reading for one in others for reading in one.beside.live),
        },
        scatter=_scatter(own),
        per_device=tuple(one.drift for one in own if one.drift is not None),
        panel=assemble(one.new.rows for one in own),
        before=assemble(one.earlier.rows for one in own),
        by_stage=tuple(assemble(one.new.rows for one in own if one.stage == stage) for stage in stages),
        beside=tuple(assemble(one.from_stage[n] for one in others) for n in range(len(stages))),
        shadow=assemble(shadows),
    )


def _together(names: Sequence[Set[str]]) -> Set[str]:
    """The union; of one group as it is, for that is of every device."""
    return names[0] if len(names) == 1 else frozenset().union(*names)


def _worked_up(device: str, readings: Sequence[Reading], of_release: bool = False) -> _Windows:
    scattered = scatters((r.bundle, r.scalars) for r in readings) if of_release else {}
    return _Windows(sum_up(readings), tuple(_live(device, readings)), rows_of(device, readings), scattered)


def _scatter(own: Sequence[_Own]) -> dict[tuple[str, str, str, int], Scatter]:
    """Of all devices of a group, of each release's windows."""
    found: dict[tuple[str, str, str, int], Scatter] = {}
    for one in own:
        for whose, windows in (("new", one.new), ("earlier", one.earlier)):
            for (bundle, name, bins), part in windows.scatter.items():
                key = whose, bundle, name, bins
                found[key] = found[key] + part if key in found else part
    return found


def _live(device: str, readings: Iterable[Reading]) -> Iterator[Reading]:
    """The same live numbers in few readings: for each bundle, one for each number of bins of a name."""
    summed: dict[str, dict[tuple[str, int], list[int]]] = {}
    for reading in readings:
        kept = summed.setdefault(reading.bundle, {})
        for name, counts in reading.scalars.items():
            before = kept.get((name, len(counts)))
            kept[name, len(counts)] = (
                list(counts) if before is None else [a + b for a, b in zip(before, counts, strict=True)]
            )
    for bundle, found in summed.items():
        for bins in sorted({bins for _, bins in found}):
            scalars = {name: tuple(counts) for (name, size), counts in found.items() if size == bins}
            yield Reading(device, bundle, 0.0, 0, scalars=scalars)


def _added(exposures: Iterable[Exposure]) -> Exposure:
    windows = inferences = errors = refused = golden_total = golden_agree = 0
    bins: dict[int, int] = {}
    for one in exposures:
        windows += one.windows
        inferences += one.inferences
        errors += one.errors
        refused += one.refused
        golden_total += one.golden_total
        golden_agree += one.golden_agree
        for index, count in one.latency_ms.bins.items():
            bins[index] = bins.get(index, 0) + count
    return Exposure(
        windows, inferences, errors, refused, QuantileSketch(bins=bins), golden_total, golden_agree
    )
