"""A chosen candidate as the artifacts of one profile's bundle, compiled where that is possible here.

What was not compiled says so, in the report and in the manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge_contracts.manifest import Score
from edge_contracts.profile import Accelerator, DeviceProfile
from edge_convert.candidates import Candidate
from edge_convert.device import edgetpu, fit_rows, npu
from edge_convert.device.fit import Fit, Place
from edge_convert.device.npu import Compiled
from edge_convert.errors import DoesNotFit
from edge_convert.graph import Graph
from edge_convert.pack import Part


class Refused(DoesNotFit):
    """The accelerator would run too little of the artifact, or the device cannot run it at all."""

    def __init__(self, message: str, fit: Fit) -> None:
        """Keep what the report shows: operators, and why they do not run where they should."""
        super().__init__(message)
        self.fit = fit


@dataclass(frozen=True, eq=False)
class Made:
    """What goes into a bundle.

    Args:
        parts: In order of preference.
        fit: Of the artifact that a device without its accelerator falls back to.
    """

    parts: tuple[Part, ...]
    fit: Fit
    notes: tuple[str, ...] = ()


def parts_for(
    profile: DeviceProfile,
    graph: Graph,
    candidate: Candidate,
    score: Score,
    checked: Sequence[Compiled] = (),
) -> Made:
    """Make the artifacts of a profile's bundle.

    Args:
        graph: What the candidate was written from.
        checked: What an NPU compiler made of the candidate, where there is one.

    Raises:
        Refused: Fewer operators than the profile asks for would run on its accelerator, or some nowhere.
    """
    fit = fit_rows.of_candidate(graph, candidate, profile)
    nowhere = next((row for row in fit.rows if row.place is Place.NOWHERE), None)
    if nowhere is not None:
        raise Refused(f"{nowhere.operator} runs nowhere on profile {profile.name}: {nowhere.rule}", fit)
    if profile.accelerator is None:
        return Made((_part(candidate, score, profile.runtimes),), fit)
    return COMPILE[profile.accelerator.kind](profile, profile.accelerator, candidate, score, fit, checked)


def _part(candidate: Candidate, score: Score, runtimes: tuple[str, ...], not_compiled: str = "") -> Part:
    artifact_id = candidate.recipe.precision
    return Part(
        id=artifact_id,
        format=candidate.format,
        precision=candidate.recipe.precision,
        runtimes=runtimes,
        files={f"artifacts/{artifact_id}{suffix}": data for suffix, data in candidate.files.items()},
        model=candidate.model,
        score=score,
        not_compiled=not_compiled,
    )


def _intel_npu(
    profile: DeviceProfile,
    accelerator: Accelerator,
    candidate: Candidate,
    score: Score,
    fit: Fit,
    checked: Sequence[Compiled],
) -> Made:
    """The model as it is, which the device's driver compiles; what a compiler here thinks of it is said."""
    said = npu.sentence(checked) if checked else npu.NOT_COMPILED
    share = fit.share(Place.ACCELERATOR)
    if not checked and share < accelerator.min_mapped_share:
        first = next(row for row in fit.rows if row.place is not Place.ACCELERATOR)
        raise Refused(
            f"{share:.0%} of the operators would run on the NPU, profile {profile.name} asks for "
            f"{accelerator.min_mapped_share:.0%}; {first.operator}: {first.rule}",
            fit,
        )
    return Made((_part(candidate, score, profile.runtimes, said),), fit, (said,))


def _edge_tpu(
    profile: DeviceProfile,
    accelerator: Accelerator,
    candidate: Candidate,
    score: Score,
    fit: Fit,
    checked: Sequence[Compiled],
) -> Made:
    """The compiled file first, where the compiler is installed; the CPU twin in any case."""
    content = candidate.files[".tflite"]
    share = fit.share(Place.ACCELERATOR)
    if share < accelerator.min_mapped_share or fit.blocked:
        first = next((row for row in fit.rows if row.place is not Place.ACCELERATOR), None)
        why = fit.blocked[0] if fit.blocked else f"{first.operator}: {first.rule}" if first else "it is empty"
        raise Refused(
            f"{share:.0%} of the operators would run on the Edge TPU, profile {profile.name} "
            f"asks for {accelerator.min_mapped_share:.0%}; {why}",
            fit,
        )
    notes = [f"{share:.0%} of the operators map onto the Edge TPU by the documents"]
    if fit.on_chip is not None and fit.on_chip.streamed_bytes:
        notes.append(
            f"parameters take {fit.on_chip.parameter_bytes} bytes, the Edge TPU holds "
            f"{fit.on_chip.memory_bytes}; the rest is streamed at every inference"
        )
    result = edgetpu.compile_with_edgetpu_compiler(content)
    if result is None or result.artifact is None:
        reason = edgetpu.NOT_COMPILED
        if result is not None:
            said = result.log.splitlines()
            reason = f"not compiled: {edgetpu.PROGRAM} failed: {said[-1] if said else 'it said nothing'}"
        # the accelerator stays first in the list, so that a device without it is told why it does without
        return Made((_part(candidate, score, profile.runtimes, reason),), fit, (*notes, reason))
    mapped = (
        f"{result.operators_mapped} of {result.operators} operators by {edgetpu.PROGRAM} {result.version}"
    )
    if result.subgraphs is not None:
        mapped += f", {result.subgraphs} sub-graphs"
    if result.on_chip:
        mapped += f", {result.on_chip} of parameters on the chip, {result.streamed or 'none'} streamed"
    compiled = Part(
        id="int8-edgetpu",
        format="tflite",
        precision="int8",
        runtimes=("edgetpu",),
        files={"artifacts/int8-edgetpu.tflite": result.artifact},
        model=candidate.model,
        score=score,
        compiled_for="edge-tpu",
    )
    twin = _part(candidate, score, tuple(r for r in profile.runtimes if r != "edgetpu"))
    return Made((compiled, twin), fit, (*notes, f"compiled: {mapped}"))


# kind of accelerator -> how its artifacts are made
_Maker = Callable[[DeviceProfile, Accelerator, Candidate, Score, Fit, Sequence[Compiled]], Made]
COMPILE: dict[str, _Maker] = {
    "edge-tpu": _edge_tpu,
    "intel-npu": _intel_npu,
}
