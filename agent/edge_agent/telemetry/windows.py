"""Counting what one model does, and cutting the counts into telemetry windows.

Pure: times and resource readings come in as arguments. Counting one inference costs a few
microseconds; the monitored numbers of many are worked out together, when the buffer is full or the
window is cut.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.inference.golden import GoldenResult
from edge_agent.inference.session import Answer
from edge_contracts.features import features
from edge_contracts.manifest import Manifest, TensorSpec
from edge_contracts.messages import ScalarCounts, Window
from edge_contracts.sketch import QuantileSketch, bin_index

BUFFER_BYTES = 1 << 18  # of inputs and outputs waiting to be summed up; what a small processor caches
BUFFER_ROWS = 64  # beyond, larger buffers no longer pay
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
        self._task = manifest.task
        self._edges = {s.name: np.array(s.edges) for s in manifest.baseline.scalars[:MAX_SCALARS]}
        row_bytes = sum(_row_bytes(spec) for spec in (*manifest.inputs, *manifest.outputs))
        self._rows = max(1, min(BUFFER_ROWS, BUFFER_BYTES // max(1, row_bytes)))
        self._inputs = _buffers(manifest.inputs, self._rows)
        self._outputs = _buffers(manifest.outputs, self._rows)
        self._begin(start, cpu_s, trial)

    def _begin(self, start: Moment, cpu_s: float, trial: bool) -> None:
        self._start, self._cpu_s, self._trial = start, cpu_s, trial
        self._inferences = 0
        self._waiting = 0
        self._errors: dict[str, int] = {}
        self._refused: dict[str, int] = {}
        self._flagged: dict[str, int] = {}
        self._unserved: dict[str, int] = {}
        self._latency: dict[int, int] = {}
        self._counts = {name: np.zeros(edges.size + 1, np.int64) for name, edges in self._edges.items()}
        self._unbinned: dict[str, list[NDArray[np.float64]]] = {}
        self._unbinned_rows = 0
        self._golden_total = self._golden_agree = 0

    def answered(self, answer: Answer) -> None:
        """Count a batch that was answered."""
        samples = answer.samples
        self._inferences += samples
        for reason, count in answer.flagged.items():
            _add(self._flagged, reason, count)
        for latency_ms in answer.latency_ms.tolist():
            index = bin_index(latency_ms)
            self._latency[index] = self._latency.get(index, 0) + 1
        if samples > self._rows - self._waiting:
            self._sum_up()
        if samples > self._rows:
            self._monitor(answer.inputs, answer.outputs)
            return
        # copies: the caller may write the next picture into the same array
        rows = slice(self._waiting, self._waiting + samples)
        for name, buffer in self._inputs.items():
            buffer[rows] = answer.inputs[name]
        for name, buffer in self._outputs.items():
            buffer[rows] = answer.outputs[name]
        self._waiting += samples

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

    def went_on_trial(self) -> None:
        """Mark the window: the model was on trial for a part of it."""
        self._trial = True

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
        self._sum_up()
        self._bin()
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
        self._begin(end, resources.cpu_s, trial)
        return window

    def _sum_up(self) -> None:
        """Work out the monitored numbers of what waits in the buffers."""
        if self._waiting:
            self._monitor(
                {name: buffer[: self._waiting] for name, buffer in self._inputs.items()},
                {name: buffer[: self._waiting] for name, buffer in self._outputs.items()},
            )
            self._waiting = 0

    def _monitor(self, inputs: Mapping[str, NDArray[Any]], outputs: Mapping[str, NDArray[Any]]) -> None:
        monitored = features(inputs, outputs, self._task)
        for name, values in monitored.items():
            if name in self._edges:
                self._unbinned.setdefault(name, []).append(values)
        self._unbinned_rows += next(iter(outputs.values())).shape[0]
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


def _buffers(specs: tuple[TensorSpec, ...], rows: int) -> dict[str, NDArray[Any]]:
    return {spec.name: np.empty((rows, *spec.shape[1:]), spec.dtype) for spec in specs}


def _row_bytes(spec: TensorSpec) -> int:
    return math.prod(spec.shape[1:]) * np.dtype(spec.dtype).itemsize


def _add(counts: dict[str, int], reason: str, count: int) -> None:
    key = reason if reason in counts or len(counts) < MAX_REASONS - 1 else OTHER
    counts[key] = counts.get(key, 0) + count
