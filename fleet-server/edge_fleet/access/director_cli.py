"""`edge-fleet key`: the director's key, which signs what each device is to run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from edge_contracts.keys import PublicKey
from edge_fleet.errors import Conflict
from edge_fleet.remote import API, as_json, connect, remote
from edge_fleet.rendering import ago, table

_reason = click.option("--reason", default="", help="One line for a person at the device.")


@click.group()
def key() -> None:
    """The director's key: which is in force, and how another takes its place.

    \b
    status            the keys, and how many devices obey each
    rotate-director   put another in force, by the word of the present one
    new-director      make the next one, for a publisher to name where the present one is stolen
    retire-director   let one of before sign nothing any more
    """


@key.command("status")
@remote
@as_json
def status(home_path: Path | None, url: str | None, token: str | None, as_json: bool) -> None:
    """List the keys; 1 when devices obey one that this server does not have."""
    found = connect(home_path, url, token).get(f"{API}/directors")
    if as_json:
        click.echo(json.dumps(found))
    else:
        rows = [(d["key_id"], d["state"], _since(d), d["devices"], d["silent"] or "-") for d in found]
        table(("key", "state", "since", "devices obey it", "may, agents of before"), rows)
    strange = [d for d in found if d["state"] == "stranger"]
    if strange:
        click.echo(
            f"{sum(d['devices'] for d in strange)} devices obey a key that is not this server's: a publisher "
            "must name another (edge-fleet key new-director)",
            err=True,
        )
        sys.exit(1)


@key.command("rotate-director")
@_reason
@remote
def rotate(reason: str, home_path: Path | None, url: str | None, token: str | None) -> None:
    """Put another key in force: the one that waits, else a new one. Devices follow when they are there.

    Where two people are wanted (edge-fleet rollout two-person), the first makes the key, and another puts it
    in force.
    """
    client = connect(home_path, url, token)
    made = client.post(f"{API}/directors", {})
    answer = client.post(f"{API}/directors/{made['key_id']}/rotate", {"reason": reason})
    click.echo(f"{made['key_id']} directs; statement {answer['counter']} goes to {answer['devices']} devices")


@key.command("new-director")
@click.option(
    "--output", type=click.Path(path_type=Path), required=True, help="Where its public half goes, as PEM."
)
@remote
def new(output: Path, home_path: Path | None, url: str | None, token: str | None) -> None:
    """Make the next key and write its public half, for a publisher to name in place of a stolen one:

    \b
    edge-convert keys change --sign-key private.pem --counter N --director director.pem --output new.keys
    edge-fleet trust apply new.keys

    A key that waits already is put away: whoever has stolen the present one may have that, too.
    """
    client = connect(home_path, url, token)
    for one in client.get(f"{API}/directors"):
        if one["state"] == "waiting":
            client.post(f"{API}/directors/{one['key_id']}/retire", {})
    made = client.post(f"{API}/directors", {})
    content = PublicKey.from_base64(made["public_key"]).pem
    try:
        output.write_bytes(content)
    except OSError as error:
        raise Conflict(f"cannot write {output}: {error.strerror}") from None
    click.echo(f"{made['key_id']} waits; its public half is in {output}")


@key.command("retire-director")
@click.argument("key_id", metavar="KEY")
@click.option("--force", is_flag=True, help="Although devices depend on it.")
@remote
def retire(key_id: str, force: bool, home_path: Path | None, url: str | None, token: str | None) -> None:
    """Let KEY sign nothing any more, and remove it from this server; refused while devices depend on it."""
    answer = connect(home_path, url, token).post(f"{API}/directors/{key_id}/retire", {"force": force})
    left = f"; {answer['devices']} devices depended on it" if answer["devices"] else ""
    click.echo(f"{key_id} is retired{left}")


def _since(director: dict[str, Any]) -> str:
    made = director.get("since_ms") or director.get("made_ms")
    return ago(made) if made else "-"
