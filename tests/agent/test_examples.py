"""The examples of `--help`, each held to the command line that it is about."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from edge_agent.cli import main
from edge_agent.examples import EXAMPLES


def commands(group: click.Group, path: str = "") -> Iterator[str]:
    """Every command that is not a group, as it is typed."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        typed = f"{path} {name}".strip()
        if isinstance(command, click.Group):
            yield from commands(command, typed)
        else:
            yield typed


def examples() -> list[tuple[str, str]]:
    """Each with the command under whose help it stands; lines that end in a backslash go on."""
    found = []
    for path, lines in EXAMPLES.items():
        whole = "\n".join(lines).replace("\\\n", " ")
        found += [(path, line) for line in whole.splitlines()]
    return found


def parse(words: list[str]) -> str:
    """Parse a command line as click does, without running it; the command that it names."""
    context = main.make_context("edge-agent", list(words))
    path = []
    while isinstance(context.command, click.Group):
        name, command, rest = context.command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        assert command is not None and name is not None
        path.append(name)
        context = command.make_context(name, rest, parent=context)
    return " ".join(path)


def test_every_command_has_examples_and_its_help_shows_them() -> None:
    assert set(commands(main)) | {""} == set(EXAMPLES)
    for path, lines in EXAMPLES.items():
        helped = CliRunner().invoke(main, [*path.split(), "--help"]).output
        assert "Examples:" in helped
        for line in lines:
            assert f"  {line}\n" in helped


@pytest.mark.parametrize(("path", "line"), examples())
def test_an_example_is_a_command_line_of_its_command(
    path: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ca.pem").write_text("")
    program, *words = shlex.split(line.rpartition(" | ")[2])
    assert program == "edge-agent"
    with CliRunner().isolation("y\n"):  # some ask whether one is sure
        assert parse(words) == path or not path


def test_a_line_that_is_none_does_not_pass_for_an_example() -> None:
    for wrong in (["run", "--no-such"], ["review", "set", "--per-minute", "x"], ["infer"]):
        with pytest.raises(click.UsageError):
            parse(wrong)
