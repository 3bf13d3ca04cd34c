"""`edge-agent explain`: a picture's map and a table's features, of real models in their process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import agent_bundles
import numpy as np
import pytest
from click.testing import CliRunner, Result
from input_bundles import encoded, picture, picture_bundle
from PIL import Image

from edge_agent.cli import main
from edge_agent.explain.drawing import drawn, regions
from edge_agent.input.view import View
from edge_contracts.arrays import write_npz

COLUMNS = [{"name": name} for name in ("height", "weight", "age", "dose")]
RULES: dict[str, Any] = {
    "inputs": [{"name": "x", "shape": (1, 4), "prepare": {"kind": "table", "columns": COLUMNS}}]
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "table.bundle").write_bytes(agent_bundles.build(manifest=RULES))
    (tmp_path / "rows.csv").write_text("age,dose,height,weight\n1,-1,2,-2\n0.5,0.5,-1,1\n")
    (tmp_path / "pictures.bundle").write_bytes(
        picture_bundle(checks={"constant": "refuse", "constant_within": 0.01})
    )
    (tmp_path / "a.png").write_bytes(encoded(picture(60, 40)))
    return tmp_path


def run(place: Path, bundle: str, data: str, *more: str) -> Result:
    arguments = ["explain", str(place / bundle), "--input", str(place / data), "--home", str(place / "home")]
    return CliRunner().invoke(main, [*arguments, "--output", str(place / "map.png"), *more])


def test_a_row_of_a_table_is_explained_column_by_column(place: Path) -> None:
    result = run(place, "table.bundle", "rows.csv", "--row", "1", "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    row = np.array([[-1, 1, 0.5, 0.5]], np.float32)
    scores = agent_bundles.reference(row)[0]
    best = int(scores.argmax())
    assert told["watched"] == f"the score of {agent_bundles.LABELS[best]}"
    assert told["figure"] == pytest.approx(float(scores[best]), abs=1e-5)
    falls = {one["feature"]: one["fall"] for one in told["inputs"]["x"]["features"]}
    for place_, name in enumerate(("height", "weight", "age", "dose")):
        replaced = np.repeat(row, 16, axis=0)
        replaced[:, place_] = agent_bundles.GOLDEN_X[:, place_]
        expected = scores[best] - agent_bundles.reference(replaced)[:, best].mean()
        assert falls[name] == pytest.approx(float(expected), abs=1e-5)
    strongest = [abs(one["fall"]) for one in told["inputs"]["x"]["features"]]
    assert strongest == sorted(strongest, reverse=True)


def test_a_picture_gets_a_map_that_is_drawn_over_it(place: Path) -> None:
    result = run(place, "pictures.bundle", "a.png")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("watched: the score of ")
    assert lines[1].startswith("x: the strongest of 8 x 8 parts")
    assert lines[-1] == f"map: {place / 'map.png'}"
    with Image.open(place / "map.png") as shown:
        assert shown.size == (60, 40)
        assert not np.array_equal(np.asarray(shown), np.asarray(picture(60, 40)))


def test_a_sample_of_an_npz_is_drawn_from_its_numbers(place: Path) -> None:
    x = np.random.default_rng(0).uniform(0, 1, (3, 12, 12, 3)).astype(np.float32)
    (place / "x.npz").write_bytes(write_npz({"x": x}))
    assert run(place, "pictures.bundle", "x.npz", "--row", "2").exit_code == 0
    with Image.open(place / "map.png") as shown:
        assert shown.size == (12 * 21, 12 * 21)


def test_what_the_contract_refuses_is_not_explained(place: Path) -> None:
    (place / "flat.png").write_bytes(encoded(Image.new("RGB", (20, 20), (90, 90, 90))))
    for data, more, told in (
        ("flat.png", (), "is the same everywhere"),
        ("rows.csv", (), "is a picture"),
        ("a.png", ("--row", "1"), "has 1 samples; there is no 1"),
        ("none.png", (), "cannot read"),
    ):
        result = run(place, "pictures.bundle", data, *more)
        assert result.exit_code == 1
        assert told in result.stderr
        assert not (place / "map.png").exists()


def test_a_map_that_cannot_be_written_is_one_line(place: Path) -> None:
    (place / "map.png").mkdir()
    result = run(place, "pictures.bundle", "a.png")
    assert result.exit_code == 1
    assert "cannot write" in result.stderr


# --- drawing


def test_regions_are_in_the_picture_that_was_handed_over() -> None:
    heat = np.array([[0.0, 0.5], [-0.75, 0.0]])
    first, second = regions(heat, View(0.0, -0.5, 1.0, 1.5), 5)
    assert (first.fall, second.fall) == (-0.75, 0.5)
    assert (first.left, first.top, first.right, first.bottom) == (0.0, 0.5, 0.5, 1.5)
    assert (second.left, second.top, second.right, second.bottom) == (0.5, -0.5, 1.0, 0.5)


def test_red_speaks_for_blue_against_and_nothing_leaves_the_picture_alone(tmp_path: Path) -> None:
    heat = np.zeros((8, 8))
    heat[0, 0], heat[7, 7] = 1.0, -1.0
    grey = Image.new("RGB", (80, 80), (128, 128, 128))
    (tmp_path / "m.png").write_bytes(drawn(grey, heat, None))
    with Image.open(tmp_path / "m.png") as shown:
        pixels = np.asarray(shown).astype(int)
    assert pixels[2, 2, 0] > 128 + 30 > pixels[2, 2, 2]
    assert pixels[77, 77, 2] > 128 + 30 > pixels[77, 77, 0]
    assert (pixels[40, 40] == 128).all()


def test_a_map_that_cannot_be_drawn_is_told_and_a_time_that_is_none_is_wrong_usage(place: Path) -> None:
    result = run(place, "table.bundle", "rows.csv")
    assert result.exit_code == 0 and "map.png is not written" in result.stderr
    assert not (place / "map.png").exists()
    for never in ("nan", "inf", "0"):
        assert run(place, "table.bundle", "rows.csv", "--timeout", never).exit_code == 2
