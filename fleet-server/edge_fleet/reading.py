"""The numbers of verified windows, one by one and summed. Pure; `rollouts/readings.py` reads the rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from edge_contracts.sketch import QuantileSketch, merge_quantiles


@dataclass(frozen=True, slots=True)
class Reading:
    """The numbers of one verified window.

    Args:
        received_s: When the server stored it, Unix seconds.
        errors, refused: Inferences that failed, and inputs that were not let in.
        scalars: Counts by bin of the bundle's baseline, by name.
        merged: How many windows this one is the sum of.
        noisy: Its counts carry noise for privacy; rates are not judged by it.
        sure, second, uncertain, labelled, correct: As in `lineup.LineupCounts`.
        confidence: Counts in bins of equal width over 0 to 1.
        shadow, compared, agreed: The bundle that ran beside, and how often it answered alike.
        shadow_ms: Latency of the bundle that ran beside.
        rss_bytes: Of the agent and the process of its runtime.
    """

    device: str
    bundle: str
    received_s: float
    inferences: int
    errors: int = 0
    refused: int = 0
    latency_ms: QuantileSketch = field(default_factory=QuantileSketch)
    scalars: Mapping[str, Sequence[int]] = field(default_factory=dict)
    golden_total: int = 0
    golden_agree: int = 0
    merged: int = 1
    noisy: bool = False
    sure: int = 0
    second: int = 0
    uncertain: int = 0
    labelled: int = 0
    correct: int = 0
    confidence: tuple[int, ...] = ()
    shadow: str | None = None
    compared: int = 0
    agreed: int = 0
    shadow_ms: QuantileSketch = field(default_factory=QuantileSketch)
    rss_bytes: int = 0
    temperature_c: float | None = None


@dataclass(frozen=True)
class Asked:
    """How much was asked for in some windows."""

    windows: int = 0
    inferences: int = 0
    errors: int = 0
    refused: int = 0

    @property
    def attempts(self) -> int:
        """Inferences that were asked for: answered, failed or not let in."""
        return self.inferences + self.errors + self.refused


@dataclass(frozen=True)
class Exposure(Asked):
    """The sum of some windows."""

    latency_ms: QuantileSketch = field(default_factory=QuantileSketch)
    golden_total: int = 0
    golden_agree: int = 0


def asked(parts: Iterable[Asked | Reading]) -> Asked:
    """What some windows, or sums of windows, come to."""
    windows = inferences = errors = refused = 0
    for part in parts:
        windows += part.windows if isinstance(part, Asked) else 1
        inferences += part.inferences
        errors += part.errors
        refused += part.refused
    return Asked(windows, inferences, errors, refused)


def sum_up(readings: Iterable[Reading]) -> Exposure:
    """The sum of some windows."""
    kept = list(readings)
    return Exposure(
        windows=len(kept),
        inferences=sum(r.inferences for r in kept),
        errors=sum(r.errors for r in kept),
        refused=sum(r.refused for r in kept),
        latency_ms=merge_quantiles(r.latency_ms for r in kept),
        golden_total=sum(r.golden_total for r in kept),
        golden_agree=sum(r.golden_agree for r in kept),
    )
