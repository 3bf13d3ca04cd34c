"""A chosen candidate as the artifacts of one profile's bundle, compiled where that is possible here.

What was not compiled says so, in the report and in the manifest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edge_contracts.manifest import Score
from edge_contracts.profile import Accelerator, DeviceProfile
from edge_convert import edgetpu
from edge_convert.candidates import Candidate
from edge_convert.errors import DoesNotFit
from edge_convert.pack import Part

NPU_NOT_COMPILED = (
    "not compiled: OpenVINO's NPU compiler is not part of its Linux package; "
    "the device's driver compiles the model when it is loaded"
)


class Refused(DoesNotFit):
    """The accelerator would run too little of the artifact."""

    def __init__(self, message: str, fit: tuple[Mapping[str, Any], ...]) -> None:
        """Keep what the report shows: operators and why they do not map."""
        super().__init__(message)
        self.fit = fit


@dataclass(frozen=True, eq=False)
class Made:
    """What goes into a bundle.

    Args:
        parts: In order of preference.
        fit: By operator: whether the accelerator runs it, and why not.
    """

    parts: tuple[Part, ...]
    fit: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()


def parts_for(profile: DeviceProfile, candidate: Candidate, score: Score) -> Made:
    """Make the artifacts of a profile's bundle.

    Raises:
        Refused: Fewer operators than the profile asks for would run on its accelerator.
    """
    if profile.accelerator is None:
        return Made((_part(candidate, score, profile.runtimes),))
    return COMPILE[profile.accelerator.kind](profile, profile.accelerator, candidate, score)


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


def _intel_npu(profile: DeviceProfile, accelerator: Accelerator, candidate: Candidate, score: Score) -> Made:
    return Made((_part(candidate, score, profile.runtimes, NPU_NOT_COMPILED),), notes=(NPU_NOT_COMPILED,))


def _edge_tpu(profile: DeviceProfile, accelerator: Accelerator, candidate: Candidate, score: Score) -> Made:
    """The compiled file first, where the compiler is installed; the CPU twin in any case."""
    content = candidate.files[".tflite"]
    fit = edgetpu.check(content, accelerator.memory_bytes)
    rows = operator_rows(fit)
    if fit.mapped_share < accelerator.min_mapped_share:
        first = fit.first_unmapped
        why = fit.refused[0] if fit.refused else ""
        if not why and first is not None and first.reason is not None:
            why = f"{first.code} #{first.index}: {first.reason.text}"
        raise Refused(
            f"{fit.mapped_share:.0%} of the operators would run on the Edge TPU, profile {profile.name} "
            f"asks for {accelerator.min_mapped_share:.0%}; {why}",
            rows,
        )
    notes = [f"{fit.mapped_share:.0%} of the operators map onto the Edge TPU by the documents"]
    if not fit.fits_memory:
        notes.append(
            f"parameters take {fit.parameter_bytes} bytes, the Edge TPU holds {fit.memory_bytes}; "
            "the rest is streamed at every inference"
        )
    result = edgetpu.compile_with_edgetpu_compiler(content)
    if result is None or result.artifact is None:
        reason = edgetpu.NOT_COMPILED
        if result is not None:
            said = result.log.splitlines()
            reason = f"not compiled: {edgetpu.PROGRAM} failed: {said[-1] if said else 'it said nothing'}"
        # the accelerator stays first in the list, so that a device without it is told why it does without
        return Made((_part(candidate, score, profile.runtimes, reason),), rows, (*notes, reason))
    mapped = (
        f"{result.operators_mapped} of {result.operators} operators by {edgetpu.PROGRAM} {result.version}"
    )
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
    return Made((compiled, twin), rows, (*notes, f"compiled: {mapped}"))


def operator_rows(fit: edgetpu.EdgeTpuReport) -> tuple[Mapping[str, Any], ...]:
    """One line per operator of a static check, for reports."""
    return tuple(
        {
            "operator": f"{verdict.code} #{verdict.index}",
            "mapped": verdict.mapped,
            "reason": verdict.reason.text if verdict.reason else verdict.note,
            "source": verdict.reason.source if verdict.reason else "",
        }
        for verdict in fit.operators
    )


# kind of accelerator -> how its artifacts are made
COMPILE: dict[str, Callable[[DeviceProfile, Accelerator, Candidate, Score], Made]] = {
    "edge-tpu": _edge_tpu,
    "intel-npu": _intel_npu,
}
