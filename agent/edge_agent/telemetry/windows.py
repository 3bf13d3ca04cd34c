"""Counting what one model does, and cutting the counts into telemetry windows.

Pure: times and resource readings come in as arguments. Counting one inference costs a microsecond; the
monitored numbers of many are worked out together (`waiting.py`), as are their latencies, when enough wait
or the window is cut.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_agent.inference.golden import GoldenResult
from edge_agent.inference.session import Answer
from edge_agent.telemetry.thinning import Thinning
from edge_agent.telemetry.waiting import BUFFER_ROWS, WaitingSamples
from edge_contracts.features import Floats
from edge_contracts.manifest import Manifest
from edge_contracts.messages import ScalarCounts, Window
from edge_contracts.sketch import QuantileSketch, count_bins

LATENCIES = 512  # that wait to be counted; more at once cost no less each
MAX_SCALARS = 128  # as messages.Window allows
MAX_REASONS = 32  # as messages.Window allows; the last place is for all others
OTHER = "other"
CLOCK_STEP_MS = 1000  # NTP slews half a millisecond a second, which is 30 ms in a window


@dataclass(frozen=True)
class Moment:
    """Now, by both clocks.

    Args:
        wall_ms: Unix milliseconds; may jump.
        monotonic_s: Seconds since some start; never jumps.
    """

    wall_ms: int
    monotonic_s: float


@dataclass(frozen=True)
class Resources:
    """What the agent has used.

    Args:
        cpu_s: Processor time since the process began.
        rss_bytes: Resident memory now.
        temperature_c: Hottest thermal zone, or None where there is none.
    """

    cpu_s: float
    rss_bytes: int
    temperature_c: float | None


class WindowCounter:
    """The counts of the window that is open now, for one model.

    Args:
        bundle: Digest of the manifest.
        runtime: `Session.runtime`.
        cpu_s: Processor time at the start, as in Resources.
        trial: Whether the model is on trial.

    Attributes:
        thinning: Which single samples' moments are to be taken (`Session.monitor`).
    """

    def __init__(
        self,
        manifest: Manifest,
        bundle: str,
        artifact: str,
        runtime: str,
        start: Moment,
        cpu_s: float,
        trial: bool = False,
    ) -> None:
        """Open the first window."""
        self._bundle, self._artifact, self._runtime = bundle, artifact, runtime[:64]
        self._edges = {s.name: np.array(s.edges) for s in manifest.baseline.scalars[:MAX_SCALARS]}
        self._waiting = WaitingSamples(manifest)
        self.thinning = Thinning()
        self._begin(start, cpu_s, trial)

    def _begin(self, start: Moment, cpu_s: float, trial: bool) -> None:
        self._start, self._cpu_s, self._trial = start, cpu_s, trial
        self._inferences = 0
        self._errors: dict[str, int] = {}
        self._refused: dict[str, int] = {}
        self._flagged: dict[str, int] = {}
        self._unserved: dict[str, int] = {}
        self._latency: dict[int, int] = {}
        self._latencies: list[float] = []  # not in the bins yet
        self._counts = {name: np.zeros(edges.size + 1, np.int64) for name, edges in self._edges.items()}
        self._unbinned: dict[str, list[Floats]] = {}
        self._unbinned_rows = 0
        self._golden_total = self._golden_agree = 0

    def answered(self, answer: Answer) -> None:
        """Count a batch that was answered."""
        took_ms, latencies = answer.took_ms, self._latencies
        samples = len(took_ms)
        self._inferences += samples
        if answer.flagged:
            for reason, count in answer.flagged.items():
                _add(self._flagged, reason, count)
        latencies.extend(took_ms)
        if len(latencies) >= LATENCIES:
            self._sketch()
        if samples > self._waiting.most:
            self._monitor(self._waiting.at_once(answer.inputs, answer.outputs), samples)
        elif self._waiting.add(answer.inputs, answer.outputs, samples, answer.moments):
            self._monitor(self._waiting.take(), self._waiting.most)

    def failed(self, reason: str, count: int = 1) -> None:
        """Count inferences that the runtime failed on."""
        _add(self._errors, reason, count)

    def refused(self, reason: str, count: int = 1) -> None:
        """Count inputs that the contract did not allow."""
        _add(self._refused, reason, count)

    def unserved(self, reason: str, count: int = 1) -> None:
        """Count requests that were not run: no fault of the model or of its inputs."""
        _add(self._unserved, reason, count)

    def asked_golden(self, result: GoldenResult) -> None:
        """Count golden inputs that were asked again."""
        self._golden_total += result.total
        self._golden_agree += result.agree

    @property
    def inferences(self) -> int:
        """Answered in this window so far."""
        return self._inferences

    @property
    def errors(self) -> int:
        """Failed in this window so far."""
        return sum(self._errors.values())

    def cut(self, end: Moment, resources: Resources, trial: bool = False) -> Window:
        """Close the window and open the next.

        Args:
            trial: Whether the model is on trial as the next window begins.
        """
        self._monitor(self._waiting.take(), 0)
        self._bin()
        self._sketch()
        window = Window(
            bundle=self._bundle,
            artifact=self._artifact,
            runtime=self._runtime,
            start_ms=self._start.wall_ms,
            end_ms=end.wall_ms,
            duration_ms=max(0, round((end.monotonic_s - self._start.monotonic_s) * 1000)),
            inferences=self._inferences,
            errors=self._errors,
            refused=self._refused,
            flagged=self._flagged,
            latency_ms=QuantileSketch(bins=self._latency),
            scalars=tuple(
                ScalarCounts(name=name, counts=tuple(counts.tolist()))
                for name, counts in self._counts.items()
            ),
            golden_total=self._golden_total,
            golden_agree=self._golden_agree,
            cpu_s=max(0.0, resources.cpu_s - self._cpu_s),
            rss_bytes=resources.rss_bytes,
            temperature_c=resources.temperature_c,
            trial=self._trial,
            unserved=self._unserved,
            clock_step_ms=_clock_step_ms(self._start, end),
        )
        self.thinning.begin(end.monotonic_s - self._start.monotonic_s)
        self._begin(end, resources.cpu_s, trial)
        return window

    def _sketch(self) -> None:
        """Count the latencies by bin."""
        for index, count in count_bins(self._latencies).items():
            self._latency[index] = self._latency.get(index, 0) + count
        self._latencies.clear()

    def _monitor(self, monitored: dict[str, Floats], samples: int) -> None:
        for name, values in monitored.items():
            if name in self._edges:
                self._unbinned.setdefault(name, []).append(values)
        self._unbinned_rows += samples
        if self._unbinned_rows >= BUFFER_ROWS:
            self._bin()

    def _bin(self) -> None:
        """Count the monitored numbers by bin: many at once, since a call costs more than a number."""
        for name, parts in self._unbinned.items():
            counts = self._counts[name]
            bins = np.searchsorted(self._edges[name], np.concatenate(parts), side="right")
            counts += np.bincount(bins, minlength=counts.size)
        self._unbinned, self._unbinned_rows = {}, 0


def _clock_step_ms(start: Moment, end: Moment) -> int:
    """How far the wall clock ran away from the monotonic one; 0 for what is drift and rounding."""
    step_ms = end.wall_ms - start.wall_ms - round((end.monotonic_s - start.monotonic_s) * 1000)
    return step_ms if abs(step_ms) > CLOCK_STEP_MS else 0


def _add(counts: dict[str, int], reason: str, count: int) -> None:
    key = reason if reason in counts or len(counts) < MAX_REASONS - 1 else OTHER
    counts[key] = counts.get(key, 0) + count
