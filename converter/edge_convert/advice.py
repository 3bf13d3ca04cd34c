"""What would help where no candidate passed: from the findings of the one that came nearest, as sentences.

Each names the figure that was missed and what moves it. Which limit is right is the user's to say: a limit
is only ever named together with what it would let through.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from edge_contracts.profile import DeviceProfile
from edge_convert.data import FEW_CALIBRATION
from edge_convert.gates import Finding, Verdict
from edge_convert.measures.score import LayerCost
from edge_convert.results import Trial, TrialState

_LAYERS_NAMED = 3
_HOPELESS_POINTS = 10.0  # nobody raises a limit by this much on purpose


def advice(
    trials: Sequence[Trial],
    profile: DeviceProfile,
    layers: Sequence[LayerCost],
    calibration_samples: int,
    ended_early: bool,
) -> tuple[str, ...]:
    """What to try, the surest first; nothing when no candidate failed.

    Args:
        trials: As they stood before the gates.
        layers: Of the candidate that the report shows, the costliest first.
        calibration_samples: How many there were.
        ended_early: Whether the search had not tried everything.
    """
    failed = [t for t in trials if t.state is TrialState.FAILED]
    if not failed:
        return ()
    nearest = min(failed, key=lambda t: (len(_missed(t)), _distance(t), t.name))
    tips = [ADVICE[f.gate](f, profile) for f in _missed(nearest) if f.gate in ADVICE]
    lines = [f"{nearest.name} came nearest; {tip}" for tip in tips]
    if ended_early:
        lines.append("the search had not tried everything: give it a longer --time-budget")
    if set(profile.precisions) == {"int8"}:
        worst = ", ".join(f"{c.source or c.node} ({c.sqnr_db:.1f} dB)" for c in layers[:_LAYERS_NAMED])
        named = f", of which these cost most: {worst}" if worst else ""
        lines.append(
            f"profile {profile.name} runs nothing but int8{named}; a profile that runs float16 or float32 "
            "would keep the answers"
        )
    if calibration_samples < FEW_CALIBRATION:
        lines.append(
            f"{calibration_samples} calibration samples are few: ranges and biases get better up to "
            f"{FEW_CALIBRATION} and beyond"
        )
    return tuple(lines)


def _missed(trial: Trial) -> list[Finding]:
    return [f for f in trial.findings if f.verdict is Verdict.FAIL]


def _distance(trial: Trial) -> float:
    """How far the worst figure is from its limit, in units of the limit."""
    gaps = [
        abs(f.found - f.limit) / max(abs(f.limit), 1e-9)
        for f in _missed(trial)
        if f.found is not None and f.limit is not None
    ]
    return max(gaps, default=math.inf)


def _up(value: float, digits: int) -> str:
    step = 10.0**-digits
    return f"{math.ceil(value / step - 1e-9) * step:.{digits}f}"


def _down(value: float, digits: int) -> str:
    step = 10.0**-digits
    return f"{math.floor(value / step + 1e-9) * step:.{digits}f}"


def _accuracy(finding: Finding, profile: DeviceProfile) -> str:
    found = finding.found or 0.0
    if found > _HOPELESS_POINTS:
        return f"it loses {found:.1f} points of accuracy: no limit makes it useful"
    return f"it loses {found:.2f} points of accuracy; --max-drop {_up(found, 2)} would let it pass"


def _agreement(finding: Finding, profile: DeviceProfile) -> str:
    found = finding.found or 0.0
    return f"it keeps the class of {found:.1%}; --min-agreement {_down(found, 3)} would let it pass"


def _signal(finding: Finding, profile: DeviceProfile) -> str:
    if finding.found is None or finding.found <= 0:
        return "its answers have nothing in common with the source's: no limit makes it useful"
    return f"its answers have {finding.found:.1f} dB; --min-sqnr {_down(finding.found, 1)} would let it pass"


def _slices(finding: Finding, profile: DeviceProfile) -> str:
    return (
        f"its worst slice loses {finding.found or 0:.1f} points: look at it in the report before you raise "
        "--max-slice-drop, and put more of its samples among the calibration samples"
    )


def _size(finding: Finding, profile: DeviceProfile) -> str:
    return (
        f"it takes {finding.found or 0:.0f} bytes, profile {profile.name} allows {profile.artifact_bytes}: "
        "a share for --prune, a smaller model, or a larger device"
    )


def _latency(finding: Finding, profile: DeviceProfile) -> str:
    return (
        f"on this host it takes {finding.found or 0:.2f} times as long as the source; if the device has "
        "kernels that this host lacks, --latency-gate off leaves the judgement to the trial on the device"
    )


ADVICE: dict[str, Callable[[Finding, DeviceProfile], str]] = {
    "accuracy": _accuracy,
    "agreement": _agreement,
    "signal": _signal,
    "worst slice": _slices,
    "size": _size,
    "latency": _latency,
}
