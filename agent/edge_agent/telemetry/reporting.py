"""The options of `edge-agent run` that say what is told, to whom, and how safely it is kept.

Light to import: the command line needs it for every `--help`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click


@dataclass(frozen=True)
class Reporting:
    """How telemetry is kept and who else hears of it.

    Args:
        durability: "power" or "process", as `outbox_file.Durability`.
    """

    durability: str = "power"


def reporting_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command these options; it gets them as one argument, `reporting`."""

    @functools.wraps(command)
    def with_reporting(durability: str, **others: Any) -> None:
        command(reporting=Reporting(durability), **others)

    for option in reversed(_OPTIONS):
        with_reporting = option(with_reporting)
    return with_reporting


_OPTIONS = (
    click.option(
        "--durability",
        type=click.Choice(["power", "process"]),
        default="power",
        show_default=True,
        help="What telemetry survives once it is kept: a power cut (each window is synced to the disk), or "
        "only the death of this process (30 s may be lost in a power cut; spares a flash card). What was "
        "sent survives both.",
    ),
)
