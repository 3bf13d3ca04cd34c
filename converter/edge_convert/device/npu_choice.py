"""Which form of a model goes to an Intel NPU: the one that its compiler estimates to be the fastest.

On an NPU int8 is not always the faster one: of MLPerf's four small models the compiler puts float16
first on one (docs/decisions/0031-the-npu-compilers-estimate-decides.md). Every form has passed the gates
before it is put beside another; without a compiler the profile's order of precisions decides alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from edge_contracts.profile import DeviceProfile, Precision
from edge_convert.candidates import Candidate
from edge_convert.device import npu
from edge_convert.device.npu import Compiled, Compiler
from edge_convert.gates import Finding, Verdict
from edge_convert.results import Trial, TrialState
from edge_convert.search import Tried

FORMS: tuple[Precision, ...] = ("int8", "float16")  # what NPUs compute in


# the candidates of a precision that were judged, and the first that passed
Rivals = Callable[[Precision], tuple[list[Trial], Tried | None]]


@dataclass(frozen=True)
class Estimates:
    """What the compiler made of the forms.

    Args:
        results: By precision, one for each platform.
        better: The precision to take; None when the compiler could not tell.
    """

    results: Mapping[str, tuple[Compiled, ...]]
    better: str | None

    def fields(self) -> list[dict[str, object]]:
        """Every result as plain values, for a report."""
        return [one.fields() for results in self.results.values() for one in results]


def compiler_for(profile: DeviceProfile) -> Compiler | None:
    """The compiler to ask for a profile; None when it has no NPU or there is none here.

    Raises:
        CompilerMissing: One was named and is not there.
    """
    accelerator = profile.accelerator
    if accelerator is None or accelerator.kind != "intel-npu":
        return None
    return npu.find()


def platforms_of(profile: DeviceProfile) -> tuple[str, ...]:
    """The platforms that a profile's devices have."""
    named = profile.accelerator.platform if profile.accelerator else ""
    return (named,) if named else npu.PLATFORMS


def by_estimate(
    compiler: Compiler,
    profile: DeviceProfile,
    trials: Sequence[Trial],
    chosen: Tried,
    rivals: Rivals,
) -> tuple[tuple[Trial, ...], Tried, Estimates]:
    """Let the compiler choose between what has passed and the best of the other forms that do.

    Returns:
        The trials, judged anew where that was needed; the one to take; and what the compiler said.
    """
    first = chosen.candidate.recipe.precision
    passing = {first: chosen}
    known = {trial.name: trial for trial in trials}
    for precision in profile.precisions[profile.precisions.index(first) + 1 :]:
        if precision in FORMS:
            judged, rival = rivals(precision)
            known |= {trial.name: trial for trial in judged}
            if rival is not None:
                passing[precision] = rival
    said = _ask(compiler, profile, {precision: tried.candidate for precision, tried in passing.items()})
    taken = next((t for precision, t in passing.items() if precision == said.better), chosen)
    for tried in passing.values():
        trial = known[tried.figures.name]
        finding = Finding("npu compiler", Verdict.NOT_JUDGED, npu.sentence(said.results[trial.precision]))
        state = TrialState.CHOSEN if tried is taken else TrialState.NOT_NEEDED
        known[trial.name] = replace(trial, state=state, findings=(*trial.findings, finding))
    return tuple(known.values()), taken, said


def sentence(chosen: Tried, said: Estimates | None) -> str:
    """Why this form, when the compiler had a choice; else nothing."""
    if said is None or said.better is None or len(said.results) < 2:
        return ""
    recipe = chosen.candidate.recipe
    estimates = ", ".join(
        f"{precision} {'/'.join(f'{one.estimate_us:g}' if one.estimate_us else '-' for one in results)} us"
        for precision, results in said.results.items()
    )
    form = chosen.bench.form
    pruned = f", pruning {form.pruning}" if form.pruned else ""
    made = f"{recipe.precision} by recipe {chosen.candidate.name}{pruned}"
    return f"{made}, the NPU compiler's choice: {estimates}"


def _ask(compiler: Compiler, profile: DeviceProfile, forms: Mapping[Precision, Candidate]) -> Estimates:
    """Compile each form for each of the profile's platforms."""
    results = {
        str(precision): tuple(
            npu.compile_form(compiler, candidate.files[".xml"], candidate.files[".bin"], precision, platform)
            for platform in platforms_of(profile)
        )
        for precision, candidate in forms.items()
    }
    return Estimates(results, npu.better(results))
