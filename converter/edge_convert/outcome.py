"""What becomes of one profile: its candidates before the gates, and a bundle of the first that passes.

Every profile stands alone: one that fails writes no bundle and takes nothing from the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any

from edge_contracts.keys import PrivateKey
from edge_contracts.manifest import Material, Provenance
from edge_contracts.profile import DeviceProfile
from edge_convert import gates, pack
from edge_convert.advice import advice
from edge_convert.candidates import Candidate, float_form
from edge_convert.delivery import Delivery
from edge_convert.device import arm_check, npu_choice
from edge_convert.device.arm import Userland
from edge_convert.evidence import Answered, Evidence
from edge_convert.explain.explainer import Explainer
from edge_convert.gates import Finding, Limits, Verdict
from edge_convert.graph import Graph
from edge_convert.judging import Judge
from edge_convert.measures.assessment import Assessment, Assessor
from edge_convert.measures.compare import compare
from edge_convert.parts import Refused, parts_for
from edge_convert.preference import Prefer
from edge_convert.provenance.materials import environment, of_recipe
from edge_convert.recipe import Recipe
from edge_convert.results import Outcome, Trial, TrialState
from edge_convert.search import Found, Search, Tried
from edge_convert.source import Source
from edge_convert.terminal import Step

# A hybrid file's own runtime quantizes activations as it goes; its dequantized form is the float source.
HYBRID_FIDELITY_DB = 15.0
# source format or target -> the packages that read, write or run it
PACKAGES = {
    "onnx": {"onnx", "openvino"},
    "tflite": {"ai-edge-litert"},
    "openvino": {"openvino"},
    # the framework itself says its version (`Source.tools`); these write and read what it makes of the file
    "keras": {"ai-edge-litert"},
    "savedmodel": {"ai-edge-litert"},
    "pt2": {"onnx"},
}


@dataclass(frozen=True, eq=False)
class Job:
    """What all profiles of one build share.

    Args:
        own: Some samples with the answers of the source's own runtime.
        calibration_digest, evaluation_digest: Of the data files.
        materials: All that was read, the source first.
        delivery: Where bundles go.
        explainer, assessor: Of the source and its answers, for the report.
        arm: To verify ARM artifacts with, when that was asked for.
    """

    source: Source
    own: Answered
    evidence: Evidence
    identity: pack.Identity
    limits: Limits
    prefer: Prefer
    calibration_digest: str
    evaluation_digest: str | None
    materials: tuple[Material, ...]
    key: PrivateKey
    delivery: Delivery
    explainer: Explainer
    assessor: Assessor
    arm: Userland | None = None


def decide(job: Job, profile: DeviceProfile, search: Search, found: Found, step: Step) -> Outcome:
    """Put what a search found before the gates, the best first; deliver the first that passes.

    Raises:
        OSError: The bundle cannot be written.
    """
    fidelity = _fidelity(job, profile)
    outcome = Outcome(profile.name, profile.title, False, "", findings=(fidelity,))
    if fidelity.verdict is Verdict.FAIL:
        return replace(outcome, summary=f"no bundle: {fidelity.reason}")
    judge = Judge(job.limits, job.prefer, profile, search, job.assessor.robustness_finding)
    trials, chosen = judge.all_precisions()
    compiler = npu_choice.compiler_for(profile)
    npu: npu_choice.Estimates | None = None
    if chosen is not None and compiler is not None:
        step(f"{profile.name}: compiling for the NPU")
        trials, chosen, npu = npu_choice.by_estimate(compiler, profile, trials, chosen, judge.precision)
    if not trials:
        return replace(outcome, summary=f"no bundle: none of the recipes asked for makes {_listed(profile)}")
    step(f"{profile.name}: what changed")
    shown = _shown(search, trials, chosen)
    spoken_of = chosen or shown
    outcome = replace(
        outcome,
        trials=trials,
        layers=shown.bench.layers(shown.candidate),
        depth=shown.bench.depth(shown.candidate),
        explanation=job.explainer.of(spoken_of.candidate.model),
        assessment=_assessed(job, spoken_of),
    )
    if found.ended:
        outcome = replace(outcome, notes=(f"{found.ended}: {len(found.tried)} candidates were tried",))
    if chosen is None:
        tips = advice(
            trials, profile, outcome.layers, len(job.evidence.calibration), ended_early=bool(found.ended)
        )
        helps = tuple(f"what would help: {tip}" for tip in tips)
        return replace(outcome, summary=_why_not(trials), notes=(*outcome.notes, *helps))
    if looked := [t.name for t in trials if t.state is TrialState.FAILED]:
        says = f"{len(looked)} candidates failed on the same samples before this one passed"
        outcome = replace(outcome, notes=(*outcome.notes, says))
    bench = chosen.bench
    measured = bench.measured(chosen.candidate)
    outcome = replace(outcome, histogram=measured.histogram, npu=tuple(npu.fields()) if npu else ())
    try:
        checked = npu.results[chosen.candidate.recipe.precision] if npu else ()
        made = parts_for(profile, bench.form.graph, chosen.candidate, measured.score, checked)
    except Refused as refusal:
        return replace(outcome, summary=f"no bundle: {refusal}", fit=refusal.fit)
    step(f"{profile.name}: signing")
    parts = tuple(_with_confidence(part, chosen.candidate, outcome.assessment) for part in made.parts)
    recipe, form = chosen.candidate.recipe, bench.form
    outcome = replace(
        outcome,
        passed=True,
        summary=npu_choice.sentence(chosen, npu) or _chosen_sentence(chosen, trials, profile),
        artifacts=tuple(artifact_facts(part) for part in made.parts),
        fit=made.fit,
        notes=(*outcome.notes, *made.notes),
    )
    kept = chosen.candidate.kept_float
    return bundled(job, profile, form.graph, parts, recipe, form.pruning, outcome, kept)


def _listed(profile: DeviceProfile) -> str:
    return f"{' or '.join(profile.precisions)}, which is what profile {profile.name} runs"


def _shown(search: Search, trials: Sequence[Trial], chosen: Tried | None) -> Tried:
    """Whose layers the report shows: the chosen one's where it has integers, else the first choice's."""
    if chosen is not None and chosen.candidate.quantization is not None:
        return chosen
    return search.named(trials[0].name)


def _fidelity(job: Job, profile: DeviceProfile) -> Finding:
    """Whether the graph, in float and written for this target, gives the source's own answers."""
    ours = float_form(job.source.graph, profile.target).model.run(job.own.feeds)
    limit = HYBRID_FIDELITY_DB if job.source.hybrid else gates.MIN_FIDELITY_DB
    return gates.fidelity(compare(job.own.answers, ours, "other"), limit)


