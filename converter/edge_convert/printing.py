"""What edge-convert prints for people: values in, text out. Programs get `--json` instead."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge_contracts.manifest import Manifest, Score
from edge_contracts.model import Frozen
from edge_convert.terminal import table

if TYPE_CHECKING:  # these modules need the converter's extra, `verify` does not
    from edge_contracts.signing import VerifiedManifest
    from edge_convert.benchmark import Timing
    from edge_convert.device.fit import Fit
    from edge_convert.inspect import Contents
    from edge_convert.results import BuildResult, Trial

_BUILD_HEAD = (
    "profile",
    "  recipe",
    "kB",
    "choosing dB",
    "held-out dB",
    "agreement",
    "accuracy",
    "ms",
    "of source",
    "",
)
_LAYERS_NAMED = 3


def build_text(result: BuildResult, output: Path) -> str:
    """Candidates, notes, and what was written; what failed is for `failures`."""
    lines = []
    shown = [(o.profile, trial) for o in result.outcomes for trial in o.trials if _is_shown(trial)]
    if shown:
        others = sum(len(o.trials) for o in result.outcomes) - len(shown)
        more = f"; {others} that others beat are in the report" if others else ""
        rows = [_trial_row(profile, trial) for profile, trial in shown]
        lines += [table(_BUILD_HEAD, rows), f"* no other is as good, as fast and as small{more}", ""]
    lines += [f"note: {note}" for note in result.notes]
    for outcome in result.outcomes:
        lines += [f"note: {outcome.profile}: {note}" for note in outcome.notes]
        lines += [f"warning: {outcome.profile}: {text}" for text in outcome.assessment.warnings]
        if outcome.passed:
            lines.append(f"{outcome.profile}: {outcome.summary}: {output / outcome.bundle}")
    return "\n".join([*lines, f"report: {output / 'report.html'}"])


def failures(result: BuildResult) -> Iterator[str]:
    """One line for each profile without a bundle, and one for its costliest layers."""
    for outcome in result.outcomes:
        if outcome.passed:
            continue
        yield f"{outcome.profile}: {outcome.summary}"
        if outcome.layers:
            named = ", ".join(
                f"{cost.source or cost.node} ({cost.sqnr_db:.1f} dB)"
                for cost in outcome.layers[:_LAYERS_NAMED]
            )
            yield f"{outcome.profile}: layers that cost most: {named}"


def _is_shown(trial: Trial) -> bool:
    return trial.on_front or trial.score is not None


def _trial_row(profile: str, trial: Trial) -> tuple[str, ...]:
    score = trial.score
    return (
        profile,
        ("* " if trial.on_front else "  ") + trial.name,
        f"{trial.bytes / 1000:.1f}",
        _ratio(trial.selection),
        _ratio(score),
        _figure(score.agreement if score else None, "{:.1%}"),
        _figure(score.artifact if score else None, "{:.2%}"),
        _figure(trial.latency_ms, "{:.4f}"),
        _figure(trial.latency_ratio, "{:.2f}"),
        trial.state.value,
    )


def _ratio(score: Score | None) -> str:
    if score is None:
        return "-"
    return "exact" if score.sqnr_db is None else f"{score.sqnr_db:.1f}"


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def contents_text(found: Contents) -> str:
    """What is in a model."""
    form = " with integer weights" if found.hybrid else ""
    ports = [("input", t) for t in found.inputs] + [("output", t) for t in found.outputs]
    rows = [(kind, t.name, t.dtype, _dimensions(t.shape), t.layout or "-") for kind, t in ports]
    counts = [(op, str(count), str(work)) for op, (count, work) in found.operators.items()]
    return "\n".join(
        [
            f"{found.name}: {found.format}{form}, {found.bytes} bytes, {found.digest}",
            f"{found.parameters} parameters, {found.macs} multiply-accumulates per inference",
            "",
            table(("", "name", "dtype", "shape", "layout"), rows),
            "",
            table(("operator", "count", "multiply-accumulates"), counts),
        ]
    )


def fit_text(fit: Fit) -> str:
    """How a model fits a profile: every operator, where it runs and by which rule."""
    lines = [f"{fit.profile} ({fit.title}): {'fits' if fit.fits else 'DOES NOT FIT'}"]
    lines += [f"  {reason}" for reason in fit.reasons]
    lines += [
        f"  {precision}: about {milliseconds:.3g} ms, a prediction ({fit.rates_from or 'not measured'})"
        for precision, milliseconds in (fit.predicted_ms or {}).items()
    ]
    rows = [
        (
            f"  {row.operator}",
            row.place.value,
            row.precision,
            str(row.parameter_bytes),
            str(row.macs),
            row.rule,
            row.source,
        )
        for row in fit.rows
    ]
    head = ("  operator", "runs on", "in", "bytes", "MACs", "rule", "source of the rule")
    return "\n".join([*lines, "", table(head, rows)])


def verified_text(verified: VerifiedManifest) -> str:
    """Who signed a bundle and what it holds."""
    return manifest_text(verified.manifest, verified.digest, f"{verified.key_id} (trusted)")


def manifest_text(manifest: Manifest, digest: str, signed_by: str) -> str:
    """What a bundle holds: its contract, its artifacts, its files."""
    origin = manifest.provenance
    ports = [("input", t) for t in manifest.inputs] + [("output", t) for t in manifest.outputs]
    tensors = [
        (
            kind,
            spec.name,
            spec.dtype,
            _dimensions(spec.shape),
            " ".join(filter(None, (spec.layout, spec.color_order))) or "-",
            "-" if spec.value_range is None else f"{spec.value_range[0]:.4g} .. {spec.value_range[1]:.4g}",
        )
        for kind, spec in ports
    ]
    artifacts = []
    for artifact in manifest.artifacts:
        score = manifest.evaluation.get(artifact.id)
        artifacts.append(
            (
                artifact.id,
                ", ".join(artifact.runtimes),
                str(artifact.bytes),
                _figure(score.agreement if score else None, "{:.1%}"),
                _ratio(score),
                _figure(score.artifact if score else None, "{:.2%}"),
                _figure(score.source if score else None, "{:.2%}"),
                artifact.compiled_for or artifact.not_compiled or "-",
            )
        )
    head = ("artifact", "runtimes", "bytes", "agreement", "dB", "accuracy", "source's", "compiled")
    files = [(file.path, str(file.bytes), file.digest) for file in manifest.files()]
    return "\n".join(
        [
            f"{manifest.name} {manifest.version} for {manifest.profile} ({manifest.task})",
            f"digest     {digest}",
            f"signed by  {signed_by}",
            f"made from  {origin.source_name}, {origin.source_digest}",
            f"recipe     {origin.recipe}, pruning {origin.pruning}",
            "",
            table(("", "name", "dtype", "shape", "layout", "range seen"), tensors),
            *_rules(manifest),
            "",
            table(head, artifacts),
            "",
            table(("file", "bytes", "digest"), files),
        ]
    )


def _rules(manifest: Manifest) -> list[str]:
    """How bytes become inputs and outputs answers, a line for each rule."""
    rules: list[tuple[str, Frozen | None]] = []
    for spec in manifest.inputs:
        rules += [(f"{spec.name}: prepare", spec.prepare), (f"{spec.name}: checks", spec.checks)]
    rules.append(("interpret", manifest.interpret))
    lines = []
    for name, rule in rules:
        if rule is not None:
            fields = rule.model_dump(mode="json", exclude_none=True)
            lines.append(f"{name}  {json.dumps(fields, ensure_ascii=False)}")
    return ["", *lines] if lines else []


def timings_text(timings: Sequence[Timing]) -> str:
    """How fast models are, side by side."""
    rows = [
        (
            timing.name,
            timing.runtime,
            str(timing.bytes),
            f"{timing.median_ms:.4f}",
            f"{timing.fast_ms:.4f}",
            f"{timing.slow_ms:.4f}",
            f"{timing.ratio:.2f}",
        )
        for timing in timings
    ]
    return table(("model", "runtime", "bytes", "median ms", "p10 ms", "p90 ms", "ratio"), rows)


def _dimensions(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"
