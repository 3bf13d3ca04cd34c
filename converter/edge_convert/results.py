"""What a build found out: values for the report, the terminal and the exit code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from edge_contracts.manifest import Score, Task
from edge_contracts.profile import Precision
from edge_convert.device.fit import Fit
from edge_convert.explain.explainer import Explanation
from edge_convert.gates import Finding, Limits
from edge_convert.measures.assessment import NOTHING, Assessment
from edge_convert.measures.compare import Histogram
from edge_convert.measures.score import LayerCost


class TrialState(StrEnum):
    """What became of a candidate."""

    CHOSEN = "chosen"
    FAILED = "failed"
    PASSED = "passed"  # but a better one was there
    NOT_NEEDED = "not needed"  # one that comes before it had passed


@dataclass(frozen=True)
class Trial:
    """One candidate for one profile.

    Args:
        name: Tells it from the others of its profile.
        selection: Its figures on the samples that choose among candidates.
        score: Its figures on samples that chose nothing; None when it was not needed.
        latency_ms, source_ms: Medians of interleaved rounds on this host.
        latency_ratio: Median of the rounds' own ratios, which a neighbour's noise moves least.
        pruning: What was done to the graph beforehand, as the provenance says it.
        predicted_us: Predicted time of one inference; a figure to compare candidates by.
        unsaturated_db: Signal to noise before what saturates the answers, where known; it orders candidates.
        on_front: No other candidate is as good, as fast and as small, and better in one of them.
    """

    recipe: str
    precision: Precision
    bytes: int
    selection: Score
    state: TrialState
    pruned: bool = False
    score: Score | None = None
    latency_ms: float | None = None
    source_ms: float | None = None
    latency_ratio: float | None = None
    findings: tuple[Finding, ...] = ()
    name: str = ""
    pruning: str = "none"
    predicted_us: float = 0.0
    unsaturated_db: float | None = None
    on_front: bool = False


@dataclass(frozen=True)
class Searched:
    """How a search went.

    Args:
        tried: Candidates that were made.
        ended: Why it ended before everything was tried, or "".
        used_s: Seconds, on this host.
    """

    recipe: str
    prefer: str
    budget_s: float | None
    tried: int
    used_s: float
    ended: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of one profile.

    Args:
        bundle: File name of the bundle, or "" when none was written.
        summary: One sentence: what was chosen, or why nothing was.
        artifacts: Id, bytes, runtimes and compilation of what is in the bundle.
        layers: Most expensive first.
        fit: How the artifact fits the class of device, operator by operator.
        arm: How the artifacts answered on emulated ARM CPUs, when that was asked for.
        npu: What an NPU compiler made of each form for each platform, where there is one.
        assessment: Metrics, slices, confidence and robustness of the chosen candidate, or of the best
            that failed.
        depth: Noise that has come together by each layer, in running order.
        explanation: What changed in the answers of the chosen artifact, or of the one that came nearest.
    """

    profile: str
    title: str
    passed: bool
    summary: str
    trials: tuple[Trial, ...] = ()
    findings: tuple[Finding, ...] = ()
    layers: tuple[LayerCost, ...] = ()
    depth: tuple[LayerCost, ...] = ()
    explanation: Explanation | None = None
    histogram: Histogram | None = None
    artifacts: tuple[Mapping[str, Any], ...] = ()
    fit: Fit | None = None
    npu: tuple[Mapping[str, Any], ...] = ()
    arm: tuple[Mapping[str, Any], ...] = ()
    bundle: str = ""
    bundle_digest: str = ""
    notes: tuple[str, ...] = ()
    assessment: Assessment = NOTHING
    searched: Searched | None = None


@dataclass(frozen=True)
class BuildResult:
    """What a whole build found out.

    Args:
        source, data: Facts about the inputs, as the report prints them.
        refusal: Why the build stopped before any profile was tried, or "".
        processing: What --processing says, as plain values.
    """

    name: str
    version: str
    source: Mapping[str, Any]
    data: Mapping[str, Any]
    limits: Limits
    tools: Mapping[str, str]
    task: Task | None = None
    findings: tuple[Finding, ...] = ()
    outcomes: tuple[Outcome, ...] = ()
    notes: tuple[str, ...] = ()
    refusal: str = ""
    host: Mapping[str, Any] = field(default_factory=dict)
    processing: Mapping[str, Any] | None = None

    @property
    def passed(self) -> bool:
        """Whether every profile has its bundle."""
        return not self.refusal and bool(self.outcomes) and all(o.passed for o in self.outcomes)
