"""`edge-fleet release withdraw`: switch a release off wherever it runs, and see how far that has come."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edge_fleet.release_cli import release
from edge_fleet.remote import API, as_json, connect, remote
from edge_fleet.rendering import ago


@release.command("withdraw")
@click.argument("wanted", metavar="RELEASE")
@click.option("--why", required=True, help="Kept with the release; devices show it.")
@remote
@as_json
def withdraw(
    wanted: str, why: str, home_path: Path | None, url: str | None, token: str | None, as_json: bool
) -> None:
    """Have every device stop answering with a release at once, and abort the rollouts of it.

    A device goes back to the release before, where it still holds one that is not withdrawn; otherwise it
    answers nothing until it is given another. `release reopen` takes it back.
    """
    found = connect(home_path, url, token).post(f"{API}/lineage/withdraw", {"release": wanted, "why": why})
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(f"{found['name']} {found['version']}: {found['stage']}")
    say(found["withdrawal"])


def say(found: dict[str, Any] | None) -> None:
    """How far the devices of a withdrawn release have come."""
    if found is None:
        return
    why = f": {found['why']}" if found["why"] else ""
    click.echo(f"  withdrawn by {found['actor']}, {ago(found['at_ms'])}{why}")
    click.echo(f"  {found['stopped']} of {found['devices']} devices that had it have stopped")
    for one in found["waiting"]:
        runs = "answers with it" if one["answers"] else "does not answer with it, as far as it said"
        click.echo(f"  {one['device']} {runs}: {one['why']}")
