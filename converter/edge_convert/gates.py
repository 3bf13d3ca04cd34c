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
from edge_convert.measures.intervals import Paired, samples_to_see, smallest_visible_drop, wilson

LatencyMode = Literal["auto", "on", "off"]
JudgeBy = Literal["estimate", "interval"]


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
        max_slice_drop: Points that any class or slice may lose.
        max_robustness_drop: Points that may be lost under the worst corruption; None does not ask.
        judge_by: What the drop gate compares with its limit: the figure itself, or the far end of its
            95 % interval, which proves it.
    """

    max_drop: float = 1.0
    # MLPerf Tiny's own int8 files agree with their float twins at 0.90 (pictures that they were not
    # trained on) to 0.975: what is worse than that is refused
    min_agreement: float = 0.90
    min_sqnr_db: float = 15.0  # noise of 3 % of the signal's power
    max_latency_ratio: float = 1.10
    latency: LatencyMode = "auto"
    max_slice_drop: float = 5.0
    judge_by: JudgeBy = "estimate"
    max_robustness_drop: float | None = None


MIN_FIDELITY_DB = 60.0  # two float32 runtimes differ by rounding alone: 80 to 130 dB where measured
NOTHING_LEFT_DB = -300.0  # stands for minus infinity, which JSON cannot say
MAX_SCATTER = 0.30  # interquartile range of the rounds' ratios over their median
LATENCY_FLOOR_MS = 0.01  # less than this is the call through Python, and no device budget sees it
SLICES_NAMED = 3
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


def accuracy_drop(score: Score, max_drop: float, judge_by: JudgeBy = "estimate") -> Finding:
    """Whether few enough points are lost against the source, on labelled samples.

    Judged by the figure itself; the reason states the interval, and `doubts` what it leaves open.
    Judged by the interval, only a drop that is shown to be small passes (docs/decisions/0035).
    """
    if score.source is None or score.artifact is None:
        return Finding("accuracy", Verdict.NOT_JUDGED, "no labels: give --evaluation with `y`")
    drop = 100 * (score.source - score.artifact)
    says = (
        f"{score.metric} {100 * score.artifact:.2f} % against the source's {100 * score.source:.2f} % "
        f"on {score.samples} samples: a drop of {drop:.2f} points, {max_drop:g} allowed"
    )
    worst = drop
    if score.drop_interval is not None:
        low, high = (100 * end for end in score.drop_interval)
        says += f" (between {low:.2f} and {high:.2f} with 95 % confidence)"
        worst = high if judge_by == "interval" else drop
    elif judge_by == "interval":
        return Finding("accuracy", Verdict.FAIL, f"{says}; too few samples for an interval", drop, max_drop)
    return Finding("accuracy", _pass_if(worst <= max_drop + 1e-9), says, worst, max_drop)


def agreement(score: Score, limit: float) -> Finding:
    """Whether enough samples keep their class, or their whole numbers."""
    if score.agreement is None:
        return Finding("agreement", Verdict.NOT_JUDGED, "not a classifier")
    share = f"{score.agreement:.1%} of {score.samples} samples"
    low, high = wilson(score.agreement * score.samples, score.samples)
    says = (
        f"same answer as the source for {share}, expected {limit:.1%} "
        f"(between {low:.1%} and {high:.1%} with 95 % confidence)"
    )
    return Finding("agreement", _pass_if(score.agreement >= limit), says, score.agreement, limit)


@dataclass(frozen=True)
class SliceDrop:
    """What one part of the samples loses.

    Args:
        group, name: Such as "class" and "3", or the column's name and the group's.
        metric: What source and artifact are; "agreement" has no source.
        drop: Share that is lost; None when it cannot be told.
        interval: Where the drop lies with 95 % confidence.
        at_least: What is lost at the very least, held against all slices at once: the chance that any of
            them is wrongly above its own is 5 %.
    """

    group: str
    name: str
    samples: int
    metric: str
    source: float | None
    artifact: float | None
    drop: float | None
    interval: tuple[float, float] | None
    at_least: float | None

    def verdict(self, limit: float) -> Verdict:
        """FAIL when it surely loses more than so many points, PASS when surely not, else too few to tell."""
        if self.interval is None or self.at_least is None:
            return Verdict.NOT_JUDGED
        if 100 * self.at_least > limit:
            return Verdict.FAIL
        return Verdict.PASS if 100 * self.interval[1] <= limit else Verdict.NOT_JUDGED


def slice_limit(limits: Limits, metric: str) -> float:
    """Points that a slice may lose; without labels, beyond the disagreement that is allowed for all."""
    return limits.max_slice_drop + (100 * (1 - limits.min_agreement) if metric == "agreement" else 0.0)


def worst_slice(slices: Sequence[SliceDrop], limits: Limits) -> Finding:
    """Whether no class and no slice loses too much; a slice too small to tell passes nothing."""
    told = [one for one in slices if one.drop is not None]
    if not told:
        return Finding("worst slice", Verdict.NOT_JUDGED, "no classes and no slices to judge")
    limit = slice_limit(limits, told[0].metric)
    failed = [one for one in told if one.verdict(limit) is Verdict.FAIL]
    unsure = [one for one in told if one.verdict(limit) is Verdict.NOT_JUDGED]
    worst = max(failed or told, key=lambda one: one.drop or 0.0)
    found = 100 * (worst.drop or 0.0)
    says = (
        f"{worst.group} {worst.name} loses {found:.2f} points of {worst.metric} on {worst.samples} "
        f"samples, {limit:g} allowed"
    )
    if failed:
        surely = (
            f"; at least {100 * (worst.at_least or 0.0):.2f} with 95 % confidence over {len(told)} slices"
        )
        return Finding("worst slice", Verdict.FAIL, says + surely, found, limit)
    if unsure or len(told) < len(slices):
        few = f"; {len(slices) - len(told) + len(unsure)} of {len(slices)} slices are too small to tell"
        return Finding("worst slice", Verdict.NOT_JUDGED, says + few, found, limit)
    return Finding("worst slice", Verdict.PASS, says, found, limit)


def robustness_drop(
    corruption: str, drop: float | None, interval: tuple[float, float] | None, limit: float
) -> Finding:
    """Whether the artifact loses few enough points under the corruption that it bears worst.

    Args:
        drop: Share lost against the source on the same corrupted samples, mean over severities; None
            when nothing can be corrupted, or nothing is known to be right.
    """
    if drop is None:
        return Finding("robustness", Verdict.NOT_JUDGED, "no corruption's drop can be told for this model")
    says = f"under {corruption} the artifact loses {100 * drop:.2f} points more than the source"
    if interval is not None:
        low, high = (100 * end for end in interval)
        says += f" (between {low:.2f} and {high:.2f} with 95 % confidence)"
    says += f", {limit:g} allowed"
    return Finding("robustness", _pass_if(100 * drop <= limit + 1e-9), says, 100 * drop, limit)


def doubts(score: Score, slices: Sequence[SliceDrop], limits: Limits, counts: Paired | None) -> list[str]:
    """What the samples are too few to tell, one plain sentence each.

    Args:
        counts: How source and artifact fare on the labelled samples; None for other metrics.
    """
    found = []
    if score.drop_interval is not None and 100 * score.drop_interval[1] > limits.max_drop:
        low, high = (100 * end for end in score.drop_interval)
        says = (
            f"{score.samples} samples are too few to tell whether {score.metric} drops by more than "
            f"{limits.max_drop:g} points: it lies between {low:.2f} and {high:.2f}"
        )
        if counts is not None:
            says += f"; the smallest drop they would show is {100 * smallest_visible_drop(counts):.2f} points"
            if limits.max_drop > 0:
                enough = samples_to_see(limits.max_drop / 100, counts)
                says += f", {enough} samples would show {limits.max_drop:g}"
        found.append(says)
    if score.agreement is not None and score.agreement >= limits.min_agreement:
        low = wilson(score.agreement * score.samples, score.samples)[0]
        if low < limits.min_agreement:
            found.append(
                f"{score.samples} samples are too few to tell whether {limits.min_agreement:.1%} keep their "
                f"answer: it may be {low:.1%}"
            )
    unsure = [s for s in slices if s.verdict(slice_limit(limits, s.metric)) is Verdict.NOT_JUDGED]
    if unsure:
        unsure.sort(key=lambda one: -(one.drop or 0.0))
        named = ", ".join(f"{s.group} {s.name} ({s.samples} samples)" for s in unsure[:SLICES_NAMED])
        more = f" and {len(unsure) - SLICES_NAMED} more" if len(unsure) > SLICES_NAMED else ""
        found.append(f"slices too small to tell whether they lose too much: {named}{more}")
    return found


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
    if ratio > allowed >= 1 and ours - theirs < LATENCY_FLOOR_MS:  # who asks for a gain means it
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
