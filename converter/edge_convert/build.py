"""The build: from a source file and samples to signed bundles and a report.

Every profile stands alone: one that fails writes no bundle and takes nothing from the others. The
report is written whatever happens after the source has been read.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from edge_contracts.errors import ContractError
from edge_contracts.keys import PrivateKey, read_private
from edge_contracts.manifest import Provenance, Task
from edge_contracts.profile import DeviceProfile, load_profile
from edge_convert import gates, golden, pack, report, statistics
from edge_convert import task as tasks
from edge_convert.candidates import Candidate, float_form
from edge_convert.data import (
    FEW_CALIBRATION,
    MIN_CALIBRATION,
    Samples,
    compare_ranges,
    ports_of,
    read_samples,
)
from edge_convert.engine import LiteRtEngine, OpenVinoEngine
from edge_convert.errors import ConvertError, DataInvalid
from edge_convert.evidence import Answered, Evidence, gather
from edge_convert.gates import Finding, Limits, Verdict
from edge_convert.graph import Graph
from edge_convert.parts import Refused, parts_for
from edge_convert.quantize import Rules, rules_for
from edge_convert.results import BuildResult, Outcome, Trial, TrialState
from edge_convert.source import Source, read_source
from edge_convert.workbench import Step, Workbench

# A hybrid file's own runtime quantizes activations as it goes; its dequantized form is the float source.
HYBRID_FIDELITY_DB = 15.0
FIDELITY_SAMPLES = 32
# target of a profile -> what runs its files on this host, and then times the source itself
RUNTIME = {"tflite": LiteRtEngine.runtime, "openvino": OpenVinoEngine.runtime}


@dataclass(frozen=True)
class BuildOptions:
    """What the user asked for.

    Args:
        prune: "none", "auto" or a share of the weights to remove, 0 to 1.
        task: None to tell it from the outputs.
    """

    model: Path
    profiles: Sequence[str]
    name: str
    version: str
    calibration: Path
    sign_key: Path
    output: Path
    evaluation: Path | None = None
    prune: Literal["none", "auto"] | float = "none"
    limits: Limits = field(default_factory=Limits)
    task: Task | None = None
    labels: Path | None = None
    color_order: Literal["", "RGB", "BGR"] = ""


@dataclass(frozen=True, eq=False)
class _Job:
    """What all profiles of one build share.

    Args:
        own: Some samples with the answers of the source's own runtime.
    """

    options: BuildOptions
    key: PrivateKey
    source: Source
    graph: Graph
    identity: pack.Identity
    evidence: Evidence
    own: Answered
    provenance: Callable[[Candidate], Provenance]


def build(options: BuildOptions, step: Step) -> BuildResult:
    """Convert, judge, sign and write.

    Args:
        step: Told what is being done, before it is done.

    Returns:
        What was found out; a bundle is there for each outcome that passed. Reports are written.

    Raises:
        ContractError, ConvertError: The inputs were refused. After the source has been read there
            is a report that says so.
        OSError: The output folder cannot be written.
    """
    profiles = [load_profile(name) for name in dict.fromkeys(options.profiles)]
    key = read_private(options.sign_key)
    step(f"reading {options.model.name}")
    source = read_source(options.model)
    options.output.mkdir(parents=True, exist_ok=True)
    result = BuildResult(
        options.name,
        options.version,
        _source_facts(source),
        {},
        options.limits,
        tools_used(source.format, {p.target for p in profiles}),
        host={
            "machine": platform.machine(),
            "system": platform.system(),
            "python": platform.python_version(),
        },
    )
    try:
        result = _convert(options, profiles, key, source, result, step)
    except (ContractError, ConvertError) as error:
        report.write(replace(result, refusal=str(error)), options.output)
        raise
    report.write(result, options.output)
    return result


def _convert(
    options: BuildOptions,
    profiles: Sequence[DeviceProfile],
    key: PrivateKey,
    source: Source,
    result: BuildResult,
    step: Step,
) -> BuildResult:
    ports = ports_of(source.graph)
    step("reading data")
    calibration = read_samples(options.calibration, ports, MIN_CALIBRATION)
    evaluation = None if options.evaluation is None else read_samples(options.evaluation, ports)
    if evaluation is not None:
        compare_ranges(calibration, evaluation)
    step(f"running {source.name} on {len(calibration) + len(evaluation or ())} samples")
    own = source.open()
    # a hybrid file's own answers are noisy: what it would say in float is what an artifact is held to
    reference = float_form(source.graph, "tflite").model if source.hybrid else own
    evidence = gather(source.graph, reference, calibration, evaluation, options.task)
    graph, pruning, notes = _pruned(options, source.graph, evidence, step)
    identity = pack.Identity(
        options.name,
        options.version,
        evidence.task,
        tasks.read_labels(options.labels, evidence.classes) if options.labels else (),
        options.color_order,
    )

    def provenance(candidate: Candidate) -> Provenance:
        return Provenance(
            source_name=source.name,
            source_digest=source.digest,
            source_bytes=len(source.content),
            calibration=calibration.digest,
            evaluation=None if evaluation is None else evaluation.digest,
            recipe=f"{candidate.recipe.name}@{candidate.recipe.digest}",
            pruning=pruning,
            tools=result.tools,
        )

    few = {name: values[:FIDELITY_SAMPLES] for name, values in evidence.selection.feeds.items()}
    job = _Job(options, key, source, graph, identity, evidence, Answered(few, own.run(few)), provenance)
    sanity = _source_sanity(evidence)
    result = replace(
        result,
        task=evidence.task,
        data=_data_facts(calibration, evaluation, evidence),
        findings=(sanity,),
        notes=tuple(_notes(source, calibration, evaluation, evidence)) + notes,
    )
    if sanity.verdict is Verdict.FAIL:
        raise DataInvalid(sanity.reason)
    benches: list[tuple[str, Rules, Workbench]] = []
    collect = cache(lambda: statistics.collect(graph, evidence.ranges.feeds))
    outcomes = []
    for profile in profiles:
        demands = (profile.target, rules_for(profile))
        bench = next((bench for *known, bench in benches if tuple(known) == demands), None)
        if bench is None:
            same_runtime = RUNTIME[profile.target] == own.engine.runtime
            timed = options.limits.latency != "off"
            bench = Workbench(graph, profile, evidence, collect, own if same_runtime else None, timed, step)
            benches.append((*demands, bench))
        outcomes.append(_outcome(job, profile, bench, step))
    return replace(result, outcomes=tuple(outcomes))


def _outcome(job: _Job, profile: DeviceProfile, bench: Workbench, step: Step) -> Outcome:
    """Try the profile's precisions in its order; write the bundle of the first candidate that passes."""
    limit = HYBRID_FIDELITY_DB if job.source.hybrid else gates.MIN_FIDELITY_DB
    pruned = job.graph is not job.source.graph
    nothing = Outcome(profile.name, profile.title, False, "")
    if not pruned:
        fidelity = bench.fidelity(job.own, limit)
        nothing = replace(nothing, findings=(fidelity,))
        if fidelity.verdict is Verdict.FAIL:
            return replace(nothing, summary=f"no bundle: {fidelity.reason}")
    trials: list[Trial] = []
    chosen: Candidate | None = None
    for precision in profile.precisions:
        if chosen is not None:
            break
        for ranked in bench.ranked(precision):
            trial = Trial(
                ranked.candidate.recipe.name,
                precision,
                ranked.candidate.bytes,
                ranked.selection,
                TrialState.NOT_NEEDED,
            )
            if chosen is None:
                trial = _judged(trial, job, profile, bench, ranked.candidate)
                chosen = ranked.candidate if trial.state is TrialState.CHOSEN else None
            trials.append(trial)
    first = bench.ranked(profile.precisions[0])[0].candidate
    nothing = replace(nothing, trials=tuple(trials), layers=bench.layers(first))
    if chosen is None:
        return replace(nothing, summary=_why_not(trials))
    histogram = bench.measured(chosen).histogram
    try:
        made = parts_for(profile, chosen, bench.measured(chosen).score)
    except Refused as refusal:
        return replace(nothing, summary=f"no bundle: {refusal}", fit=refusal.fit, histogram=histogram)
    step(f"{profile.name}: signing")
    content = pack.assemble(
        job.identity,
        profile,
        job.graph,
        made.parts,
        job.evidence.calibration.feeds,
        job.evidence.calibration.answers,
        golden.choose(job.evidence.calibration.answers, job.evidence.task),
        job.evidence.classes,
        job.provenance(chosen),
    )
    path, digest = pack.write_bundle(content, job.key, job.options.output)
    return replace(
        nothing,
        passed=True,
        summary=_chosen_sentence(chosen, trials, profile),
        histogram=histogram,
        artifacts=tuple(_artifact_facts(part) for part in made.parts),
        fit=made.fit,
        notes=made.notes,
        bundle=path.name,
        bundle_digest=digest,
    )


