"""Commands of the two-person rule: rollout approve, rollout reject, rollout two-person."""

from __future__ import annotations

from pathlib import Path

import click

from edge_fleet.remote import API, connect, remote
from edge_fleet.rollouts.cli import rollout


@rollout.command("approve")
@click.argument("rollout_id", metavar="ROLLOUT")
@click.option("--why", default="", help="Kept with the rollout and in the audit log.")
@remote
def approve(rollout_id: str, why: str, home_path: Path | None, url: str | None, token: str | None) -> None:
    """Approve a draft that somebody else made."""
    found = connect(home_path, url, token).post(f"{API}/rollouts/{rollout_id}/approve", {"why": why})
    for approval in found["approvals"]:
        click.echo(f"{rollout_id}: approved by {approval['actor']} {approval['why']}".rstrip())


@rollout.command("reject")
@click.argument("rollout_id", metavar="ROLLOUT")
@click.option("--why", default="", help="Kept with the rollout and in the audit log.")
@remote
def reject(rollout_id: str, why: str, home_path: Path | None, url: str | None, token: str | None) -> None:
    """Say no to a draft that somebody else made; it is over."""
    connect(home_path, url, token).post(f"{API}/rollouts/{rollout_id}/reject", {"why": why})
    click.echo(f"{rollout_id}: rejected")


@rollout.command("two-person")
@click.argument("above", metavar="[PERCENT|off]", required=False)
@remote
def two_person(above: str | None, home_path: Path | None, url: str | None, token: str | None) -> None:
    """Show or set above which share of the fleet a rollout needs the approval of a second person."""
    client = connect(home_path, url, token)
    path = f"{API}/rollout-policy"
    found = client.get(path) if above is None else client.post(path, {"two_above_percent": _percent(above)})
    percent = found["two_above_percent"]
    click.echo("off" if percent is None else f"above {percent:g} % of the fleet")


def _percent(text: str) -> float | None:
    if text == "off":
        return None
    try:
        return float(text.removesuffix("%"))
    except ValueError:
        raise click.UsageError(f"{text!r} is neither a share such as 50 nor off") from None
