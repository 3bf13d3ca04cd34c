"""What part a model had in answering, how sure it was, and how often it was right: a part of a Window.

Several models may share one device: the active one, the other arm of an experiment, a second one for
what the first is unsure of, and a shadow whose answers nobody sees. Each that answers has windows of
its own; the shadow's counts are in the window of the model that it ran beside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta, field

from edge_contracts.digest import Digest
from edge_contracts.model import Count, Frozen, IdentifierOrEmpty, NotNegative, Positive
from edge_contracts.sketch import QuantileSketch

CONFIDENCE_BINS = 20  # of equal width over 0 to 1; the last holds 1
Count = Count
Role = Literal["active", "arm-b", "second"]


class ShadowTerms(Frozen):
    """On what terms a device runs an assigned bundle as a shadow; over them it stops it, and says so.

    Args:
        per_mille: Share of the inputs that it sees, in thousandths.
        cpu_share: Of one core, over time.
        memory_bytes: Resident memory of its process, runtime included.
        latency_ms: One inference may take so long.
    """

    per_mille: Annotated[int, Meta(ge=1, le=1000)] = 100
    cpu_share: Annotated[float, Meta(gt=0, le=1)] = 0.1
    memory_bytes: Annotated[int, Meta(gt=0)] = 256 << 20
    latency_ms: Positive = 2000


class ShadowCounts(Frozen):
    """A candidate beside the model that answered, on a share of the same inputs.

    Args:
        bundle: Digest of the candidate's manifest.
        state: "stopped" when it went over its budget or failed too often.
        compared: Inputs that both answered.
        agreed: Of those: the same top-1 class, or outputs within the tolerance of the comparison.
        failed: Inputs that the candidate failed on.
        skipped: Chosen inputs that were not given to it, by reason ("cpu", "busy").
        latency_ms: Of the candidate, in its own process.
        cpu_s: Processor time of its process in this window.
        rss_bytes: Resident memory of its process, the largest seen in this window.
    """

    bundle: Digest
    state: Literal["running", "stopped"] = "running"
    reason: Annotated[str, Meta(max_length=64)] = ""
    compared: Count = 0
    agreed: Count = 0
    failed: Count = 0
    skipped: Annotated[Mapping[str, int], Meta(max_length=8)] = field(default_factory=dict)
    latency_ms: QuantileSketch = QuantileSketch()
    cpu_s: NotNegative = 0
    rss_bytes: Count = 0

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if self.agreed > self.compared:
            raise ValueError(f"{self.agreed} agreed of {self.compared} compared")


class LineupCounts(Frozen):
    """Counts of one model in one window; of samples, not of requests.

    Args:
        role: "active" is also arm A of an experiment, where one runs.
        experiment: Its name, or "".
        sure: Answers of this model that went out as good.
        second: Answers that this model was unsure of (or failed on) and the second model was sure of.
        uncertain: Answers that went out as uncertain, from this model or after the second one.
        confidence: Of all answers that it computed, in bins of equal width; empty without a calibration.
        labelled: Labels that came back in this window for answers of this model, now or earlier.
        correct: Of those: the answer was right.
        rated: Of the labelled: those whose answer had a confidence.
        rated_correct, rated_confidence: Of the rated: right ones, and the confidence stated, summed up.
        overstated: The labels have shown its confidence to be too high.
    """

    role: Role = "active"
    experiment: IdentifierOrEmpty = ""
    sure: Count = 0
    second: Count = 0
    uncertain: Count = 0
    confidence: Annotated[tuple[Count, ...], Meta(max_length=CONFIDENCE_BINS)] = ()
    labelled: Count = 0
    correct: Count = 0
    rated: Count = 0
    rated_correct: Count = 0
    rated_confidence: NotNegative = 0
    overstated: bool = False
    shadow: ShadowCounts | None = None

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if self.correct > self.labelled or self.rated > self.labelled or self.rated_correct > self.rated:
            raise ValueError("more right answers than labels")
        if self.confidence and len(self.confidence) != CONFIDENCE_BINS:
            raise ValueError(f"{len(self.confidence)} bins of confidence, expected {CONFIDENCE_BINS}")
