"""What is kept of one device's windows: sums, by what it is counted for. No window is kept. Pure.

What a window counts for depends on when it arrived: after the device was assigned, before that, since a
stage began. These times can change afterwards (a device is reached, tried again, leaves; a stage begins):
a ledger then says from when on its windows must be taken again, which the database has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from edge_fleet.clumping import Scatter, counted, scatters
from edge_fleet.reading import Asked, Reading, asked
from edge_fleet.tally import Batch, Floats, Keeps, Tally

Scatters: TypeAlias = Mapping[tuple[str, int], Scatter]  # by name and number of bins
EVERYTHING, NOTHING = -math.inf, math.inf  # from when on windows must be taken again


@dataclass(frozen=True)
class Frame:
    """What decides, besides the device, what windows count for in a group: the devices of one bundle.

    Args:
        previous: What the group's devices had before.
        begun: Stages of the group, and when each first reached one of its devices.
    """

    previous: frozenset[str]
    begun: tuple[tuple[int, float], ...]
    started_s: float


@dataclass(frozen=True, slots=True)
class Sum:
    """Windows of one bundle.

    Args:
        scatter: How its live numbers scatter; what they are is part of that.
    """

    tally: Tally
    asked: Asked = field(default_factory=Asked)
    scatter: Scatters = field(default_factory=dict)

    def grown(self, batch: Batch, at: Sequence[int]) -> Sum:
        """The same with some windows of a batch more."""
        if not at:
            return self
        found = [batch.readings[i] for i in at]
        of_these = scatters(("", r.scalars) for r in found)
        more = {(name, bins): part for (_, name, bins), part in of_these.items()}
        return Sum(
            self.tally.grown(batch, at),
            asked((self.asked, *found)),
            _added(self.scatter, more) if more else self.scatter,
        )


@dataclass(frozen=True, slots=True)
class Beside:
    """Windows of one bundle since the rollout started, until the device was reached itself.

    Args:
        live: How often live numbers were told, and counts by bin.
    """

    asked: Asked = field(default_factory=Asked)
    live: Mapping[tuple[str, int], Floats] = field(default_factory=dict)

    def grown(self, found: Sequence[Reading]) -> Beside:
        """The same with some windows more."""
        more = {
            (name, bins): counted(part)
            for (_, name, bins), part in scatters(("", r.scalars) for r in found).items()
        }
        return Beside(asked((self.asked, *found)), _added(self.live, more) if more else self.live)


class Ledger:
    """One device.

    Args:
        bundle, assigned_s: What it was assigned, and when; None and infinite: not yet.
        frames: Of the groups, by bundle.
    """

    __slots__ = (
        *("device", "bundle", "assigned_s", "bundles", "last_s", "new", "comparing", "sums", "beside"),
        *("from_stage", "shadows", "_frames", "_again"),
    )

    def __init__(
        self, device: str, bundle: str | None, assigned_s: float, frames: Mapping[str, Frame]
    ) -> None:
        """Know nothing yet."""
        self.device, self.bundle, self.assigned_s, self._frames = device, bundle, assigned_s, frames
        self.bundles: frozenset[str] = frozenset()  # whose windows were taken
        self.last_s = -math.inf  # when the last of them arrived
        self.new = Sum(Tally(device))  # of its own bundle, since it was assigned
        self.comparing = False  # whether this bundle answered anything as a shadow since then
        self.sums: dict[str, Sum] = {}  # of bundles of before, all that was taken
        self.beside: dict[str, Beside] = {}  # the same since the rollout started, until it was reached
        # by group that it is not in, and stage: what `beside` is the sum of since that began
        self.from_stage: dict[tuple[str, int], Tally] = {}
        self.shadows: dict[str, Tally] = {}  # by group: windows in which its bundle and another answered
        self._again: set[tuple[str, int] | None] = set()  # what `retake` takes; None: `new`

    def counts_for(self, bundle: str | None, assigned_s: float, frames: Mapping[str, Frame]) -> float:
        """Go on to another assignment, or to other groups and stages.

        Returns:
            From when on its windows must be taken again, by `retake`; EVERYTHING: by another ledger.
        """
        self._again = set()
        known, self._frames = self._frames, frames
        if frames is not known and any(
            (frame.previous ^ known[name].previous) & self.bundles if name in known else self.bundles
            for name, frame in frames.items()
        ):
            return EVERYTHING
        since_s = NOTHING
        if (bundle, assigned_s) != (self.bundle, self.assigned_s):
            # whoever is a control of other groups was one until it was assigned
            reached_before = self.bundle is not None
            if (reached_before or assigned_s <= self.last_s) and any(
                frame.previous & self.bundles for name, frame in frames.items() if name != bundle
            ):
                return EVERYTHING
            self.bundle, self.assigned_s = bundle, assigned_s
            self.new, self.comparing = Sum(Tally(self.device)), False
            for key in [key for key in self.from_stage if key[0] == bundle]:
                del self.from_stage[key]
            if assigned_s <= self.last_s:
                self._again.add(None)
                since_s = assigned_s
        if frames is known:
            return since_s
        for name, frame in frames.items():
            if name != self.bundle and frame.previous & self.bundles:
                since_s = min(since_s, self._stages(name, known[name].begun, frame.begun))
        return since_s

    def _stages(
        self, group: str, known: tuple[tuple[int, float], ...], now: tuple[tuple[int, float], ...]
    ) -> float:
        since_s = NOTHING
        for stage, _ in set(known) - set(now):
            self.from_stage.pop((group, stage), None)
        for stage, first_s in set(now) - set(known):
            if first_s <= self.last_s:
                self._again.add((group, stage))
                since_s = min(since_s, first_s)
        return since_s

    def follows(self, found: Sequence[Reading]) -> bool:
        """Whether windows arrived after all that were taken; others must be taken again in their order."""
        return all(reading.received_s >= self.last_s for reading in found)

    def take(self, found: Sequence[Reading]) -> None:
        """Take in windows that follow, in the order of their arrival."""
        batch = Batch(found)
        self.last_s = found[-1].received_s
        self.bundles |= {reading.bundle for reading in found}
        for name, frame in self._frames.items():
            at = [i for i, r in enumerate(found) if r.compared and name in (r.shadow, r.bundle)]
            if at:
                self.shadows[name] = (self.shadows.get(name) or Tally(self.device)).grown(batch, at)
            if name != self.bundle:
                self._take_stages(name, frame, batch, [stage for stage, _ in frame.begun])
        previous = {name for frame in self._frames.values() for name in frame.previous}
        for name in dict.fromkeys(r.bundle for r in found if r.bundle in previous):
            own = self.sums.get(name) or Sum(Tally(self.device, Keeps.NOW))
            self.sums[name] = own.grown(batch, [i for i, r in enumerate(found) if r.bundle == name])
            started_s = next(frame.started_s for frame in self._frames.values())
            meanwhile = [r for r in found if r.bundle == name and started_s <= r.received_s < self.assigned_s]
            if meanwhile:
                self.beside[name] = self.beside.get(name, Beside()).grown(meanwhile)
        self._take_new(batch)

    def retake(self, found: Sequence[Reading]) -> None:
        """Take windows again for what `counts_for` asked them for."""
        batch = Batch(found)
        if None in self._again:
            self._take_new(batch)
        for name, frame in self._frames.items():
            stages = [stage for stage, _ in frame.begun if (name, stage) in self._again]
            self._take_stages(name, frame, batch, stages)

    def _take_new(self, batch: Batch) -> None:
        since = [(i, r) for i, r in enumerate(batch.readings) if r.received_s >= self.assigned_s]
        self.new = self.new.grown(batch, [i for i, r in since if r.bundle == self.bundle])
        self.comparing |= any(r.compared and r.shadow == self.bundle for _, r in since)

    def _take_stages(self, group: str, frame: Frame, batch: Batch, stages: Sequence[int]) -> None:
        until_s = self.assigned_s
        for stage, first_s in frame.begun:
            since_s = max(first_s, frame.started_s)
            at = [
                i
                for i, r in enumerate(batch.readings)
                if r.bundle in frame.previous and since_s <= r.received_s < until_s
            ]
            if at and stage in stages:
                own = self.from_stage.get((group, stage)) or Tally(self.device, Keeps.COUNTS)
                self.from_stage[group, stage] = own.grown(batch, at)


def _added(kept: Mapping[tuple[str, int], Floats], more: Mapping[tuple[str, int], Floats]) -> Scatters:
    return {**kept, **{key: np.add(kept[key], part) if key in kept else part for key, part in more.items()}}