def _judged(trial: Trial, job: _Job, profile: DeviceProfile, bench: Workbench, candidate: Candidate) -> Trial:
    """Put one candidate before every gate."""
    limits = job.options.limits
    size = gates.fits(candidate.bytes, profile.artifact_bytes, profile.name)
    if size.verdict is Verdict.FAIL:  # nothing that follows could help
        return replace(trial, state=TrialState.FAILED, findings=(size,))
    measured = bench.measured(candidate)
    findings: list[Finding] = [
        gates.accuracy_drop(measured.score, limits.max_drop),
        gates.agreement(measured.score, limits.min_agreement),
        gates.signal(measured.score, limits.min_sqnr_db),
        size,
        gates.smaller(candidate.bytes, bench.float_form.bytes, candidate.recipe.precision),
        gates.latency(
            measured.candidate_ms,
            measured.source_ms,
            f"{bench.runtime} ({bench.baseline_name})",
            limits,
        ),
    ]
    ours, theirs = measured.medians
    return replace(
        trial,
        score=measured.score,
        latency_ms=ours,
        source_ms=theirs,
        findings=tuple(findings),
        state=TrialState.CHOSEN if gates.passed(findings) else TrialState.FAILED,
    )


def _pruned(
    options: BuildOptions, graph: Graph, evidence: Evidence, step: Step
) -> tuple[Graph, str, tuple[str, ...]]:
    """The graph to compress, how the provenance says it, and notes for the report."""
    if options.prune == "none":
        return graph, "none", ()
    from edge_convert import prune

    step("pruning")
    amount = "auto" if options.prune == "auto" else float(options.prune)
    pruned = prune.prune(graph, evidence.ranges.feeds, amount)
    return pruned.graph, pruned.summary, (f"pruning: {pruned.summary}",)


