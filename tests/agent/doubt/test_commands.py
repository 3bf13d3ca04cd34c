"""`edge-agent lineup`, `review`, `feedback` as a person uses them, with a running daemon and without."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from agent_bundles import KEY
from agent_fleet import until
from click.testing import CliRunner, Result
from lineup_models import SURE_X, UNSURE_X, bundle

from edge_agent.cli import main
from edge_agent.device.config import trust
from edge_agent.device.home import Home
from edge_agent.doubt.reviewer import ring_of
from edge_agent.doubt.ring import Bounds, Head
from edge_agent.updates import local

WIDE = Bounds(1 << 20, 100)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def call(home: Home, *arguments: str) -> Result:
    return CliRunner().invoke(main, [*arguments, "--home", str(home.folder)])


def keep(home: Home, name: str, label: int | None = None, bundle_digit: str = "a") -> None:
    home.make()
    head = Head(
        request=name,
        time_ms=1_700_000_000_000,
        bundle="sha256:" + bundle_digit * 64,
        artifact="float32",
        reason="uncertain",
        confidence=0.4,
        answer=0,
        answer_name="cat",
        label=label,
    )
    assert ring_of(home).keep(head, {"x": UNSURE_X}, WIDE)


def test_what_is_kept_is_listed_shown_labelled_exported_and_forgotten(home: Home, tmp_path: Path) -> None:
    assert "nothing is kept" in call(home, "review", "list").output
    keep(home, "one")
    keep(home, "two")
    listed = json.loads(call(home, "review", "list", "--json").output)
    assert [(entry["request"], entry["answer_name"]) for entry in listed] == [("one", "cat"), ("two", "cat")]
    assert "x float32 [1, 4]" in call(home, "review", "show", "1").output
    assert call(home, "feedback", "two", "2").exit_code == 0
    assert call(home, "feedback", "three", "2").exit_code == 1
    output = tmp_path / "all.npz"
    assert call(home, "review", "export", "--output", str(output)).exit_code == 0
    with np.load(output) as arrays:
        np.testing.assert_array_equal(arrays["y"], [-1, 2])
        np.testing.assert_array_equal(arrays["x"], np.concatenate([UNSURE_X, UNSURE_X]))
    assert "1 inputs" in call(home, "review", "export", "--labelled", "--output", str(output)).output
    assert "2 inputs forgotten" in call(home, "review", "clear", "--yes").output
    assert json.loads(call(home, "review", "list", "--json").output) == []


def test_an_export_of_nothing_is_refused_and_writes_no_file(home: Home, tmp_path: Path) -> None:
    keep(home, "one")
    output = tmp_path / "none.npz"
    for more in (["--labelled"], ["--bundle", "ffff"]):
        refused = call(home, "review", "export", "--output", str(output), *more)
        assert (refused.exit_code, output.exists()) == (1, False)
        assert "no such input is kept" in refused.output


def test_a_damaged_input_is_listed_as_such_and_left_out_of_an_export(home: Home, tmp_path: Path) -> None:
    keep(home, "one")
    keep(home, "two")
    path = home.folder / "review" / "000000000000.review"
    path.write_bytes(path.read_bytes()[:-1])
    content = bytearray(path.read_bytes())
    content[10] ^= 1
    path.write_bytes(content)
    assert "damaged" in call(home, "review", "list").output
    said = call(home, "review", "export", "--output", str(tmp_path / "x.npz")).output
    assert "1 inputs in clear" in said
    assert "1 damaged ones left out" in said


def test_settings_are_shown_and_refused_in_one_line(home: Home) -> None:
    assert "6 a minute" in call(home, "review", "set").output
    assert "nothing, encrypted" in call(home, "review", "set", "--no-keep").output
    assert "nobody stands beside" in call(home, "lineup", "show").output
    refused = call(home, "lineup", "set", "--ab", "b.bundle")
    assert (refused.exit_code, refused.output.count("\n")) == (1, 1)


def test_a_running_daemon_takes_up_a_second_model_and_labels(home: Home, tmp_path: Path) -> None:
    trust(home, KEY.public)
    archive, inputs, answers = tmp_path / "a.bundle", tmp_path / "in", tmp_path / "answers.jsonl"
    archive.write_bytes(bundle(0.6))
    with home.locked():
        local.install(home, archive)
    archive.write_bytes(bundle(0.3, version="2"))
    inputs.mkdir()
    np.savez(inputs / "x.npz", x=np.concatenate([UNSURE_X, SURE_X]))
    run = [sys.executable, "-c", "from edge_agent.cli import main; main()", "run", "--home", str(home.folder)]
    run += ["--input", str(inputs), "--loop", "--rate", "50", "--answers", str(answers)]
    daemon = subprocess.Popen(run, stderr=subprocess.PIPE, text=True)

    def last() -> list[bool]:
        lines = answers.read_text().splitlines()[-6:-1] if answers.exists() else []
        return [json.loads(line)["uncertain"] for line in lines]

    try:
        until(lambda: any(last()) and not all(last()), "unsure of one of two")
        said = call(home, "lineup", "set", "--second", str(archive))
        assert said.exit_code == 0, said.output
        until(lambda: len(last()) == 5 and not any(last()), "the second model is sure")
        label = call(home, "feedback", "x.npz:1", "cat")
        assert (label.exit_code, label.output) == (0, "the answer was right\n")
        assert call(home, "feedback", "nobody", "cat").exit_code == 1
    finally:
        daemon.terminate()
        _, log = daemon.communicate(timeout=30)
    assert "lineup-opened" in log
    assert "Traceback" not in log
