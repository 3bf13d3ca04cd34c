"""`edge-fleet health`: whether the server of this machine can do its work, for supervisors and containers."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edge_fleet.errors import NotReady
from edge_fleet.remote import as_json, connect, remote


@click.command("health")
@remote
@as_json
def health(home_path: Path | None, url: str | None, token: str | None, as_json: bool) -> None:
    """Say how the server's parts are; exit code 1 while it cannot store telemetry or hear devices."""
    found = connect(home_path, url, token).get("/health")
    told = ", ".join(f"{part} {found[part]}" for part in ("database", "broker"))
    told = f"{told}, {found['waiting']} messages wait"
    if as_json:
        click.echo(json.dumps(found))
    if found["status"] != "ok":
        raise NotReady(f"the server is {found['status']}: {told}")
    if not as_json:
        click.echo(f"{found['status']}: {told}")
