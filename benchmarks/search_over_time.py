"""What the search has found after so many seconds: it is worth having early, and gets better.

    python benchmarks/search_over_time.py [--budgets 5 15 60] [--profile NAME]

Each row is a build of its own with that time budget. "dB" and "same class" are on evaluation samples that
chose nothing; "faster" is the predicted time of the float source over the artifact's. How far a search
comes in a second depends on this host; what a candidate is does not.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from conversion_cases import Case, cases

from edge_contracts.keys import PrivateKey, write_private
from edge_convert import convert, time_model
from edge_convert.gates import Limits
from edge_convert.results import TrialState
from edge_convert.source import read_source
from edge_convert.terminal import table

HEAD = ("model", "budget s", "took s", "tried", "chosen", "kB", "faster", "dB", "same class", "")


def main() -> None:
    """Build with each budget and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budgets", type=float, nargs="+", default=[5.0, 15.0, 60.0])
    parser.add_argument("--profile", default="x86-cpu")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "private.pem"
        write_private(PrivateKey.generate(), key)
        for case in cases():
            for budget in arguments.budgets:
                rows.append(_row(case, budget, arguments.profile, key))
    print(table(HEAD, rows))


def _row(case: Case, budget: float, profile: str, key: Path) -> tuple[str, ...]:
    labels = {} if case.labels is None else {"y": case.labels}
    start = time.monotonic()
    result = convert(
        case.source,
        profiles=[profile],
        name="model",
        version="1",
        calibration=case.calibration,
        evaluation={"x": case.evaluation} | labels,
        sign_key=key,
        output=key.parent / "out",
        time_budget_s=budget,
        limits=Limits(latency="off"),
    )
    took = time.monotonic() - start
    (outcome,) = result.outcomes
    chosen = next((t for t in outcome.trials if t.state is TrialState.CHOSEN), None)
    ended = outcome.searched.ended if outcome.searched else ""
    last = "complete" if not ended else "cut off"
    head = (case.name, f"{budget:g}", f"{took:.1f}", str(len(outcome.trials)))
    if chosen is None or chosen.score is None:
        return (*head, "nothing", "-", "-", "-", "-", last)
    source_us = time_model.predicted_us(read_source(case.source).graph, "float32")
    score = chosen.score
    return (
        *head,
        chosen.name,
        f"{chosen.bytes / 1000:.1f}",
        f"{source_us / chosen.predicted_us:.2f}x",
        "exact" if score.sqnr_db is None else f"{score.sqnr_db:.1f}",
        "-" if score.agreement is None else f"{score.agreement:.1%}",
        last,
    )


if __name__ == "__main__":
    main()
