"""The trial of a new model before it is switched on: does it open, agree, keep its time and its size.

All of it happens in a child process: until it has passed, the agent's own process never opens the file.
An option that fails (an accelerator that gives wrong answers, a delegate that crashes) gives way to the
bundle's next one, each with its own golden answers; the reason travels on as the fallback.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edge_agent.errors import ChildFailed, RuntimeUnavailable, TrialFailed
from edge_agent.guard.ways import read_ways
from edge_agent.inference.golden import GoldenResult
from edge_agent.inference.isolation import run_child
from edge_agent.runtimes.choice import Choice, Option, choose
from edge_contracts.manifest import Manifest
from edge_contracts.profile import DeviceProfile

Run = Callable[[Mapping[str, Any], float], dict[str, Any]]


@dataclass(frozen=True)
class Limits:
    """What a trial may take.

    Args:
        latency_p95_ms: Of single inferences; the manifest's gate counts as well.
        memory_bytes: What the model may add to the resident memory of a process, runtime included.
        timeout_s: For each option, from start to answer.
    """

    latency_p95_ms: float = float("inf")
    memory_bytes: int = 1 << 40
    timeout_s: float = 120.0  # starting Python and OpenVINO takes 10 s on a slow board


@dataclass(frozen=True)
class TrialReport:
    """What a trial that passed has measured.

    Args:
        choice: What to open the session with.
        memory_bytes: Growth of the child's resident memory at its peak.
    """

    choice: Choice
    golden: GoldenResult
    latency_p95_ms: float
    memory_bytes: int


def run_trial(
    folder: Path,
    manifest: Manifest,
    limits: Limits = Limits(),
    threads: int = 1,
    run: Run = run_child,
    barred: Callable[[Mapping[Option, str]], Mapping[Option, str]] | None = None,
) -> TrialReport:
    """Try an extracted bundle, option by option, until one passes.

    Blocks for the length of the trial (about 1 s for a small model).

    Args:
        folder: What `Bundle.extract` wrote, its signature and digests checked.
        barred: Says which of the options are not to be tried, and why.

    Raises:
        TrialFailed: No option passed; the code is that of the first.
    """
    ways = read_ways(folder, manifest)
    failed = dict(barred(ways)) if barred is not None else {}
    first: TrialFailed | None = None
    tried = 0
    while True:
        try:
            choice = choose(ways, failed)
        except RuntimeUnavailable as error:
            if first is None:
                raise TrialFailed(error.code, str(error)) from None
            detail = str(first) if tried == 1 else str(error)
            raise TrialFailed(first.code, detail) from None
        try:
            return _try(folder, manifest, choice, limits, threads, run)
        except TrialFailed as error:
            failed[choice.option] = str(error)
            tried += 1
            first = first or error


def judge(report: TrialReport, manifest: Manifest, limits: Limits) -> None:
    """Hold what was measured against what is allowed.

    Raises:
        TrialFailed: "golden-mismatch", "too-slow" or "too-large".
    """
    if not report.golden.passed:
        raise TrialFailed("golden-mismatch", report.golden.reason)
    allowed_ms = min(limits.latency_p95_ms, manifest.gates.latency_p95_ms)
    if report.latency_p95_ms > allowed_ms:
        raise TrialFailed("too-slow", f"p95 is {report.latency_p95_ms:.3g} ms, at most {allowed_ms:g} ms")
    if report.memory_bytes > limits.memory_bytes:
        raise TrialFailed(
            "too-large",
            f"the model takes {report.memory_bytes} bytes of memory, allowed are {limits.memory_bytes}",
        )


def _try(
    folder: Path, manifest: Manifest, choice: Choice, limits: Limits, threads: int, run: Run
) -> TrialReport:
    job = {"kind": "trial", "folder": str(folder), "option": asdict(choice.option), "threads": threads}
    try:
        answer = run(job, limits.timeout_s)
    except ChildFailed as error:
        raise TrialFailed(error.code, str(error)) from None
    report = TrialReport(
        replace(choice, latency_p95_ms=answer["latency_p95_ms"]),
        GoldenResult(
            answer["golden_total"],
            answer["golden_agree"],
            float(answer["golden_sqnr_db"]),
            answer["golden_reason"],
        ),
        answer["latency_p95_ms"],
        answer["memory_bytes"],
    )
    judge(report, manifest, limits)
    return report


def check_limits(profile: DeviceProfile | None) -> Limits:
    """What a check may take on a device of this profile; the manifest's own gate holds besides."""
    if profile is None:
        return Limits()
    return Limits(latency_p95_ms=profile.latency_p95_ms, memory_bytes=profile.memory_bytes)
