"""`edge-fleet webhook`: whom the server tells of alerts, signed, until they have it."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edge_fleet.remote import API, as_json, connect, remote
from edge_fleet.rendering import ago, table

PATH = f"{API}/webhooks"


@click.group()
def webhook() -> None:
    """Whom the server tells of alerts: signed (Standard Webhooks), tried again, never lost."""


@webhook.command("add")
@click.argument("receiver", metavar="URL")
@click.option(
    "--kind", "kinds", multiple=True, help="alert.firing, alert.resolved, retraining.requested; all."
)
@remote
@as_json
def add(
    receiver: str,
    kinds: tuple[str, ...],
    home_path: Path | None,
    url: str | None,
    token: str | None,
    as_json: bool,
) -> None:
    """Tell a receiver from now on, and print the secret that it checks signatures with."""
    made = connect(home_path, url, token).post(PATH, {"url": receiver, "kinds": list(kinds)})
    click.echo(json.dumps(made) if as_json else f"{made['id']}  {made['secret']}")


@webhook.command("list")
@remote
@as_json
def list_all(home_path: Path | None, url: str | None, token: str | None, as_json: bool) -> None:
    """List receivers and what waits for them."""
    found = connect(home_path, url, token).get(PATH)
    if as_json:
        click.echo(json.dumps(found))
        return
    rows = [
        (w["id"], w["url"], ", ".join(w["kinds"]), w["waiting"], w["delivered"], w["dead"]) for w in found
    ]
    table(("id", "url", "kinds", "waiting", "delivered", "given up"), rows)


@webhook.command("remove")
@click.argument("name", metavar="ID")
@remote
def remove(name: str, home_path: Path | None, url: str | None, token: str | None) -> None:
    """Tell a receiver nothing any more."""
    connect(home_path, url, token).post(f"{PATH}/{name}/remove")
    click.echo(f"removed {name}")


@webhook.command("test")
@click.argument("name", metavar="ID")
@remote
def test(name: str, home_path: Path | None, url: str | None, token: str | None) -> None:
    """Send a message of kind "test"."""
    connect(home_path, url, token).post(f"{PATH}/{name}/test")
    click.echo("queued; edge-fleet webhook deliveries shows what was answered")


@webhook.command("deliveries")
@click.option("--dead", is_flag=True, help="Those that were given up only.")
@remote
@as_json
def deliveries(dead: bool, home_path: Path | None, url: str | None, token: str | None, as_json: bool) -> None:
    """List the newest deliveries with their attempts and the last answer."""
    found = connect(home_path, url, token).get(f"{PATH}/deliveries", dead=dead)
    if as_json:
        click.echo(json.dumps(found))
        return
    rows = [
        (
            d["id"],
            d["webhook"],
            d["kind"],
            "delivered" if d["delivered_ms"] else "given up" if d["dead_ms"] else "waiting",
            d["attempts"],
            ago(d["created_ms"]),
            d["answer"],
        )
        for d in found
    ]
    table(("id", "webhook", "kind", "state", "attempts", "made", "answer"), rows)


@webhook.command("retry")
@click.argument("number", type=int)
@remote
def retry(number: int, home_path: Path | None, url: str | None, token: str | None) -> None:
    """Try a delivery again that was given up."""
    connect(home_path, url, token).post(f"{PATH}/deliveries/{number}/retry")
    click.echo(f"delivery {number} is queued again")
