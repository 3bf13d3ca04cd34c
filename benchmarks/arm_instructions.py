"""Instructions per inference on emulated ARM CPUs: MLPerf's own int8 files, and our artifacts.

    python benchmarks/arm_instructions.py [--prune none|auto|SHARE] [--prefer HOW] [--models WORD ...]

Cortex-A76 (Raspberry Pi 5) has the int8 dot product, Cortex-A72 (Raspberry Pi 4) has not. One thread,
LiteRT with XNNPACK under qemu-user; the counter is of executed instructions, which is neither cycles
nor milliseconds but the same on every host. Needs the userland of `make arm`. "fewer" is MLPerf's count
over the other's; the accuracy beside it is what that artifact was let through with.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Literal

from conversion_cases import Case, Contestant, cases, converted, shipped

from edge_contracts.manifest import Score
from edge_convert.device import arm
from edge_convert.device.arm import CPUS, Userland
from edge_convert.errors import EmulationMissing
from edge_convert.preference import Prefer
from edge_convert.terminal import table

Amount = Literal["none", "auto"] | float
HEAD = (
    "model",
    "form",
    "kB",
    *(f"{cpu.removeprefix('cortex-')} {what}" for cpu in CPUS for what in ("kinst", "fewer")),
)
QUALITY = ("agreement", "dB", "accuracy")
PROFILE = "arm-cpu"
LOCAL = Path(__file__).parents[1] / ".arm"


def main() -> None:
    """Convert, count and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prune", type=_amount, default="none")
    parser.add_argument("--prefer", choices=["balanced", "accuracy", "speed", "size"], default="balanced")
    parser.add_argument("--models", nargs="*", default=[""], help="words of their names; all when not given")
    options = parser.parse_args()
    prune: Amount = options.prune
    try:
        userland = arm.find(LOCAL if LOCAL.is_dir() else None)
    except EmulationMissing as error:
        print(f"not counted: {error}")
        return
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as folder:
        for case in (c for c in cases() if any(word in c.name for word in options.models)):
            rows += _counted(case, prune, options.prefer, Path(folder), userland)
    print(table((*HEAD, *QUALITY), rows))


def _amount(text: str) -> Amount:
    return "none" if text == "none" else "auto" if text == "auto" else float(text)


def _counted(
    case: Case, prune: Amount, prefer: Prefer, folder: Path, userland: Userland
) -> list[tuple[str, ...]]:
    bundle, ours = converted(case, PROFILE, folder, prune, prefer)
    artifact = bundle.manifest.artifacts[0]
    name = f"edgefleet {artifact.precision}" + ("" if prune == "none" else f", --prune {prune}")
    name += "" if prefer == "balanced" else f" --prefer {prefer}"
    entrants: list[tuple[str, bytes, Contestant, Score | None]] = [
        ("float", case.source.read_bytes(), shipped(case.source), None),
        ("MLPerf int8", case.twin.read_bytes(), shipped(case.twin), None),
        (name, bundle.contents[artifact.files[0].path], ours, bundle.manifest.evaluation[artifact.id]),
    ]
    counts = {
        form: [arm.instructions(content, one.bound(case.evaluation[:1]), cpu, userland) for cpu in CPUS]
        for form, content, one, _ in entrants
    }
    base = counts["MLPerf int8"]
    rows = []
    for form, content, _, score in entrants:
        figures = [
            text
            for count, reference in zip(counts[form], base, strict=True)
            for text in (f"{count / 1000:.1f}", f"{reference / count:.2f}")
        ]
        rows.append((case.name, form, f"{len(content) / 1000:.1f}", *figures, *_quality(score)))
    return rows


def _quality(score: Score | None) -> tuple[str, str, str]:
    if score is None:
        return "-", "-", "-"
    return (
        "-" if score.agreement is None else f"{score.agreement:.1%}",
        "exact" if score.sqnr_db is None else f"{score.sqnr_db:.1f}",
        "-" if score.artifact is None else f"{score.artifact:.2%}",
    )


if __name__ == "__main__":
    main()
