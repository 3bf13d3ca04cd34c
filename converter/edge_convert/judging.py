"""Candidates before the gates, the preferred ones first, until one passes.

The order is made on the samples that choose; here the held-out samples are asked, and each candidate that
they refuse makes the next one's figures a little less independent. So a build says how many they refused,
and "balanced" does not take what only just passes while something that passes well is there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from edge_contracts.profile import DeviceProfile, Precision
from edge_convert import gates
from edge_convert.binding import Model
from edge_convert.candidates import Candidate
from edge_convert.gates import Finding, Limits, Verdict
from edge_convert.preference import COMFORTABLE, Prefer, allowance_used, front, ordered
from edge_convert.results import Trial, TrialState
from edge_convert.search import Search, Tried
from edge_convert.workbench import Measured, Workbench

# Another job on this host can double one engine's time for a whole measurement (seen with OpenVINO's
# thread pool on 2 cores), and must not decide what is in a bundle: only what stays slow is refused.
SECOND_OPINIONS = 2


class Judge:
    """Judges the candidates of one search for one profile."""

    def __init__(
        self,
        limits: Limits,
        prefer: Prefer,
        profile: DeviceProfile,
        search: Search,
        robustness: Callable[[Model], Finding | None] = lambda model: None,
    ) -> None:
        """Set up; nothing is measured yet.

        Args:
            robustness: What its gate says of an artifact; None when nobody asked.
        """
        self._limits, self._prefer, self._profile, self._search = limits, prefer, profile, search
        self._robustness = robustness

    def all_precisions(self) -> tuple[tuple[Trial, ...], Tried | None]:
        """Judge precision by precision, in the profile's order, until one has a candidate that passes.

        Returns:
            Every candidate that was made, in order of preference; and the chosen one.
        """
        trials: list[Trial] = []
        chosen: Tried | None = None
        for precision in self._profile.precisions:
            if chosen is None:
                more, chosen = self.precision(precision)
                trials += more
            else:
                trials += [_trial(t) for t in self._in_order(precision)]
        made = [t for p in self._profile.precisions for t in self._search.of_precision(p)]
        best = front([t.figures for t in made])
        return tuple(replace(t, on_front=t.name in best) for t in trials), chosen

    def precision(self, precision: Precision) -> tuple[list[Trial], Tried | None]:
        """Judge candidates of one precision until one passes; the rest stay unjudged.

        One that passes but is not to be preferred yet gives way to a better one, if that passes.
        """
        self._search.need(precision)
        order = self._in_order(precision)
        trials = [_trial(tried) for tried in order]
        taken: int | None = None
        for index, tried in enumerate(order):
            trials[index] = self._judged(trials[index], tried.bench, tried.candidate)
            if trials[index].state is TrialState.PASSED:
                if self._well(trials[index]):
                    taken = index
                    break
                if taken is None or _noise(tried) < _noise(order[taken]):
                    taken = index
            if taken is not None and not any(_noise(t) < _noise(order[taken]) for t in order[index + 1 :]):
                break  # nothing better is to come
        if taken is None:
            return trials, None
        trials[taken] = replace(trials[taken], state=TrialState.CHOSEN)
        return trials, order[taken]

    def _in_order(self, precision: Precision) -> list[Tried]:
        made = [tried.figures for tried in self._search.of_precision(precision)]
        return [self._search.named(f.name) for f in ordered(made, self._limits, self._prefer)]

    def _well(self, trial: Trial) -> bool:
        """Whether there is no need to look for a better one."""
        if self._prefer != "balanced" or trial.score is None:
            return True
        return allowance_used(trial.score, self._limits) <= COMFORTABLE

    def _judged(self, trial: Trial, bench: Workbench, candidate: Candidate) -> Trial:
        """Put one candidate before every gate."""
        limits, profile = self._limits, self._profile
        size = gates.fits(candidate.bytes, profile.artifact_bytes, profile.name)
        if size.verdict is Verdict.FAIL:  # nothing that follows could help
            return replace(trial, state=TrialState.FAILED, findings=(size,))
        measured = bench.measured(candidate)
        speed = self._speed(bench, measured)
        for _ in range(SECOND_OPINIONS):
            if speed.verdict is Verdict.FAIL:
                measured = bench.timed_again(candidate)
                speed = self._speed(bench, measured)
        findings: tuple[Finding, ...] = (
            gates.accuracy_drop(measured.score, limits.max_drop, limits.judge_by),
            gates.worst_slice(measured.slices, limits),
            gates.agreement(measured.score, limits.min_agreement),
            gates.signal(measured.score, limits.min_sqnr_db),
            size,
            gates.smaller(candidate.weight_bytes, bench.baseline.weight_bytes, candidate.recipe.precision),
            speed,
        )
        robustness = self._robustness(candidate.model)
        if robustness is not None:
            findings = (*findings, robustness)
        ours, theirs, ratio = measured.medians
        return replace(
            trial,
            score=measured.score,
            latency_ms=ours,
            source_ms=theirs,
            latency_ratio=ratio,
            findings=findings,
            state=TrialState.PASSED if gates.passed(findings) else TrialState.FAILED,
        )

    def _speed(self, bench: Workbench, measured: Measured) -> Finding:
        where = f"{bench.runtime} ({bench.baseline.name})"
        finding = gates.latency(measured.candidate_ms, measured.source_ms, where, self._limits)
        if self._profile.runtimes[0] == bench.runtime.lower():
            return finding
        return gates.of_other_runtime(finding, self._profile.runtimes[0], self._limits)


def _trial(tried: Tried) -> Trial:
    form, candidate = tried.bench.form, tried.candidate
    return Trial(
        candidate.name,
        candidate.recipe.precision,
        candidate.bytes,
        tried.selection,
        TrialState.NOT_NEEDED,
        name=tried.figures.name,
        pruned=form.pruned,
        pruning=form.pruning,
        predicted_us=tried.figures.cost_us,
        unsaturated_db=tried.figures.unsaturated_db,
    )


def _noise(tried: Tried) -> float:
    return -tried.figures.quality_db
