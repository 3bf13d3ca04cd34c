"""The converter's gates, as functions of numbers: may this artifact stand in for its source?

Nothing here runs a model or reads a clock; measured numbers come in, a `Finding` goes out with what
was found and what was expected. No evidence is NOT_JUDGED, never PASS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import median, quantiles
from typing import Literal

from edge_contracts.manifest import Score

LatencyMode = Literal["auto", "on", "off"]


class Verdict(StrEnum):
    """The answer of a gate."""

    PASS = "pass"
    FAIL = "fail"
    NOT_JUDGED = "not judged"


@dataclass(frozen=True)
class Finding:
    """What one gate said.

    Args:
        reason: One sentence with what was found and what was expected.
        found, limit: The same two as numbers in the gate's own unit, where there are such.
    """

    gate: str
    verdict: Verdict
    reason: str
    found: float | None = None
    limit: float | None = None


@dataclass(frozen=True)
class Limits:
    """What the gates hold an artifact to.

    Args:
        max_drop: Points of accuracy that may be lost.
        min_agreement: Share of samples that must keep their top-1 class.
        min_sqnr_db: Smallest signal-to-quantization-noise ratio of an output that is not a class.
        max_latency_ratio: Artifact's median latency over the source's, on this host.
        latency: "auto" does not judge on a host whose rounds scatter too much.
    """

    max_drop: float = 1.0
    # MLPerf Tiny's own int8 files agree with their float twins at 0.90 (pictures that they were not
    # trained on) to 0.975: what is worse than that is refused
    min_agreement: float = 0.90
    min_sqnr_db: float = 15.0  # noise of 3 % of the signal's power
    max_latency_ratio: float = 1.10
    latency: LatencyMode = "auto"


MIN_FIDELITY_DB = 60.0  # two float32 runtimes differ by rounding alone: 80 to 130 dB where measured
NOTHING_LEFT_DB = -300.0  # stands for minus infinity, which JSON cannot say
MAX_SCATTER = 0.30  # interquartile range of the rounds' ratios over their median
LATENCY_FLOOR_MS = 0.01  # less than this is the call through Python, and no device budget sees it
CHANCE_SAMPLES = 50  # below, a source's accuracy cannot be told from chance


def fidelity(score: Score, limit: float = MIN_FIDELITY_DB) -> Finding:
    """Whether our float form of the source gives the source's own answers.

    Args:
        score: Of the float form against the source's own runtime.
        limit: Decibels.
    """
    if score.agreement is not None and score.agreement < 1:
        says = f"the imported float model gives other answers for {1 - score.agreement:.1%} of the samples"
        return Finding("fidelity", Verdict.FAIL, says, score.agreement, 1.0)
    if score.sqnr_db is None:
        return Finding("fidelity", Verdict.PASS, "the imported model gives the source's answers exactly")
    found = f"{score.sqnr_db:.1f} dB from the source's own answers, expected {limit:.0f}"
    verdict = _pass_if(score.sqnr_db >= limit)
    return Finding("fidelity", verdict, f"the imported float model is {found}", score.sqnr_db, limit)


def source_sanity(accuracy: float | None, classes: int, samples: int) -> Finding:
    """Whether the float source does better than guessing: if not, the data are not what it expects.

    Args:
        accuracy: Share of evaluation samples that the source gets right, or None without labels.
    """
    if accuracy is None:
        return Finding("source", Verdict.NOT_JUDGED, "no labels, so the source's own accuracy is not known")
    if samples < CHANCE_SAMPLES or classes < 2:
        return Finding("source", Verdict.NOT_JUDGED, f"{samples} labelled samples cannot be told from chance")
    chance = 1 / classes
    limit = chance + 2 * (chance * (1 - chance) / samples) ** 0.5
    says = (
        f"the float source itself is right for {accuracy:.1%} of the evaluation samples, "
        f"guessing would be for {chance:.1%}"
    )
    if accuracy > limit:
        return Finding("source", Verdict.PASS, says, accuracy, limit)
    hint = "; check the inputs' range, the colour order and the order of the labels"
    return Finding("source", Verdict.FAIL, says + hint, accuracy, limit)


def accuracy_drop(score: Score, max_drop: float) -> Finding:
    """Whether few enough points of accuracy are lost against the source, on labelled samples."""
    if score.source is None or score.artifact is None:
        return Finding("accuracy", Verdict.NOT_JUDGED, "no labels: give --evaluation with `y`")
    drop = 100 * (score.source - score.artifact)
    says = (
        f"{score.metric} {100 * score.artifact:.2f} % against the source's {100 * score.source:.2f} % "
        f"on {score.samples} samples: a drop of {drop:.2f} points, {max_drop:g} allowed"
    )
    return Finding("accuracy", _pass_if(drop <= max_drop + 1e-9), says, drop, max_drop)


def agreement(score: Score, limit: float) -> Finding:
    """Whether enough samples keep their class, or their whole numbers."""
    if score.agreement is None:
        return Finding("agreement", Verdict.NOT_JUDGED, "not a classifier")
    share = f"{score.agreement:.1%} of {score.samples} samples"
    says = f"same answer as the source for {share}, expected {limit:.1%}"
    return Finding("agreement", _pass_if(score.agreement >= limit), says, score.agreement, limit)


def signal(score: Score, limit: float) -> Finding:
    """Whether the outputs stand out enough from the noise of compression (not classification)."""
    if score.sqnr_db is not None and score.sqnr_db <= NOTHING_LEFT_DB:
        reason = "an output is NaN or infinite, or shares nothing with the source's"
        return Finding("signal", Verdict.FAIL, reason, score.sqnr_db, limit)
    if score.agreement is not None:
        return Finding("signal", Verdict.NOT_JUDGED, "judged by the share of equal answers")
    if score.sqnr_db is None:
        return Finding("signal", Verdict.PASS, "the outputs equal the source's")
    says = f"signal to noise {score.sqnr_db:.1f} dB on {score.samples} samples, expected {limit:.1f}"
    return Finding("signal", _pass_if(score.sqnr_db >= limit), says, score.sqnr_db, limit)


def fits(artifact_bytes: int, allowed_bytes: int, profile: str) -> Finding:
    """Whether the artifact may be installed on the profile at all."""
    says = f"artifact has {artifact_bytes} bytes, profile {profile} allows {allowed_bytes}"
    return Finding(
        "size", _pass_if(artifact_bytes <= allowed_bytes), says, float(artifact_bytes), float(allowed_bytes)
    )


def smaller(artifact_bytes: int, float_bytes: int, precision: str) -> Finding:
    """Whether compression made it smaller than its own float32 form.

    Args:
        artifact_bytes, float_bytes: Of the files that hold weights; a description of the graph in text
            is not what precision changes.
    """
    if precision == "float32":
        return Finding("smaller", Verdict.NOT_JUDGED, "float32 is not compressed")
    says = f"{precision} weights take {artifact_bytes} bytes, the float32 form's {float_bytes}"
    return Finding(
        "smaller", _pass_if(artifact_bytes <= float_bytes), says, float(artifact_bytes), float(float_bytes)
    )


def latency(
    artifact_ms: Sequence[float],
    source_ms: Sequence[float],
    runtime: str,
    limits: Limits,
) -> Finding:
    """Whether the artifact is not slower than the source on this host.

    Args:
        artifact_ms, source_ms: Milliseconds of one inference in each of the interleaved rounds;
            rounds at the same place in the two are neighbours in time.
        runtime: In which both ran, for the sentence.
    """
    if limits.latency == "off":
        return Finding("latency", Verdict.NOT_JUDGED, "switched off by --latency-gate off")
    if len(artifact_ms) != len(source_ms):
        raise ValueError(f"{len(artifact_ms)} rounds against {len(source_ms)}; they must be interleaved")
    if len(artifact_ms) < 5:
        return Finding("latency", Verdict.NOT_JUDGED, f"{len(artifact_ms)} rounds, expected 5 or more")
    ours, theirs = median(artifact_ms), median(source_ms)
    ratios = [a / s for a, s in zip(artifact_ms, source_ms, strict=True)]
    ratio, allowed = median(ratios), limits.max_latency_ratio
    says = (
        f"{ours:.4f} ms against the float source's {theirs:.4f} ms in {runtime} on this host "
        f"(ratio {ratio:.2f}, {allowed:.2f} allowed)"
    )
    lower, _, upper = quantiles(ratios, n=4)
    scatter = (upper - lower) / ratio
    # noise that leaves three quarters of the rounds on one side of the limit hides nothing
    if limits.latency == "auto" and scatter > MAX_SCATTER and lower <= allowed <= upper:
        doubt = (
            f"; not judged: the rounds' ratios scatter by {scatter:.0%}, up to {MAX_SCATTER:.0%} is judged"
        )
        return Finding("latency", Verdict.NOT_JUDGED, says + doubt, ratio, allowed)
    if ratio > allowed and ours - theirs < LATENCY_FLOOR_MS:
        floor = f"; the difference is below {LATENCY_FLOOR_MS} ms, which a call through Python costs"
        return Finding("latency", Verdict.PASS, says + floor, ratio, allowed)
    return Finding("latency", _pass_if(ratio <= allowed), says, ratio, allowed)


def of_other_runtime(finding: Finding, device_runtime: str, limits: Limits) -> Finding:
    """What a latency finding is worth when the device's first runtime is not the one that was timed.

    An Edge TPU runs operators fast for which this host's CPU has no int8 kernel worth the name
    (PRELU: 4 times slower than float here), so "slower" is no evidence unless the user says so.
    """
    if finding.verdict is not Verdict.FAIL or limits.latency == "on":
        return finding
    doubt = f"; not judged: the device runs it in {device_runtime}, which this host cannot"
    return replace(finding, verdict=Verdict.NOT_JUDGED, reason=finding.reason + doubt)


def passed(findings: Sequence[Finding]) -> bool:
    """Whether no gate said no, and at least one that compares answers said yes."""
    answers = {"accuracy", "agreement", "signal"}
    return all(f.verdict is not Verdict.FAIL for f in findings) and any(
        f.gate in answers and f.verdict is Verdict.PASS for f in findings
    )


def _pass_if(condition: bool) -> Verdict:
    return Verdict.PASS if condition else Verdict.FAIL
