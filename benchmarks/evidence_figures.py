"""What int8 costs beyond the mean: corrupted inputs, an attack, confidence; and what finding out costs.

    python benchmarks/evidence_figures.py [--recipe NAME] [--no-attack]

Each model is built with one recipe, without and with the robustness part; all figures come from the
report. What the data are, `conversion_cases.py` says: without labels the float model's own answer to
the clean sample is right. The attack needs the extra [robustness].
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from conversion_cases import Case, cases

from edge_contracts.arrays import write_npz
from edge_contracts.keys import PrivateKey, write_private
from edge_convert.build import BuildOptions, build
from edge_convert.gates import Limits
from edge_convert.measures.robustness import Mode
from edge_convert.terminal import silent, table

CORRUPTED = ("model", "samples", "worst corruption", "float", "int8", "points lost", "95 %", "seconds")
ATTACKED = ("model", "samples", "distance float", "int8", "float's fool int8", "seconds")
CONFIDENT = ("model", "error float", "int8", "after T", "T", "answers at 5 % risk", "wrong on others")


def main() -> None:
    """Build, and print three tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="wi8_ai8_mse_bc")
    parser.add_argument("--no-attack", action="store_true")
    options = parser.parse_args()
    corrupted, attacked, confident = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases():
            without, _ = _report(case, "off", options.recipe, Path(folder))
            basic, found = _report(case, "basic", options.recipe, Path(folder))
            corrupted.append(_corrupted(case, found["robustness"], basic - without))
            if found["confidence"] is None:
                continue  # not a classifier: nothing to be sure of, and no mind to change
            confident.append(_confident(case, found["confidence"]))
            if not options.no_attack:
                full, found = _report(case, "attack", options.recipe, Path(folder))
                attacked.append(_attacked(case, found["robustness"]["attack"], full - basic))
    print(table(CORRUPTED, corrupted))
    if attacked:
        print("\n" + table(ATTACKED, attacked))
    print("\n" + table(CONFIDENT, confident))


def _report(case: Case, mode: Mode, recipe: str, folder: Path) -> tuple[float, dict[str, Any]]:
    """Seconds of a build, and what it says of its only profile."""
    work = Path(tempfile.mkdtemp(dir=folder))
    write_private(PrivateKey.generate(), work / "private.pem")
    (work / "calibration.npz").write_bytes(write_npz({"x": case.calibration}))
    fields = {"x": case.evaluation} | ({} if case.labels is None else {"y": case.labels})
    (work / "evaluation.npz").write_bytes(write_npz(fields))
    options = BuildOptions(
        model=case.source,
        profiles=["x86-cpu"],
        name="model",
        version="1",
        calibration=work / "calibration.npz",
        evaluation=work / "evaluation.npz",
        sign_key=work / "private.pem",
        output=work / "out",
        recipe=recipe,
        limits=Limits(latency="off"),
        robustness=mode,
    )
    started = time.perf_counter()
    build(options, silent)
    seconds = time.perf_counter() - started
    document = json.loads((work / "out" / "report.json").read_text(encoding="utf-8"))
    return seconds, dict(document["profiles"][0])


def _corrupted(case: Case, found: dict[str, Any], seconds: float) -> tuple[str, ...]:
    worst, samples = found["worst"], str(found["samples"])
    if worst is None:  # no right answers: how near the two stay is all there is
        lowest = min(found["rows"], key=lambda row: row["sqnr_db"])
        noise = f"{lowest['sqnr_db']:.1f} dB"
        return case.name, samples, lowest["corruption"], "-", noise, "-", "-", f"{seconds:.1f}"
    rows = [row for row in found["rows"] if row["corruption"] == worst["corruption"]]
    means = [sum(row[key] for row in rows) / len(rows) for key in ("source", "artifact")]
    low, high = worst["interval_points"]
    return (
        case.name,
        samples,
        worst["corruption"],
        *(f"{mean:.1%}" for mean in means),
        f"{worst['drop_points']:.1f}",
        f"{low:.1f} to {high:.1f}",
        f"{seconds:.1f}",
    )


def _attacked(case: Case, found: dict[str, Any], seconds: float) -> tuple[str, ...]:
    source, artifact = found["source"], found["artifact"]
    distances = (f"{one['median_distance']:.4f}" for one in (source, artifact))
    carried = f"{source['also_fools_the_other']:.0%}"
    return case.name, str(found["samples"]), *distances, carried, f"{seconds:.0f}"


def _confident(case: Case, found: dict[str, Any]) -> tuple[str, ...]:
    errors = (found[key] for key in ("source", "artifact", "calibrated"))
    temperature, abstain = found["temperature"], found["abstain"]
    threshold = None if abstain is None else abstain["threshold"]
    return (
        case.name,
        *("-" if one is None else f"{one['ece']:.3f}" for one in errors),
        "-" if temperature is None else f"{temperature['value']:.2f}",
        "none shown" if threshold is None else f"{threshold['held_out_coverage']:.0%}",
        "-" if threshold is None else f"{threshold['held_out_risk']:.1%}",
    )


if __name__ == "__main__":
    main()
