"""Conversion quality: our int8 artifacts and MLPerf's own, both against the float file they stand for.

    python benchmarks/conversion_quality.py [--profile NAME]

Every model is converted by the product itself, calibrated on calibration samples, and compared on
evaluation samples that chose nothing. What the data are, `conversion_cases.py` says. Not like for
like: MLPerf calibrated on training data, which are not here.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from conversion_cases import Case, Contestant, cases, converted, shipped

from edge_convert import score
from edge_convert.source import read_source
from edge_convert.terminal import table

HEAD = ("model", "int8 by", "kB", "SQNR dB", "same class", "accuracy", "float's")


def main() -> None:
    """Convert, compare and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="x86-cpu", help="profile of an int8 artifact that runs here")
    profile = parser.parse_args().profile
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases():
            bundle, ours = converted(case, profile, Path(folder))
            recipe = bundle.manifest.provenance.recipe.split("@")[0]
            rows.append(_row(case, f"edgefleet ({recipe})", ours))
            rows.append(_row(case, "MLPerf", shipped(case.twin)))
    print(table(HEAD, rows))


def _row(case: Case, maker: str, contestant: Contestant) -> tuple[str, ...]:
    source = read_source(case.source).open()
    (into,), (out,) = source.inputs, source.outputs
    reference = source.run({into.name: case.evaluation})[out.name]
    answers = contestant.answers(case.evaluation)
    ratio = score.sqnr_db(reference, answers)
    classifies = answers.shape != case.evaluation.shape
    accuracy = ("-", "-")
    if case.labels is not None:
        accuracy = (
            f"{score.accuracy(answers, case.labels):.2%}",
            f"{score.accuracy(reference, case.labels):.2%}",
        )
    return (
        case.name,
        maker,
        f"{contestant.bytes / 1000:.1f}",
        "exact" if ratio is None else f"{ratio:.1f}",
        f"{score.agreement(reference, answers):.1%}" if classifies else "-",
        *accuracy,
    )


if __name__ == "__main__":
    main()
