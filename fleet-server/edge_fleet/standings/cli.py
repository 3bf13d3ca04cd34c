"""`edge-fleet devices find`: devices searched on the server, with how each is doing and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edge_fleet.remote import API, as_json, connect, remote
from edge_fleet.rendering import ago, table

SORTS = (
    "urgency", "name", "profile", "model", "longest", "latest", "inferences", "faults", "p95", "drift",
)  # fmt: skip
HEALTHS = ("failing", "silent", "drifting", "updating", "idle", "ok", "revoked")


@click.command("find")
@click.argument("words", nargs=-1)
@click.option("--health", type=click.Choice(HEALTHS), help="Only devices that are doing so.")
@click.option("--profile", default="", help="Only devices whose nearest profile it is.")
@click.option("--model", default="", metavar="'NAME VERSION'", help="Only devices that run it.")
@click.option("--degraded", is_flag=True, help="Only devices that are not on their profile's first choice.")
@click.option("--sort", type=click.Choice(SORTS), default="urgency", show_default=True)
@click.option("--page", type=click.IntRange(1, 10**6), default=1, show_default=True)
@click.option("--size", type=click.IntRange(1, 200), default=50, show_default=True, help="Devices a page.")
@remote
@as_json
@click.pass_obj
def devices_find(
    outer: tuple[Any, Any, Any],
    words: tuple[str, ...],
    health: str | None,
    profile: str,
    model: str,
    degraded: bool,
    sort: str,
    page: int,
    size: int,
    home_path: Path | None,
    url: str | None,
    token: str | None,
    as_json: bool,
) -> None:
    """Find devices by WORDS: parts of a name, label (KEY=VALUE), profile, model, digest or runtime."""
    place, address, secret = outer  # options may stand before or after a sub-command's name
    client = connect(home_path or place, url or address, token or secret)
    narrowed = {"health": health} if health else {}
    found = client.get(
        f"{API}/fleet",
        q=" ".join(words), profile=profile, model=model, degraded=degraded, sort=sort, page=page, size=size,
        **narrowed,
    )  # fmt: skip
    if as_json:
        click.echo(json.dumps(found))
        return
    table(
        ("device", "health", "why", "profile", "runs", "seen"),
        [
            (
                row["device"],
                row["health"],
                row["reason"],
                row["profile"],
                (row["model"] or "-") + (f" (fallback: {row['fallback']})" if row["degraded"] else ""),
                ago(row["last_seen_ms"]),
            )
            for row in found["devices"]
        ],
    )
    more = "more than " if found["more"] else ""
    click.echo(f"{more}{found['matching']} of {found['total']}, page {found['page']} of {found['pages']}")
