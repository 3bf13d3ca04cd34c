"""Commands that change whom devices trust: trust apply, retire, revoke, statements."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import click

from edge_contracts.keys import read_public
from edge_fleet.errors import NotFound
from edge_fleet.fleet_cli import trust
from edge_fleet.remote import API, as_json, connect, remote
from edge_fleet.rendering import ago, table

_key = click.argument("key", metavar="KEY")


@trust.command("apply")
@click.argument("file", type=click.Path(path_type=Path))
@remote
def apply(file: Path, home_path: Path | None, url: str | None, token: str | None) -> None:
    """Follow a FILE.keys that a publisher has signed (edge-convert keys change), and tell every device."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise NotFound(f"cannot read {file}: {error.strerror}") from None
    body = {"statement": base64.b64encode(content).decode()}
    answer = connect(home_path, url, token).post(f"{API}/key-statements", body)
    click.echo(f"statement {answer['counter']} goes to {answer['devices']} devices")


@trust.command("retire")
@_key
@click.option("--reason", default="", help="One line for a person at the device.")
@remote
def retire(key: str, reason: str, home_path: Path | None, url: str | None, token: str | None) -> None:
    """Retire a publisher's KEY (public.pem, or its id): it signs nothing new, what it signed stays."""
    path = f"{API}/publishers/{_id(key)}/retire"
    answer = connect(home_path, url, token).post(path, {"reason": reason})
    click.echo(f"statement {answer['counter']} goes to {answer['devices']} devices")


@trust.command("revoke")
@_key
@click.option("--stop", is_flag=True, help="A device with nothing else stops answering with its bundles.")
@click.option("--reason", default="", help="One line for a person at the device.")
@remote
def revoke(
    key: str, stop: bool, reason: str, home_path: Path | None, url: str | None, token: str | None
) -> None:
    """Revoke a publisher's KEY (public.pem, or its id) on every device: it counts for nothing any more."""
    path = f"{API}/publishers/{_id(key)}/revoke"
    answer = connect(home_path, url, token).post(path, {"stop": stop, "reason": reason})
    click.echo(f"statement {answer['counter']} goes to {answer['devices']} devices")


@trust.command("statements")
@remote
@as_json
def statements(home_path: Path | None, url: str | None, token: str | None, as_json: bool) -> None:
    """List what devices are told about keys."""
    found = connect(home_path, url, token).get(f"{API}/key-statements")
    if as_json:
        click.echo(json.dumps(found))
        return
    rows = [(s["counter"], s["signer"][:12], ago(s["made_ms"]), s["actor"], _said(s["said"])) for s in found]
    table(("counter", "signed by", "made", "by", "says"), rows)


def _said(said: dict[str, Any]) -> str:
    keys = [f"{verb} {key[:12]}" for verb in ("add", "retire", "revoke") for key in said[verb]]
    return ", ".join([*keys, *([f"director {said['director'][:12]}"] if said.get("director") else [])])


def _id(key: str) -> str:
    return read_public(Path(key)).key_id if Path(key).is_file() else key
