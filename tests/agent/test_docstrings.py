"""What a Python without docstrings shows and does, as the service's unit starts one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from edge_agent import cli
from edge_agent.docstrings import asks_for_help, environment_with

ENTRY = [sys.executable, "-c", "from edge_agent.cli import main; main()"]
PLAIN = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def said(*words: str, **environment: str) -> str:
    done = subprocess.run(
        [*ENTRY, *words], capture_output=True, text=True, timeout=60, env=PLAIN | environment
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("words", [("run", "--help"), ("trust", "-h"), ("keys",), ()])
def test_help_teaches_without_docstrings_too(words: tuple[str, ...], tmp_path: Path) -> None:
    service = {"PYTHONOPTIMIZE": "2", "PYTHONPYCACHEPREFIX": str(tmp_path / "bytecode")}
    help_text = said(*words)
    assert help_text.startswith("Usage: ")
    assert len(help_text) > 200
    assert said(*words, **service) == help_text


def test_docstrings_are_left_out_where_the_environment_says_so() -> None:
    code = "from edge_agent import agent; import numpy; print(agent.__doc__, numpy.array.__doc__)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=PLAIN | {"PYTHONOPTIMIZE": "2"}
    )
    assert done.stdout == "None None\n", done.stderr


def test_only_what_shows_help_is_started_anew() -> None:
    groups = frozenset({"keys"})
    assert asks_for_help(["run", "--home", "x", "-h"], groups)
    assert asks_for_help(["keys"], groups)
    assert asks_for_help([], groups)
    assert not asks_for_help(["run"], groups)
    assert not asks_for_help(["keys", "show"], groups)


def test_every_group_is_known() -> None:
    context = click.Context(cli.main)
    found = {
        name
        for name in cli.main.list_commands(context)
        if isinstance(cli.main.get_command(context, name), click.Group)
    }
    assert found == cli._GROUPS


def test_a_python_that_was_told_otherwise_is_not_started_for_ever() -> None:
    assert environment_with({"HOME": "/root"}) is None
    service = {"HOME": "/root", "PYTHONOPTIMIZE": "2", "PYTHONPYCACHEPREFIX": "/opt/edgefleet/bytecode"}
    assert environment_with(service) == {"HOME": "/root"}
