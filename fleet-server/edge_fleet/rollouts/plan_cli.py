"""`edge-fleet rollout plan` and `schema`: plans as files. No server is needed."""

from __future__ import annotations

import json
from pathlib import Path

import click


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
@click.option("--kind", default="staged", metavar="KIND", help="With --new: staged (default), canary.")
def plan(file: Path | None, new: bool, release: str, kind: str) -> None:
    """Check a plan FILE, YAML or TOML, and say what it asks for; or begin one with --new."""
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
    click.echo("\n".join(described(parse_plan(document.raw, document.what, document.lines))))
