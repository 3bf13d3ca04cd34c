"""The build: from a source file and samples to signed bundles and a report.

Every profile stands alone: one that fails writes no bundle and takes nothing from the others. The
report is written whatever is refused after the source has been read; a build that is stopped writes nothing.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from threadpoolctl import threadpool_limits

from edge_contracts.errors import ContractError
from edge_contracts.keys import PrivateKey, read_private
from edge_contracts.manifest import Material, Task
from edge_contracts.processing import Processing
from edge_contracts.profile import DeviceProfile, load_profile
from edge_convert import gates, pack, processing, report, taken
from edge_convert import recipe as recipes
from edge_convert.budget import Budget
from edge_convert.candidates import float_form
from edge_convert.data import (
    FEW_CALIBRATION,
    MIN_CALIBRATION,
    Samples,
    compare_ranges,
    ports_of,
    read_samples,
)
from edge_convert.delivery import Delivery
from edge_convert.device import arm, npu_choice
from edge_convert.device.arm import Userland
from edge_convert.errors import ConvertError, DataInvalid, DistillationRefused
from edge_convert.evidence import Answered, Evidence, gather
from edge_convert.explain.explainer import Explainer
from edge_convert.fixed_inputs import NOTHING_FIXED, FixedInputs
from edge_convert.gates import Finding, Limits, Verdict
from edge_convert.graph import Graph
from edge_convert.measures import task as tasks
from edge_convert.measures.assessment import ABSTAIN_RISK, Assessor
from edge_convert.measures.robustness import Mode, Trials
from edge_convert.outcome import Job, decide, tools_used
from edge_convert.preference import Prefer
from edge_convert.provenance.materials import NOWHERE, Origin, of_file
from edge_convert.pruning.distill import DistillOptions
from edge_convert.pruning.prune import LadderOptions
from edge_convert.results import BuildResult, Outcome, Searched
from edge_convert.search import recipe_of
from edge_convert.searches import Amount, Searches, Shared
from edge_convert.source import Source, read_source
from edge_convert.terminal import Step, silent

FIDELITY_SAMPLES = 32


@dataclass(frozen=True)
class BuildOptions:
    """What the user asked for.

    Args:
        recipe: "auto" to search, or the name of the only one to try.
        prune: "none", "auto", or the share of the channels to remove, 0 to below 1; None is "auto" for a
            search and "none" for a recipe by name.
        distill_steps: How long each form that pruning loses on is taught by the source; 0 for least squares
            alone. Needs the extra `[torch]`.
        stride_hoist: Whether a stride may be moved to an earlier layer; only with distillation.
        prefer: What the best of those that pass is.
        task: None to tell it from the outputs.
        robustness: "attack" needs the extra [robustness].
        processing: TOML file of what bytes become and answers mean; see `processing.py`.
        abstain_risk: Share of wrong answers allowed among those above the abstain threshold.
        origin: Where the model was fetched from.
        fixed: Sizes that the source leaves open, and inputs that become constants.
        signature: Which function of a SavedModel; "" for its only one, or "serving_default".
        verify_arm: Hold LiteRT artifacts to their answers on emulated ARM CPUs.
    """

    model: Path
    profiles: Sequence[str]
    name: str
    version: str
    calibration: Path
    sign_key: Path
    output: Path
    evaluation: Path | None = None
    recipe: str = "auto"
    prune: Amount | None = None
    distill_steps: int = 0
    stride_hoist: bool = False
    prefer: Prefer = "balanced"
    limits: Limits = field(default_factory=Limits)
    task: Task | None = None
    labels: Path | None = None
    color_order: Literal["", "RGB", "BGR"] = ""
    processing: Path | None = None
    abstain_risk: float = ABSTAIN_RISK
    robustness: Mode = "basic"
    origin: Origin = NOWHERE
    fixed: FixedInputs = NOTHING_FIXED
    signature: str = ""
    verify_arm: bool = False


def build(options: BuildOptions, step: Step = silent, budget: Budget | None = None) -> BuildResult:
    """Convert, judge, sign and write.

    Args:
        step: Told what is being done, before it is done.
        budget: Ends the search when it is spent; None tries everything.

    Returns:
        What was found out; a bundle is there for each outcome that passed. Reports are written.

    Raises:
        ContractError, ConvertError: The inputs were refused. After the source has been read there
            is a report that says so.
        OSError: The output folder cannot be written; nothing in it has changed.
    """
    profiles = [load_profile(name) for name in dict.fromkeys(options.profiles)]
    if options.recipe != "auto":
        recipes.load(recipe_of(options.recipe))
    for profile in profiles:
        npu_choice.compiler_for(profile)  # one that is named and missing is refused before the work begins
    userland = arm.find() if options.verify_arm else None
    budget = budget or Budget()
    key = read_private(options.sign_key)
    step(f"reading {options.model.name}")
    source = read_source(options.model, options.fixed, options.signature)
    result = BuildResult(
        options.name,
        options.version,
        _source_facts(source),
        {},
        options.limits,
        tools_used(source, *(profile.target for profile in profiles)),
        host={
            "machine": platform.machine(),
            "system": platform.system(),
            "python": platform.python_version(),
        },
    )
    # one thread: the last bits of a sum must not depend on the number of cores
    with threadpool_limits(limits=1), Delivery(options.output) as delivery:
        try:
            result = _convert(options, profiles, key, source, result, delivery, step, budget, userland)
        except (ContractError, ConvertError) as error:
            _deliver(replace(result, refusal=str(error)), delivery)
            raise
        _deliver(result, delivery)
    if result.refusal:
        raise DataInvalid(result.refusal)
    return result


def _deliver(result: BuildResult, delivery: Delivery) -> None:
    for name, content in report.files(result).items():
        delivery.add(name, content)
    delivery.commit()


def _convert(
    options: BuildOptions,
    profiles: Sequence[DeviceProfile],
    key: PrivateKey,
    source: Source,
    result: BuildResult,
    delivery: Delivery,
    step: Step,
    budget: Budget,
    userland: Userland | None,
) -> BuildResult:
    ports = ports_of(source.graph)
    said = None if options.processing is None else processing.read(options.processing, ports)
    step("reading data")
    calibration = read_samples(options.calibration, ports, MIN_CALIBRATION)
    evaluation = None if options.evaluation is None else read_samples(options.evaluation, ports)
    if evaluation is not None:
        compare_ranges(calibration, evaluation)
    materials = _materials(options, source, calibration, evaluation)
    step(f"running {source.name} on {len(calibration) + len(evaluation or ())} samples")
    own = source.open()
    # a hybrid file's own answers are noisy: what it would say in float is what an artifact is held to
    reference = float_form(source.graph, "tflite").model if source.hybrid else own
    evidence = gather(source.graph, reference, calibration, evaluation, options.task)
    identity = _identity(options, evidence, said, source.graph)
    doubts: list[str] = []
    if said is not None:  # what does not fit is refused now, not after the search
        answers = evidence.calibration.answers
        processing.check(said, *pack.tensor_specs(source.graph, calibration.feeds, answers))
        specs, _ = pack.tensor_specs(source.graph, calibration.feeds, answers, options.color_order, said)
        doubts = processing.doubts(specs)
    sanity = _source_sanity(evidence)
    result = replace(
        result,
        task=evidence.task,
        data=_data_facts(calibration, evaluation, evidence),
        processing=None if said is None else said.model_dump(mode="json"),
        findings=(sanity,),
        notes=(*source.notes_on(own), *_notes(source, calibration, evaluation, evidence), *doubts),
    )
    if sanity.verdict is Verdict.FAIL:
        return replace(result, refusal=sanity.reason)
    few = {name: values[:FIDELITY_SAMPLES] for name, values in evidence.selection.feeds.items()}
    job = Job(
        source=source,
        own=Answered(few, own.run(few)),
        evidence=evidence,
        identity=identity,
        limits=options.limits,
        prefer=options.prefer,
        calibration_digest=calibration.digest,
        evaluation_digest=None if evaluation is None else evaluation.digest,
        materials=materials,
        key=key,
        delivery=delivery,
        explainer=Explainer(source.graph, reference, evidence, identity.labels, identity.color_order),
        assessor=Assessor(
            options.limits,
            identity.labels,
            options.abstain_risk,
            Trials(source.graph, reference, evidence, options.robustness),
        ),
        arm=userland,
    )
    amount = options.prune
    if amount is None:
        amount = "auto" if options.recipe == "auto" else "none"
    only = () if options.recipe == "auto" else (options.recipe,)
    lossy = _lossy(options, source.graph)
    searches = Searches(Shared(source.graph, evidence, own, amount, options.limits, only, step, lossy))
    as_it_is = [p.name for p in profiles if taken.applies(source, p, options.recipe)]
    of_profile = {p.name: searches.of(p) for p in profiles if p.name not in as_it_is}
    outcomes = []
    for profile in profiles:
        if profile.name in as_it_is:
            outcomes.append(_with_leftover(taken.decide(job, profile, step), options))
            continue
        search = of_profile[profile.name]
        found = searches.found(search, profile, budget)
        outcome = decide(job, profile, search, found, step)
        searched = Searched(
            options.recipe,
            options.prefer,
            None if math.isinf(budget.seconds) else budget.seconds,
            len(outcome.trials),
            round(budget.used_s, 1),
            found.ended,
        )
        outcomes.append(_with_leftover(replace(outcome, searched=searched), options))
    return replace(result, outcomes=tuple(outcomes))


def _lossy(options: BuildOptions, graph: Graph) -> LadderOptions:
    """How pruning may go; what distillation lacks is said before anything is tried."""
    if options.stride_hoist and not options.distill_steps:
        raise DistillationRefused("moving a stride loses too much without distillation; ask for both")
    if not options.distill_steps:
        return LadderOptions()
    from edge_convert.pruning import torch_graph  # an extra, and slow to import

    if reason := torch_graph.refused(graph):
        raise DistillationRefused(f"cannot distil: {reason}")
    return LadderOptions(hoist=options.stride_hoist, distill=DistillOptions(options.distill_steps))


def _with_leftover(outcome: Outcome, options: BuildOptions) -> Outcome:
    """Say it when an earlier build's bundle lies where this build made none; it is not ours to delete."""
    name = pack.bundle_name(options.name, options.version, outcome.profile)
    if outcome.passed or not (options.output / name).exists():
        return outcome
    return replace(outcome, notes=(*outcome.notes, f"{name} is still there, from an earlier build"))


