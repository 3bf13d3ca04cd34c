"""How commands find their server: the options that they share, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_fleet.home import Home, default_home

if TYPE_CHECKING:
    from edge_fleet.client import Client

API = "/api/v1"

home_option = click.option(
    "--home",
    "home_path",
    type=click.Path(path_type=Path),
    help="The server's folder; $EDGE_FLEET_HOME or ~/.edgefleet/server when not given.",
)


def remote(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options by which a command finds its server; they become `connect`, which gives a Client."""
    for option in (
        click.option("--token", envvar="EDGE_FLEET_TOKEN", help="API token; the local one when not given."),
        click.option("--server", "url", metavar="URL", help="Another server than the local one."),
        home_option,
    ):
        command = option(command)
    return command


as_json = click.option("--json", "as_json", is_flag=True, help="For a program instead of a person.")


def connect(home_path: Path | None, url: str | None, token: str | None) -> Client:
    """The server that the options name, until the command ends."""
    from edge_fleet.client import find_server

    client = find_server(Home(home_path or default_home()), url, token)
    click.get_current_context().call_on_close(client.close)
    return client
