"""Commands about what the fleet runs and says: release, telemetry, broker."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from edge_contracts.digest import short
from edge_fleet.finite import Finite
from edge_fleet.in_order import in_order
from edge_fleet.remote import API, as_json, connect, remote
from edge_fleet.rendering import table


@click.group()
def release() -> None:
    """Bundles of one version, for one or more profiles."""


@release.command("publish")
@click.argument("bundles", nargs=-1, required=True, type=click.Path(path_type=Path))
@remote
@as_json
def release_publish(
    bundles: tuple[Path, ...], home_path: Path | None, url: str | None, token: str | None, as_json: bool
) -> None:
    """Publish the bundles of one version."""
    answer = connect(home_path, url, token).upload(f"{API}/releases", "bundles", list(bundles))
    if as_json:
        click.echo(json.dumps(answer))
        return
    profiles = ", ".join(bundle["profile"] for bundle in answer["bundles"])
    click.echo(f"published {answer['name']} {answer['version']} (counter {answer['counter']}): {profiles}")


@release.command("list")
@remote
@as_json
def release_list(home_path: Path | None, url: str | None, token: str | None, as_json: bool) -> None:
    """List the releases, newest first."""
    found = connect(home_path, url, token).get(f"{API}/releases")
    if as_json:
        click.echo(json.dumps(found))
        return
    rows = [
        (
            r["counter"],
            r["name"],
            r["version"],
            r["stage"],
            b["profile"],
            short(b["digest"]),
            b["archive_bytes"],
        )
        for r in found
        for b in r["bundles"]
    ]
    table(("counter", "name", "version", "stage", "profile", "bundle", "bytes"), rows)


@click.group()
def telemetry() -> None:
    """What the devices report."""


@telemetry.command("tail")
@remote
@click.option("--device", help="Of one device only.")
@click.option("--follow/--no-follow", "-f/-F", default=True, help="Go on with new ones; the default.")
@click.option("--new", "since_now", is_flag=True, help="Leave the stored ones out.")
@as_json
def telemetry_tail(
    home_path: Path | None,
    url: str | None,
    token: str | None,
    device: str | None,
    follow: bool,
    since_now: bool,
    as_json: bool,
) -> None:
    """Print verified envelopes, one a line: stored ones first, then new ones; each device's in order."""
    lines = connect(home_path, url, token).lines(
        f"{API}/telemetry", device=device, follow=follow, since_now=since_now
    )
    for row in in_order(map(json.loads, lines), from_the_start=not since_now):
        click.echo(json.dumps(row, separators=(",", ":")) if as_json else _envelope(row))
        sys.stdout.flush()


@click.group()
def broker() -> None:
    """The broker that devices connect to."""


@broker.command("show")
@remote
@as_json
def broker_show(home_path: Path | None, url: str | None, token: str | None, as_json: bool) -> None:
    """Show which broker it is and whether the server hears it."""
    found = connect(home_path, url, token).get(f"{API}/broker")
    if as_json:
        click.echo(json.dumps(found))
    else:
        state = "up" if found["connected"] else "down"
        click.echo(f"{found['name']} ({found['kind']}) at {found['address']}: {state}")


@broker.command("accounts")
@remote
def broker_accounts(home_path: Path | None, url: str | None, token: str | None) -> None:
    """Print accounts, passwords and rights as JSON: for a broker that somebody else runs."""
    click.echo(json.dumps(connect(home_path, url, token).get(f"{API}/broker/accounts"), indent=2))


@broker.command("outage")
@click.option("--seconds", type=Finite(0, 300), default=10.0, show_default=True)
@remote
def broker_outage(seconds: float, home_path: Path | None, url: str | None, token: str | None) -> None:
    """Rehearse: kill the managed broker and keep it down for a while."""
    connect(home_path, url, token).post(f"{API}/broker/outage", {"seconds": seconds})
    click.echo(f"the broker is down for {seconds:g} s")


def _envelope(row: Mapping[str, Any]) -> str:
    parts = []
    for record in row["records"]:
        if record["kind"] == "window":
            parts.append(f"window {short(record['bundle'])} {record['inferences']} inferences")
        elif record["kind"] == "event":
            parts.append(f"event {record['name']} {record['code']}".rstrip())
        else:
            parts.append(f"lost {record['first_seq']}-{record['last_seq']}")
    return f"{row['device']} {row['seq']}: {'; '.join(parts)}"
