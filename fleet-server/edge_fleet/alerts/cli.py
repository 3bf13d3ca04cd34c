"""`edge-fleet alert`: what the server finds wrong, why, and what is done about it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click

from edge_contracts.digest import short
from edge_fleet.errors import RequestInvalid
from edge_fleet.finite import Finite
from edge_fleet.remote import API, as_json, connect, remote
from edge_fleet.rendering import ago, table

_DURATION = re.compile(r"^(\d+(?:\.\d+)?)\s*(s|min|h|d)$")
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}


@click.group()
def alert() -> None:
    """What the server finds wrong by itself: drift, silence, errors, forgeries ..."""


@alert.command("list")
@click.option("--all", "resolved", is_flag=True, help="Those that are over, too.")
@remote
@as_json
def alert_list(
    resolved: bool, home_path: Path | None, url: str | None, token: str | None, as_json: bool
) -> None:
    """List alerts, what needs attention first."""
    found = connect(home_path, url, token).get(f"{API}/alerts", resolved=resolved)
    if as_json:
        click.echo(json.dumps(found))
        return
    rows = [
        (a["id"], a["level"], a["phase"], a["rule"], _subject(a["subject"]), ago(a["since_ms"]), a["why"])
        for a in found
    ]
    table(("id", "level", "phase", "rule", "subject", "since", "why"), rows)


@alert.command("show")
@click.argument("number", type=int)
@remote
@as_json
def alert_show(
    number: int, home_path: Path | None, url: str | None, token: str | None, as_json: bool
) -> None:
    """Show one: why, its evidence and history, and the messages that prove it."""
    found = connect(home_path, url, token).get(f"{API}/alerts/{number}")
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(f"{found['rule']} {found['subject']}: {found['phase']} ({found['level']}), {found['said']}")
    click.echo(f"  why       {found['why']}")
    click.echo(f"  value     {found['value']:g} {found['unit']}")
    for name, value in found["evidence"].items():
        click.echo(f"  {name:9} {value if isinstance(value, str) else json.dumps(value)}")
    for one in found["proof"]:
        click.echo(f"  proof     {one['what']}, {len(one['envelope']) // 2} bytes (--json shows them)")
    for step in found["history"]:
        click.echo(f"  {ago(step['at_ms']):9} {step['event']} by {step['actor']}: {step['why']}")


@alert.command("ack")
@click.argument("number", type=int)
@click.option("--why", default="", help="What is being done about it.")
@remote
def alert_ack(number: int, why: str, home_path: Path | None, url: str | None, token: str | None) -> None:
    """Say that somebody looks after it."""
    found = connect(home_path, url, token).post(f"{API}/alerts/{number}/ack", {"why": why})
    click.echo(f"alert {number}: {found['phase']}")


@alert.command("silence")
@click.argument("number", type=int)
@click.option("--for", "duration", required=True, metavar="DURATION", help="Such as 30min, 4h, 2d.")
@click.option("--why", default="", help="Kept with the alert.")
@remote
def alert_silence(
    number: int, duration: str, why: str, home_path: Path | None, url: str | None, token: str | None
) -> None:
    """Tell nobody for a while; it fires again if it is still bad then."""
    body = {"seconds": seconds_of(duration), "why": why}
    found = connect(home_path, url, token).post(f"{API}/alerts/{number}/silence", body)
    click.echo(f"alert {number}: {found['phase']} for {duration}")


@alert.command("rules")
@remote
@as_json
def alert_rules(home_path: Path | None, url: str | None, token: str | None, as_json: bool) -> None:
    """List what is looked for."""
    found = connect(home_path, url, token).get(f"{API}/alert-rules")
    if as_json:
        click.echo(json.dumps(found))
        return
    rows = [
        (
            r["name"],
            r["level"] if r["enabled"] else "off",
            f"{r['raise_at']:g}",
            f"{r['clear_at']:g}",
            f"{r['pending_s']:g} s",
            f"{r['calm_s']:g} s",
            r["unit"],
            r["said"],
        )
        for r in found
    ]
    table(("rule", "level", "raise at", "clear at", "held for", "calm for", "of", ""), rows)


@alert.command("rule")
@click.argument("name")
@click.option("--raise-at", type=Finite(min=0))
@click.option("--clear-at", type=Finite(min=0))
@click.option(
    "--pending", "pending_s", type=Finite(min=0), metavar="SECONDS", help="Bad for so long: it fires."
)
@click.option("--calm", "calm_s", type=Finite(min=0), metavar="SECONDS", help="Good for so long: resolved.")
@click.option("--level", type=click.Choice(["warning", "critical"]))
@click.option("--on/--off", "enabled", default=None)
@remote
def alert_rule(
    name: str,
    raise_at: float | None,
    clear_at: float | None,
    pending_s: float | None,
    calm_s: float | None,
    level: str | None,
    enabled: bool | None,
    home_path: Path | None,
    url: str | None,
    token: str | None,
) -> None:
    """Change a rule; without options it is set back to what it comes with."""
    stated: dict[str, Any] = {
        "raise_at": raise_at,
        "clear_at": clear_at,
        "pending_s": pending_s,
        "calm_s": calm_s,
        "level": level,
        "enabled": enabled,
    }
    body = {key: value for key, value in stated.items() if value is not None}
    rule = connect(home_path, url, token).post(f"{API}/alert-rules/{name}", body)
    state = "on" if rule["enabled"] else "off"
    click.echo(
        f"{name}: {state}, raises at {rule['raise_at']:g}, clears at {rule['clear_at']:g} {rule['unit']}"
    )


def seconds_of(text: str) -> int:
    """A duration such as 30min, 4h or 2d.

    Raises:
        RequestInvalid: It is not one.
    """
    match = _DURATION.match(text.strip())
    seconds = round(float(match[1]) * _SECONDS[match[2]]) if match else 0
    if not seconds:
        raise RequestInvalid(f"{text!r:.40} is not a duration; write 90s, 30min, 4h or 2d")
    return seconds


def _subject(subject: str) -> str:
    return short(subject) if subject.startswith("sha256:") else subject
