"""A source that is quantized already, taken as it is: the file itself is the artifact.

Somebody has compressed it before, with data that may be better than ours; a second rounding can only lose.
There is no float source to hold it against. What can be known is measured against the float model that its
own codes stand for, and said, but it decides nothing: `decide` asks only whether the file fits the device.
Another recipe by name (`--recipe`) starts from that float model instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from edge_contracts.manifest import Score
from edge_contracts.profile import DeviceProfile
from edge_convert import gates
from edge_convert.binding import bind_source
from edge_convert.candidates import Candidate
from edge_convert.engine import open_artifact
from edge_convert.gates import Finding, Verdict
from edge_convert.measures import pairs, slices
from edge_convert.measures.compare import error_histogram
from edge_convert.outcome import Job, artifact_facts, bundled
from edge_convert.parts import Refused, parts_for
from edge_convert.recipe import Recipe
from edge_convert.results import Outcome, Trial, TrialState
from edge_convert.source import Source

Step = Callable[[str], None]


class AsItIs(Recipe):
    """No compression; no file in `recipes/` says it, for it makes nothing."""

    def __post_init__(self) -> None:
        """Refuse nothing: it says nothing that could be wrong."""


AS_IT_IS = AsItIs(
    format="edgefleet.recipe/1",
    name="as_it_is",
    title="the source file itself, quantized already",
    precision="int8",
    min_sqnr_db=0.0,
)


def applies(source: Source, profile: DeviceProfile, recipe: str) -> bool:
    """Whether a profile gets the source file itself.

    Args:
        recipe: What the user asked for: "auto", or a recipe's name.
    """
    return source.codes and profile.target == "tflite" and recipe == "auto" and "int8" in profile.precisions


def decide(job: Job, profile: DeviceProfile, step: Step) -> Outcome:
    """Bundle the source file, if it fits."""
    step(f"{profile.name}: taking the file as it is")
    files = {".tflite": job.source.content}
    model = bind_source(job.source.graph, open_artifact(files, "tflite"))
    candidate = Candidate(AS_IT_IS, "tflite", files, None, model)
    held_out = job.evidence.held_out
    answers = model.run(held_out.feeds)
    compared = pairs.pair(job.evidence.task, held_out, answers, pairs.floor_of(model))
    score = pairs.scored(compared)
    size = gates.fits(candidate.bytes, profile.artifact_bytes, profile.name)
    findings = (*_known(score), size)
    passed = size.verdict is not Verdict.FAIL
    trial = Trial(
        AS_IT_IS.name,
        "int8",
        candidate.bytes,
        score,
        TrialState.CHOSEN if passed else TrialState.FAILED,
        name=AS_IT_IS.name,
        score=score,
        findings=findings,
    )
    outcome = Outcome(
        profile.name,
        profile.title,
        False,
        f"no bundle: {size.reason}",
        trials=(trial,),
        findings=(
            Finding("fidelity", Verdict.NOT_JUDGED, "the artifact is the source file itself, byte for byte"),
        ),
        histogram=error_histogram(held_out.answers, answers),
        assessment=job.assessor.of(AS_IT_IS.name, model, compared, score, slices.of(compared)),
    )
    if not passed:
        return outcome
    try:
        made = parts_for(profile, job.source.graph, candidate, score)
    except Refused as refusal:
        return replace(outcome, summary=f"no bundle: {refusal}", fit=refusal.fit)
    outcome = replace(
        outcome,
        passed=True,
        summary="int8, taken as it is: the source is quantized already",
        artifacts=tuple(artifact_facts(part) for part in made.parts),
        fit=made.fit,
        notes=made.notes,
    )
    return bundled(job, profile, job.source.graph, made.parts, AS_IT_IS, "none", outcome)


def _known(score: Score) -> tuple[Finding, ...]:
    """The figures that there are; none decides."""
    of_itself = "against the float model that its own codes stand for; not judged: there is no float source"
    noise = "no noise" if score.sqnr_db is None else f"{score.sqnr_db:.1f} dB"
    findings = [Finding("signal", Verdict.NOT_JUDGED, f"{noise} {of_itself}", score.sqnr_db)]
    if score.agreement is not None:
        says = f"{score.agreement:.1%} of the answers keep their class {of_itself}"
        findings.append(Finding("agreement", Verdict.NOT_JUDGED, says, score.agreement))
    if score.artifact is not None:
        found = f"{score.metric} {100 * score.artifact:.2f} % on {score.samples} samples"
        says = f"{found}; not judged: it is the source"
        findings.append(Finding("accuracy", Verdict.NOT_JUDGED, says))
    return tuple(findings)