def _identity(
    options: BuildOptions, evidence: Evidence, said: Processing | None, graph: Graph
) -> pack.Identity:
    labels: tuple[str, ...] = ()
    if options.labels is not None and evidence.classes:
        labels = tasks.read_labels(options.labels, evidence.classes)
    elif options.labels is not None:
        labels = processing.labels(options.labels, said, {port.name: port.shape for port in graph.outputs})
    return pack.Identity(options.name, options.version, evidence.task, labels, options.color_order, said)


def _materials(
    options: BuildOptions, source: Source, calibration: Samples, evaluation: Samples | None
) -> tuple[Material, ...]:
    own = source.size - sum(companion.stat().st_size for companion in source.companions)
    read = [
        of_file("source", options.model, source.digest, own, options.origin),
        *(of_file("source", companion, origin=options.origin) for companion in source.companions),
        of_file("calibration", options.calibration, calibration.digest),
    ]
    if options.evaluation is not None and evaluation is not None:
        read.append(of_file("evaluation", options.evaluation, evaluation.digest))
    if options.labels is not None:
        read.append(of_file("labels", options.labels))
    return tuple(read)


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
    if has_labels and evidence.task in ("detection", "other"):
        notes.append(f"y was not used: the task is {evidence.task}")
    return notes


def _source_facts(source: Source) -> dict[str, Any]:
    graph = source.graph
    return {
        "name": source.name,
        "digest": source.digest,
        "bytes": source.size,
        "format": source.format,
        "operators": len(graph.nodes),
        "parameters": graph.parameters(),
        "inputs": [{"name": p.name, "shape": list(p.shape), "layout": p.layout} for p in graph.inputs],
        "outputs": [{"name": p.name, "shape": list(p.shape)} for p in graph.outputs],
        "fixed_values": {name: list(values) for name, values in source.fixed.values.items()},
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
        "labelled": evidence.held_out.truth is not None,
        "slices": sorted(evidence.held_out.slices),
        "inputs": {
            name: {"minimum": float(values.min()), "maximum": float(values.max())}
            for name, values in calibration.feeds.items()
        },
    }