def _assessed(job: Job, tried: Tried) -> Assessment:
    """All there is to say about a candidate's answers to the held-out samples."""
    measured = tried.bench.measured(tried.candidate)
    model = tried.candidate.model
    return job.assessor.of(tried.figures.name, model, measured.pair, measured.score, measured.slices)


def bundled(
    job: Job,
    profile: DeviceProfile,
    graph: Graph,
    parts: Sequence[pack.Part],
    recipe: Recipe,
    pruning: str,
    outcome: Outcome,
    kept_float: frozenset[str] = frozenset(),
) -> Outcome:
    """Sign what was chosen and hand it to the delivery, when an ARM CPU that was asked for agrees.

    Args:
        outcome: As it is when nothing speaks against the bundle.

    Returns:
        The outcome with the bundle's file name and digest; or without, and why.
    """
    calibration = job.evidence.calibration
    content = pack.assemble(
        job.identity,
        profile,
        graph,
        parts,
        calibration.feeds,
        calibration.answers,
        job.evidence.classes,
        _provenance(job, profile, recipe, pruning, kept_float),
    )
    if job.arm is not None and arm_check.concerns(profile):
        checks = arm_check.of_files(content.manifest, content.files, job.arm)
        verified = arm_check.finding(checks)
        shown = tuple(one.fields() for one in checks)
        outcome = replace(outcome, findings=(*outcome.findings, verified), arm=shown)
        if verified.verdict is Verdict.FAIL:
            return replace(outcome, passed=False, summary=f"no bundle: {verified.reason}", artifacts=())
    name, packed, digest = pack.signed(content, job.key, environment())
    job.delivery.add(name, packed)
    return replace(outcome, bundle=name, bundle_digest=digest)


def _provenance(
    job: Job, profile: DeviceProfile, recipe: Recipe, pruning: str, kept_float: frozenset[str]
) -> Provenance:
    return Provenance(
        source_name=job.source.name,
        source_digest=job.source.digest,
        source_bytes=job.source.size,
        calibration=job.calibration_digest,
        evaluation=job.evaluation_digest,
        recipe=f"{recipe.name}@{recipe.digest}",
        pruning=pruning,
        tools=tools_used(job.source, profile.target),
        materials=(*job.materials, of_recipe(recipe)),
        kept_float=tuple(sorted(kept_float)),
    )


def tools_used(source: Source, *targets: str) -> dict[str, str]:
    """Versions of what takes part in making artifacts for these targets; other profiles change nothing."""
    packages = {"edgefleet", "numpy"}
    for taken in (source.format, *targets):
        packages |= PACKAGES[taken]
    versions = {name: metadata.version(name) for name in packages} | dict(source.tools)
    return dict(sorted(versions.items()))


def _why_not(trials: Sequence[Trial]) -> str:
    failed = [t for t in trials if t.state is TrialState.FAILED]
    last = failed[-1]
    reasons = [f.reason for f in last.findings if f.verdict is Verdict.FAIL]
    reason = reasons[0] if reasons else "no gate that compares answers could be judged"
    return f"no bundle: {len(failed)} candidates failed; the last, {last.recipe}: {reason}"


def _chosen_sentence(chosen: Tried, trials: Sequence[Trial], profile: DeviceProfile) -> str:
    recipe = chosen.candidate.recipe
    form = chosen.bench.form
    pruned = f", pruning {form.pruning}" if form.pruned else ""
    if recipe.precision == profile.precisions[0]:
        return f"{recipe.precision} by recipe {chosen.candidate.name}{pruned}"
    failed = [t for t in trials if t.state is TrialState.FAILED]
    if not failed:  # a recipe by name, or a search that took a float form for being better
        return f"{recipe.precision} by recipe {chosen.candidate.name}{pruned}"
    failing = sorted({f.gate for t in failed for f in t.findings if f.verdict is Verdict.FAIL})
    return (
        f"fallback to {recipe.precision}{pruned}: all {len(failed)} candidates before it failed "
        f"({', '.join(failing)})"
    )


def _with_confidence(part: pack.Part, candidate: Candidate, assessment: Assessment) -> pack.Part:
    """The part with what is known of its confidence, where it is the candidate that was assessed."""
    if assessment.confidence is None or part.model is not candidate.model:
        return part
    return replace(part, confidence=assessment.confidence.contract)


def artifact_facts(part: pack.Part) -> dict[str, Any]:
    """An artifact as the report prints it."""
    return {
        "id": part.id,
        "format": part.format,
        "precision": part.precision,
        "runtimes": list(part.runtimes),
        "bytes": sum(len(content) for content in part.files.values()),
        "compiled_for": part.compiled_for,
        "not_compiled": part.not_compiled,
    }
