"""How many real models convert: model x profile, with figures, and the reason where one does not.

    python benchmarks/coverage.py                       # all of coverage_models.toml, about 15 minutes
    python benchmarks/coverage.py --only mtcnn --only silero
    python benchmarks/coverage.py --markdown docs/coverage.md

Every model goes through the product's own `build` for arm-cpu, intel-npu and coral-tpu, in a process of
its own. "int8 41.2 dB" is the artifact that was signed and its noise against the float source (and the
share of samples that keep their class, where the model classifies); a fallback says so, a refusal is
listed below the table in the words of the converter. "float" is how far our float form is from the
source's own runtime. No latency is judged here.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coverage_inputs import REAL, feeds
from coverage_packages import Entry, entries, model_file

from edge_contracts.arrays import write_npz
from edge_contracts.errors import ContractError
from edge_contracts.keys import PrivateKey, write_private
from edge_convert.build import BuildOptions, build
from edge_convert.data import ports_of
from edge_convert.errors import ConvertError
from edge_convert.fixed_inputs import parse
from edge_convert.gates import Limits, Verdict
from edge_convert.results import Outcome, TrialState
from edge_convert.source import read_source

PROFILES = ("arm-cpu", "intel-npu", "coral-tpu")
TIME_LIMIT_S = 600
CACHE = Path(__file__).parents[1] / ".models"


def convert(entry: Entry, cache: Path) -> dict[str, Any]:
    """One model, in this process: what `build` said, as plain values."""
    path = model_file(entry, cache)
    fixed = parse(entry.shapes, entry.values)
    started = time.monotonic()
    try:
        source = read_source(path, fixed)
        ports = ports_of(source.graph)
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            for part in ("calibration", "evaluation"):
                (work / f"{part}.npz").write_bytes(write_npz(feeds(entry, ports, part)))
            write_private(PrivateKey.generate(), work / "private.pem")
            options = BuildOptions(
                model=path,
                profiles=PROFILES,
                name="model",
                version="1",
                calibration=work / "calibration.npz",
                evaluation=work / "evaluation.npz",
                sign_key=work / "private.pem",
                output=work / "out",
                prune="none",
                limits=Limits(latency="off"),
                fixed=fixed,
            )
            result = build(options, lambda text: None)
    except (ConvertError, ContractError) as error:
        return {"refused": str(error), "seconds": time.monotonic() - started}
    return {
        "operators": result.source["operators"],
        "task": result.task,
        "seconds": time.monotonic() - started,
        "profiles": {outcome.profile: _figures(outcome) for outcome in result.outcomes},
    }


def _figures(outcome: Outcome) -> dict[str, Any]:
    (fidelity,) = (f for f in outcome.findings if f.gate == "fidelity")
    trials = [t for t in outcome.trials if t.precision == "int8"]
    chosen = [t for t in trials if t.state is TrialState.CHOSEN]
    best = max(chosen or trials, key=lambda t: t.selection.sqnr_db or float("inf"), default=None)
    score = None if best is None else best.score or best.selection
    return {
        "passed": outcome.passed,
        "summary": outcome.summary,
        "precision": outcome.artifacts[0]["precision"] if outcome.artifacts else "",
        "fidelity": "itself" if fidelity.verdict is Verdict.NOT_JUDGED else _decibels(fidelity.found),
        "sqnr_db": None if score is None else score.sqnr_db,
        "agreement": None if score is None else score.agreement,
    }


def in_child(entry: Entry, cache: Path) -> dict[str, Any]:
    """One model in a process of its own, so that a crash or a hang is a row of the table."""
    command = [sys.executable, __file__, "--cache", str(cache), "--one", entry.name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        return {"refused": f"FAULT: not done within {TIME_LIMIT_S} s", "seconds": float(TIME_LIMIT_S)}
    if done.returncode:
        last = (done.stderr.strip() or "no word").splitlines()[-1]
        return {"refused": f"FAULT: exit {done.returncode}: {last}", "seconds": 0.0}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def row(entry: Entry, result: dict[str, Any]) -> str:
    """One line of the table."""
    made_up = "" if entry.feed in REAL else " *"
    if "refused" in result:
        cells = ["-", "-", *["refused"] * len(PROFILES)]
    else:
        figures = result["profiles"]
        cells = [str(result["operators"]), figures[PROFILES[0]]["fidelity"]]
        cells += [_cell(figures[profile]) for profile in PROFILES]
    return f"| {entry.name}{made_up} | {' | '.join(cells)} | {result['seconds']:.0f} |"


def _cell(figures: dict[str, Any]) -> str:
    measured = _decibels(figures["sqnr_db"])
    if figures["agreement"] is not None:
        measured += f" {figures['agreement']:.2f}"
    if not figures["passed"]:
        return f"refused ({measured})" if figures["sqnr_db"] is not None else "refused"
    if figures["precision"] == "int8":
        return f"int8 {measured}"
    return f"{figures['precision']} (int8 {measured})"


def _decibels(value: float | None) -> str:
    return "exact" if value is None else f"{value:.0f} dB"


def table(done: Sequence[tuple[Entry, dict[str, Any]]]) -> str:
    """The whole result as Markdown."""
    lines = [
        f"| model | operators | float | {' | '.join(PROFILES)} | s |",
        f"|---|---|---|{'---|' * len(PROFILES)}---|",
        *(row(entry, result) for entry, result in done),
        "",
    ]
    for position, profile in enumerate(PROFILES):
        passed = [e for e, r in done if "refused" not in r and r["profiles"][profile]["passed"]]
        int8 = [e for e, r in done if e in passed and r["profiles"][profile]["precision"] == "int8"]
        end = "." if position == len(PROFILES) - 1 else ";"
        lines.append(
            f"**{profile}**: {len(passed)} of {len(done)} converted, {len(int8)} of them to int8{end}"
        )
    lines += ["", "Refused, in the converter's words:", ""]
    for entry, result in done:
        if "refused" in result:
            lines.append(f"* {entry.name}: {result['refused']}")
            continue
        said: dict[str, list[str]] = {}
        for profile in PROFILES:
            if not result["profiles"][profile]["passed"]:
                said.setdefault(result["profiles"][profile]["summary"], []).append(profile)
        lines += [f"* {entry.name} ({', '.join(names)}): {text}" for text, names in said.items()]
    return "\n".join(lines)


def main() -> None:
    """Convert the list, or a part of it, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cache", type=Path, default=CACHE, help="downloaded packages (default: .models)")
    parser.add_argument("--only", action="append", default=[], help="part of a model's name; repeatable")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--markdown", type=Path, help="put the table between the marks of this file")
    asked = parser.parse_args()
    known = entries()
    if asked.one:
        (entry,) = (e for e in known if e.name == asked.one)
        print(json.dumps(convert(entry, asked.cache.absolute())))
        return
    wanted = [e for e in known if not asked.only or any(o.lower() in e.name.lower() for o in asked.only)]
    done = []
    for entry in wanted:
        model_file(entry, asked.cache.absolute())  # a download is no part of the time
        result = in_child(entry, asked.cache.absolute())
        done.append((entry, result))
        print(row(entry, result), file=sys.stderr, flush=True)
    text = table(done)
    print(text)
    if asked.markdown:
        _between_marks(asked.markdown, text)


def _between_marks(path: Path, text: str) -> None:
    begin, end = "<!-- coverage.py -->", "<!-- end -->"
    document = path.read_text()
    head, rest = document.split(begin)
    path.write_text(f"{head}{begin}\n{text}\n{end}{rest.split(end)[1]}")


if __name__ == "__main__":
    main()
