"""A version against a version: what changed in what was promised and in what was measured. Pure.

Signed figures (scores, sizes, gates, tensor contract, provenance) come from the manifests; what devices
measured comes beside them, because a manifest knows nothing of the time that its model takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edge_contracts.manifest import Artifact, Manifest, Score, TensorSpec

SECTIONS = ("scores", "size", "latency", "gates", "contract", "provenance")
# fields of a score in which more is better
_HIGHER_IS_BETTER = frozenset({"agreement", "sqnr_db", "artifact"})


@dataclass(frozen=True)
class Measured:
    """What devices measured of one bundle, over all windows that they sent."""

    inferences: int
    errors: int
    latency_p50_ms: float | None
    latency_p95_ms: float | None


@dataclass(frozen=True)
class Change:
    """One difference.

    Args:
        section: One of SECTIONS.
        before, after: None where a side does not have it.
        verdict: "better", "worse", "breaking" (an application that fed the one cannot feed the other), or
            "" when it is neither.
    """

    section: str
    what: str
    before: Any
    after: Any
    verdict: str = ""


def compare(
    before: Manifest, after: Manifest, measured: tuple[Measured | None, Measured | None] = (None, None)
) -> list[Change]:
    """Every difference between two bundles for one profile, by section."""
    found = [
        *_scores(before, after),
        *_sizes(before, after),
        *_latency(before, after, measured),
        *_gates(before, after),
        *_contract(before, after),
        *_provenance(before, after),
    ]
    return [change for change in found if change.before != change.after]


def _pair(old: object | None, new: object | None, field: str) -> tuple[Any, Any]:
    """A field of both sides; None of a side that is not there."""
    left, right = (None if side is None else getattr(side, field) for side in (old, new))
    return left, right


def _scores(before: Manifest, after: Manifest) -> Iterator[Change]:
    for name in _names(before.evaluation, after.evaluation):
        old, new = before.evaluation.get(name), after.evaluation.get(name)
        metric = (new or old or Score(samples=1)).metric or "metric"
        for field, word in (
            ("agreement", "agreement"),
            ("sqnr_db", "sqnr_db"),
            ("artifact", metric),
            ("source", f"{metric} of the source"),
            ("drop_interval", f"{metric} lost, 95 % interval"),
            ("samples", "samples"),
        ):
            left, right = _pair(old, new, field)
            verdict = _better(left, right) if field in _HIGHER_IS_BETTER else ""
            yield Change("scores", f"{name}: {word}", left, right, verdict)
    for name in _names(before.confidence, after.confidence):
        sides = before.confidence.get(name), after.confidence.get(name)
        for field in ("abstain_below", "coverage", "risk"):
            yield Change("scores", f"{name}: confidence {field}", *_pair(*sides, field))


def _sizes(before: Manifest, after: Manifest) -> Iterator[Change]:
    old, new = _artifacts(before), _artifacts(after)
    for name in _names(old, new):
        sides = old.get(name), new.get(name)
        left, right = _pair(*sides, "bytes")
        yield Change("size", f"{name}: bytes", left, right, _better(right, left))
        for field in ("format", "precision", "runtimes", "compiled_for"):
            yield Change("size", f"{name}: {field}", *_pair(*sides, field))


def _latency(
    before: Manifest, after: Manifest, measured: tuple[Measured | None, Measured | None]
) -> Iterator[Change]:
    yield Change(
        "latency", "p95 that a trial allows, ms", before.gates.latency_p95_ms, after.gates.latency_p95_ms
    )
    old, new = measured
    for field, word in (("latency_p50_ms", "p50"), ("latency_p95_ms", "p95")):
        left, right = _pair(old, new, field)
        yield Change("latency", f"{word} measured by devices, ms", left, right, _better(right, left))
    left, right = _error_rate(old), _error_rate(new)
    yield Change("latency", "error rate measured by devices", left, right, _better(right, left))


def _error_rate(side: Measured | None) -> float | None:
    attempts = side.inferences + side.errors if side else 0
    return side.errors / attempts if side and attempts else None


def _gates(before: Manifest, after: Manifest) -> Iterator[Change]:
    yield Change("gates", "max_error_rate", before.gates.max_error_rate, after.gates.max_error_rate)
    for field in ("count", "min_agreement", "min_sqnr_db"):
        yield Change("gates", f"golden {field}", getattr(before.golden, field), getattr(after.golden, field))


def _contract(before: Manifest, after: Manifest) -> Iterator[Change]:
    yield Change("contract", "task", before.task, after.task, "breaking")
    for kind, left, right in (
        ("input", before.inputs, after.inputs),
        ("output", before.outputs, after.outputs),
    ):
        old, new = _by_name(left), _by_name(right)
        for name in _names(old, new):
            one, other = old.get(name), new.get(name)
            for field in TensorSpec.model_fields:
                if field == "name":
                    continue
                was, now = (_plain(getattr(spec, field)) if spec else None for spec in (one, other))
                breaks = field in ("dtype", "shape", "layout", "color_order") or None in (one, other)
                yield Change("contract", f"{kind} {name}: {field}", was, now, "breaking" if breaks else "")
    yield Change("contract", "labels", list(before.labels), list(after.labels), "breaking")
    yield Change("contract", "interpret", _plain(before.interpret), _plain(after.interpret), "breaking")


def _provenance(before: Manifest, after: Manifest) -> Iterator[Change]:
    old, new = before.provenance, after.provenance
    for field in (
        "source_name",
        "source_digest",
        "source_bytes",
        "calibration",
        "evaluation",
        "recipe",
        "pruning",
    ):
        yield Change("provenance", field, getattr(old, field), getattr(new, field))
    for name in _names(old.tools, new.tools):
        yield Change("provenance", f"tool {name}", old.tools.get(name), new.tools.get(name))
    yield Change("provenance", "kept_float", list(old.kept_float), list(new.kept_float))


def _artifacts(manifest: Manifest) -> dict[str, Artifact]:
    return {artifact.id: artifact for artifact in manifest.artifacts}


def _by_name(specs: tuple[TensorSpec, ...]) -> dict[str, TensorSpec]:
    return {spec.name: spec for spec in specs}


def _names(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Names of both sides, each once, in their order."""
    return list(dict.fromkeys([*before, *after]))


def _better(low: float | None, high: float | None) -> str:
    if low is None or high is None or low == high:
        return ""
    return "better" if high > low else "worse"


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return list(value) if isinstance(value, tuple) else value
