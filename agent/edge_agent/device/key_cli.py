"""`edge-agent keys`: the key that this device is known by, and another one in its place."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edge_agent.device.home import Home, default_home
from edge_agent.errors import HomeLocked, NotEnrolled

_HOME = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the agent [default: $EDGE_AGENT_HOME or ~/.edgefleet/agent].",
)


@click.group()
def keys() -> None:
    """The key that this device signs with: `keys show`, `keys rotate`.

    It was made here and never leaves.
    """


@keys.command()
@_HOME
def rotate(home: Path | None) -> None:
    """Make a new key and go over to it once the server has taken note of it.

    Until then the old one counts, also without a network, after a crash and after a power cut. Doing it
    twice goes on with the first. The server is to be of this version or later.
    """
    from edge_agent.device.succession import make_next
    from edge_agent.updates import orders

    place = _place(home)
    try:
        with place.locked():
            made = make_next(place)
            click.echo(f"the next key is {made.public.key_id}; it is told to the server when the agent runs")
    except HomeLocked:
        click.echo(orders.give(place, "rotate"))


@keys.command()
@_HOME
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(home: Path | None, as_json: bool) -> None:
    """Which key counts, and which is to follow."""
    from edge_agent.device.config import read_config
    from edge_contracts.keys import PublicKey, read_private

    place = _place(home)
    config = read_config(place)
    if config is None:
        raise NotEnrolled(f"no device is enrolled in {place.folder}: it has no key yet")
    counts = PublicKey.from_base64(config.public_key)
    follows = read_private(place.next_key).public if place.next_key.exists() else None
    if follows == counts:
        follows = None
    if as_json:
        click.echo(json.dumps({"key": counts.key_id, "next": follows.key_id if follows else None}))
        return
    click.echo(f"key       {counts.key_id}  {counts.base64}")
    if follows is not None:
        click.echo(f"next      {follows.key_id}  {follows.base64}, until the server knows it")


def _place(home: Path | None) -> Home:
    return Home(home) if home is not None else default_home()
