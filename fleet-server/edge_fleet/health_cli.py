"""`edge-fleet health`: how the server is, for a person, a program, and an orchestrator's check."""

from __future__ import annotations

import json
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import click

from edge_fleet.errors import NotReady, ServerUnreachable
from edge_fleet.remote import as_json, connect, remote

AGAIN_S = 0.5


@click.command("health")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 86400),
    default=0.0,
    metavar="SECONDS",
    help="How long to wait for a server that begins.",
)
@remote
@as_json
def health(home_path: Path | None, url: str | None, token: str | None, as_json: bool, wait_s: float) -> None:
    """Say how the server's parts are; exit code 1 while it cannot store telemetry or hear devices."""
    ends = monotonic() + wait_s
    while True:
        late = monotonic() >= ends
        try:
            found: dict[str, Any] = connect(home_path, url, token).get("/health")
            if late or found["status"] == "ok":
                break
        except ServerUnreachable:
            if late:
                raise
        sleep(AGAIN_S)
    if as_json:
        click.echo(json.dumps(found))
    if found["status"] != "ok":
        raise NotReady(f"the server is {found['status']}: {_told(found)}")
    if not as_json:
        click.echo(f"{found['status']}: {_told(found)}")


def _told(found: dict[str, Any]) -> str:
    parts = ", ".join(f"{part} {found[part]}" for part in ("database", "broker"))
    return f"{parts}, {found['waiting']} messages wait"
