"""Dry runs as a new user would make them: from the command line."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from fleet_rows import FleetRows, digest
from fleet_server import Running

from edge_fleet.rollouts.plan_cli import plan as command

PLAN = """
format = "edgefleet.rollout/1"
release = "digits@2.0.0"
stages = ["10%", "100%"]
gates = { error_rate = 0.02, drift = 0.15 }
"""
FLEET = """
format = "edgefleet.fleet/1"
[[classes]]
profile = "arm-cpu"
devices = 50
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "plan.toml").write_text(PLAN)
    (tmp_path / "fleet.toml").write_text(FLEET)
    return tmp_path


def plan(files: Path, *words: str) -> tuple[int, str]:
    result = CliRunner().invoke(command, [str(files / "plan.toml"), *words])
    return result.exit_code, result.output + str(result.exception or "")


def test_a_plan_is_replayed_against_a_described_fleet(files: Path) -> None:
    words = ["--simulate", "--fleet", str(files / "fleet.toml"), "--runs", "4", "--size", "1"]
    code, output = plan(files, *words, "--plot", str(files / "x.svg"))
    assert code == 0, output
    assert "50 devices, 4 runs each" in output
    assert "not simulated, taken to pass: drift" in output
    assert "+100 % errors" in output
    assert (files / "x.svg").read_text().startswith("<svg")
    code, output = plan(files, *words, "--json")
    assert json.loads(output)["rows"][1]["exposed_most"] <= 5


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--simulate"], "give --fleet FILE or --recorded"),
        (["--simulate", "--fleet", "nowhere.toml"], "cannot read nowhere.toml"),
        (["--simulate", "--fleet", __file__], "is not TOML"),
        (["--simulate", "--fleet", "FLEET", "--runs", "0"], "--runs"),
        (["--simulate", "--fleet", "FLEET", "--runs", "1", "--plot", "/nowhere/x.svg"], "cannot write"),
        (["--simulate", "--fleet", "FLEET", "--defect", "colour"], "colour"),
    ],
)
def test_what_cannot_be_is_refused(files: Path, words: list[str], told: str) -> None:
    code, output = plan(files, *(str(files / "fleet.toml") if word == "FLEET" else word for word in words))
    assert code != 0
    assert told in output


def test_a_plan_is_replayed_against_the_recorded_fleet(fleet: Running, files: Path) -> None:
    rows = FleetRows(fleet.server.store, fleet.server.now_ms)
    rows.publish("7")
    rows.enrol("recorded-1", "recorded-2", site="recorded")
    rows.report("recorded-1", digest("7"))
    (files / "plan.toml").write_text(PLAN.replace("stages", 'select = "site=recorded"\nstages'))
    words = ["--simulate", "--recorded", "--runs", "2", "--size", "1", "--server", fleet.url]
    code, output = plan(files, *words, "--token", fleet.token("viewer"))
    assert code == 0, output
    assert "2 devices, 2 runs each" in output


def test_a_dry_run_of_the_recorded_fleet_tells_whom_the_release_leaves_out(
    fleet: Running, files: Path
) -> None:
    rows = FleetRows(fleet.server.store, fleet.server.now_ms)
    rows.publish("8")
    rows.enrol("left-1", "left-2", site="left")
    rows.enrol("left-3", site="left", runs="8")
    rows.report("left-1", digest("8"))
    text = PLAN.replace("stages", 'select = "site=left"\nstages').replace("digits@2.0.0", "digits@8")
    (files / "plan.toml").write_text(text)
    words = ["--simulate", "--recorded", "--runs", "2", "--size", "1", "--server", fleet.url]
    code, output = plan(files, *words, "--token", fleet.token("viewer"))
    assert code == 0, output
    assert "2 devices, 2 runs each" in output
    assert "left out, 1: runs it already" in output


def test_a_person_at_a_terminal_sees_how_far_a_dry_run_is_and_a_file_does_not(files: Path) -> None:
    command_line = [sys.executable, "-c", "from edge_fleet.cli import main; main()", "rollout", "plan"]
    command_line.append(str(files / "plan.toml"))
    command_line += ["--simulate", "--fleet", str(files / "fleet.toml"), "--runs", "4", "--size", "1"]
    ours, theirs = pty.openpty()
    wide = {**os.environ, "COLUMNS": "100", "TERM": "xterm"}
    with subprocess.Popen(command_line, stdout=subprocess.PIPE, stderr=theirs, env=wide) as at_terminal:
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # Linux's word for a terminal that nobody holds any more
            while part := os.read(ours, 65536):
                seen += part
        assert at_terminal.stdout is not None
        output = at_terminal.stdout.read()
    os.close(ours)
    assert b"8/8" in seen and b"runs" in seen, seen
    piped = subprocess.run(command_line, capture_output=True, check=True)
    assert piped.stderr == b""
    assert piped.stdout == output
