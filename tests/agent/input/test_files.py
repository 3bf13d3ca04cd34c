"""Files of what a contract takes, from the command line to labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import agent_bundles
import numpy as np
import pytest
from click.testing import CliRunner, Result
from input_bundles import encoded, picture

from edge_agent.cli import main
from edge_agent.errors import InputRefused
from edge_agent.inference.infer import infer
from edge_agent.input.files import read_file
from edge_contracts.bundle import open_bundle
from edge_contracts.errors import FormatInvalid

COLUMNS = [{"name": name} for name in "abcd"]
RULES: dict[str, Any] = {
    "inputs": [{"name": "x", "shape": (1, 4), "prepare": {"kind": "table", "columns": COLUMNS}}],
    "interpret": {"kind": "classes", "top_k": 2},
}
ROWS = np.round(agent_bundles.GOLDEN_X[:3], 3)
EXPECTED = agent_bundles.reference(ROWS)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "tiny.bundle").write_bytes(agent_bundles.build(manifest=RULES))
    lines = [",".join(map(repr, row.tolist())) for row in ROWS]
    (tmp_path / "rows.csv").write_text("\n".join(["a,b,c,d", *lines]) + "\n")
    return tmp_path


def run(place: Path, data: str, *more: str) -> Result:
    arguments = [str(place / "tiny.bundle"), "--input", str(place / data), "--home", str(place / "home")]
    return CliRunner().invoke(infer, [*arguments, *more])


def test_rows_of_csv_get_labels(place: Path) -> None:
    answers = json.loads(run(place, "rows.csv", "--json").stdout)["answers"]
    assert len(answers) == 3
    for answer, scores in zip(answers, EXPECTED, strict=True):
        best = [int(i) for i in np.argsort(-scores)[:2]]
        assert [one["index"] for one in answer["top"]] == best
        assert [one["class"] for one in answer["top"]] == [agent_bundles.LABELS[i] for i in best]
        assert [one["score"] for one in answer["top"]] == pytest.approx(scores[best].tolist(), abs=1e-5)


def test_a_person_reads_the_best_classes(place: Path) -> None:
    lines = run(place, "rows.csv").stdout.splitlines()
    order = np.argsort(-EXPECTED[0])[:2]
    told = "  ".join(f"{agent_bundles.LABELS[i]}  {EXPECTED[0][i]:.4f}" for i in order)
    assert lines[1] == f"     0  {told}"


def test_a_picture_for_a_table_is_refused_on_one_line(place: Path) -> None:
    (place / "a.png").write_bytes(encoded(picture(9, 9)))
    arguments = ["infer", str(place / "tiny.bundle"), "--input", str(place / "a.png"), "--home", str(place)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        "edge-agent: input 'x' is a table: text/csv or application/json, not 'image/png'"
    )


def test_a_file_that_is_not_there_is_named(place: Path) -> None:
    manifest = open_bundle(place / "tiny.bundle").manifest
    with pytest.raises(FormatInvalid, match=r"cannot read .*none\.csv"):
        read_file(place / "none.csv", manifest)


def test_one_file_is_not_enough_for_two_inputs(place: Path) -> None:
    manifest = open_bundle(place / "tiny.bundle").manifest
    second = manifest.inputs[0].model_copy(update={"name": "z"})
    both = manifest.model_copy(update={"inputs": (*manifest.inputs, second)})
    with pytest.raises(InputRefused, match="the model has 'x', 'z'"):
        read_file(place / "rows.csv", both)