def _source_sanity(evidence: Evidence) -> Finding:
    held_out = evidence.held_out
    accuracy = None
    if held_out.classes is not None:
        scores = next(iter(held_out.answers.values())).reshape(len(held_out), -1)
        accuracy = float((scores.argmax(axis=1) == held_out.classes).mean())
    return gates.source_sanity(accuracy, evidence.classes, len(held_out))


def _notes(source: Source, calibration: Samples, evaluation: Samples | None, evidence: Evidence) -> list[str]:
    notes = [*calibration.notes, *(evaluation.notes if evaluation else ())]
    if source.hybrid:
        notes.append("the source's weights are integers already; it is held against its dequantized form")
    if len(calibration) < FEW_CALIBRATION:
        notes.append(f"only {len(calibration)} calibration samples; {FEW_CALIBRATION} or more are better")
    if evaluation is None:
        notes.append(
            f"no --evaluation: {len(evidence.held_out)} calibration samples were kept back to measure on"
        )
    unused = len(calibration) - len(evidence.split.ranges) - len(evidence.split.selection)
    unused -= len(evidence.split.score)
    if unused:
        notes.append(
            f"ranges come from {len(evidence.split.ranges)} samples, {unused} more would take too long"
        )
    has_labels = (evaluation or calibration).labels is not None
    if has_labels and evidence.task != "classification":
        notes.append(f"y was not used: the task is {evidence.task}, not classification")
    return notes


def _why_not(trials: Sequence[Trial]) -> str:
    failed = [t for t in trials if t.state is TrialState.FAILED]
    last = failed[-1]
    reasons = [f.reason for f in last.findings if f.verdict is Verdict.FAIL]
    reason = reasons[0] if reasons else "no gate that compares answers could be judged"
    return f"no bundle: {len(failed)} candidates failed; the last, {last.recipe}: {reason}"


def _chosen_sentence(chosen: Candidate, trials: Sequence[Trial], profile: DeviceProfile) -> str:
    precision = chosen.recipe.precision
    if precision == profile.precisions[0]:
        return f"{precision} by recipe {chosen.recipe.name}"
    failed = [t for t in trials if t.state is TrialState.FAILED]
    reasons = {f.gate for t in failed for f in t.findings if f.verdict is Verdict.FAIL}
    return (
        f"fallback to {precision}: all {len(failed)} candidates before it failed "
        f"({', '.join(sorted(reasons))})"
    )


def _artifact_facts(part: pack.Part) -> dict[str, Any]:
    return {
        "id": part.id,
        "format": part.format,
        "precision": part.precision,
        "runtimes": list(part.runtimes),
        "bytes": sum(len(content) for content in part.files.values()),
        "compiled_for": part.compiled_for,
        "not_compiled": part.not_compiled,
    }


def _source_facts(source: Source) -> dict[str, Any]:
    graph = source.graph
    return {
        "name": source.name,
        "digest": source.digest,
        "bytes": len(source.content),
        "format": source.format,
        "operators": len(graph.nodes),
        "parameters": graph.parameters(),
        "inputs": [{"name": p.name, "shape": list(p.shape), "layout": p.layout} for p in graph.inputs],
        "outputs": [{"name": p.name, "shape": list(p.shape)} for p in graph.outputs],
    }


def _data_facts(calibration: Samples, evaluation: Samples | None, evidence: Evidence) -> Mapping[str, Any]:
    return {
        "calibration": {"file": calibration.path, "digest": calibration.digest, "samples": len(calibration)},
        "evaluation": None
        if evaluation is None
        else {"file": evaluation.path, "digest": evaluation.digest, "samples": len(evaluation)},
        "ranges": len(evidence.split.ranges),
        "selection": len(evidence.split.selection),
        "held_out": len(evidence.held_out),
        "labelled": evidence.held_out.classes is not None,
        "inputs": {
            name: {"minimum": float(values.min()), "maximum": float(values.max())}
            for name, values in calibration.feeds.items()
        },
    }


def tools_used(source_format: str, targets: set[str]) -> dict[str, str]:
    """Versions of what takes part in a build."""
    names = ["edgefleet", "numpy"]
    if source_format == "onnx":
        names += ["onnx", "openvino"]
    if "openvino" in targets:
        names.append("openvino")
    if "tflite" in targets or source_format == "tflite":
        names.append("ai-edge-litert")
    return {name: metadata.version(name) for name in sorted(set(names))}
