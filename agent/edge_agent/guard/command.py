"""`edge-agent quarantine`: what is not used for now, and taking it back into use."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edge_agent.device.home import Home, default_home
from edge_agent.errors import HomeLocked

_HOME = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the agent [default: $EDGE_AGENT_HOME or ~/.edgefleet/agent].",
)


@click.group()
def quarantine() -> None:
    """What this device does not use for now, because it failed or gave wrong answers."""


@quarantine.command(name="list")
@_HOME
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def list_(home: Path | None, as_json: bool) -> None:
    """What is in quarantine, why, and when it is tried again."""
    from edge_agent.guard.quarantine import GuardStore

    store = GuardStore(_place(home))
    entries = store.record.entries
    if as_json:
        click.echo(json.dumps([entry.model_dump(mode="json") for entry in entries]))
        return
    if store.lost:
        click.echo(store.lost, err=True)
    click.echo("\n".join(str(entry) for entry in entries) or "nothing is in quarantine")


@quarantine.command()
@click.argument("subject")
@_HOME
def lift(subject: str, home: Path | None) -> None:
    """Use SUBJECT again (as `list` shows it, such as edgetpu/EDGETPU), or "all".

    Golden inputs are asked before it answers anybody; when they do not agree it comes back.
    """
    from edge_agent.guard.quarantine import GuardStore
    from edge_agent.guard.retrials import lift as lift_in
    from edge_agent.updates import orders

    place = _place(home)
    try:
        with place.locked():
            lifted = lift_in(GuardStore(place), subject)
        said = (
            f"lifted: {', '.join(entry.subject for entry in lifted)}; golden inputs decide at the next start"
        )
    except HomeLocked:
        said = orders.give(place, "lift", subject=subject)
    click.echo(said)


def _place(home: Path | None) -> Home:
    return Home(home) if home is not None else default_home()
