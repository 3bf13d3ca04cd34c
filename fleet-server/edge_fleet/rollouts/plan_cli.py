"""`edge-fleet rollout plan` and `schema`: plans as files. A server is needed for `--recorded` only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edge_fleet.remote import as_json, remote
from edge_fleet.simulation.cli import Asked, simulate, simulation_options


@click.command("schema")
def schema() -> None:
    """Print the JSON Schema of plan files, which editors complete and check them by."""
    from edge_fleet.rollouts.plan_schema import plan_schema

    click.echo(json.dumps(plan_schema(), indent=2))


@click.command("plan")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--new", is_flag=True, help="Print a plan to begin with, each field explained.")
@click.option(
    "--release", default="NAME@VERSION", metavar="NAME@VERSION", help="With --new: what to roll out."
)
@click.option(
    "--kind",
    default="staged",
    metavar="KIND",
    help="With --new: staged (default), canary, shadow-first, blue-green, ab, rehearsal.",
)
@click.option("--simulate", "simulates", is_flag=True, help="Replay it against a fleet: a dry run.")
@simulation_options
@remote
@as_json
def plan(
    file: Path | None,
    new: bool,
    release: str,
    kind: str,
    simulates: bool,
    home_path: Path | None,
    url: str | None,
    token: str | None,
    **asked: Any,
) -> None:
    """Check a plan FILE, YAML or TOML, and say what it asks for; or begin one with --new.

    With --simulate, say what would come of it, and who would be exposed to a defect before it is caught.
    """
    from edge_fleet.rollouts.plan import Kind, parse_plan
    from edge_fleet.rollouts.plan_file import read_plan_file
    from edge_fleet.rollouts.plan_text import described
    from edge_fleet.rollouts.template import template

    if new == (file is not None):
        raise click.UsageError("give a FILE to check, or --new")
    if file is None:
        if kind not in list(Kind):
            raise click.UsageError(f"--kind {kind!r} is none of {', '.join(Kind)}")
        click.echo(template(release, Kind(kind)), nl=False)
        return
    document = read_plan_file(file)
    checked = parse_plan(document.raw, document.what, document.lines)
    if simulates:
        simulate(checked, Asked(**asked), home_path, url, token)
    else:
        click.echo("\n".join(described(checked)))
