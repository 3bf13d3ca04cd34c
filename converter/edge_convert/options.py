"""What the commands of edge-convert share: types of options, and printing for programs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click

PATH = click.Path(path_type=Path)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def print_json(document: Any) -> None:
    """Print a document for a program."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def matching(pattern: str, expected: str) -> Any:
    """An option's callback that refuses what does not match, saying what was expected."""

    def check(context: click.Context, parameter: click.Parameter, value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise click.BadParameter(f"{value!r}: expected {expected}", context, parameter)
        return value

    return check
