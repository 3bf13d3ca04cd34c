"""Commands about people: user add, list, set, their sessions, and logging in."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from edge_fleet.remote import API, as_json, connect, home_option, remote
from edge_fleet.rendering import ago, table

_role = click.Choice(["viewer", "operator", "publisher", "approver", "admin"])


@click.group()
def user() -> None:
    """People who log in by name and password. Programs have tokens: edge-fleet token."""


@user.command("add")
@click.argument("name")
@click.option("--role", type=_role, default="viewer", show_default=True)
@remote
def user_add(name: str, role: str, home_path: Path | None, url: str | None, token: str | None) -> None:
    """Add a user; the password is asked for, or read from standard input."""
    client = connect(home_path, url, token)
    client.post(f"{API}/users", {"name": name, "role": role, "password": _new_password()})
    click.echo(f"added {name}, {role}")


@user.command("list")
@remote
@as_json
def user_list(home_path: Path | None, url: str | None, token: str | None, as_json: bool) -> None:
    """List the users."""
    found = connect(home_path, url, token).get(f"{API}/users")
    if as_json:
        click.echo(json.dumps(found))
        return
    rows = [
        (u["name"], u["role"], "disabled" if u["disabled_ms"] else "enabled", ago(u["created_ms"]))
        for u in found
    ]
    table(("name", "role", "state", "added"), rows)


@user.command("set")
@click.argument("name")
@click.option("--role", type=_role)
@click.option("--password", "new_password", is_flag=True, help="Ask for a new one; ends every session.")
@click.option("--disable/--enable", "disabled", default=None, help="Whether the user may come in.")
@click.option("--subject", help="Who it is at the identity provider; empty for nobody there.")
@remote
def user_set(
    name: str,
    role: str | None,
    new_password: bool,
    disabled: bool | None,
    subject: str | None,
    home_path: Path | None,
    url: str | None,
    token: str | None,
) -> None:
    """Change a user's role or password, disable or enable."""
    body: dict[str, Any] = {"role": role, "disabled": disabled, "subject": subject}
    if new_password:
        body["password"] = _new_password()
    answer = connect(home_path, url, token).post(f"{API}/users/{name}", body)
    click.echo(f"{answer['name']}: {answer['role']}, {'disabled' if answer['disabled'] else 'enabled'}")


@user.command("sessions")
@remote
@as_json
def user_sessions(home_path: Path | None, url: str | None, token: str | None, as_json: bool) -> None:
    """Who is logged in: for an admin everybody, else oneself."""
    found = connect(home_path, url, token).get(f"{API}/sessions")
    if as_json:
        click.echo(json.dumps(found))
        return
    rows = [
        (
            one["id"] + (" *" if one["mine"] else ""),
            one["name"],
            one["role"],
            one["client"] or "-",
            ago(one["opened_ms"]),
            ago(one["last_used_ms"]),
        )
        for one in found
    ]
    table(("session", "who", "role", "from", "opened", "used"), rows)


@user.command("end")
@click.argument("sessions", nargs=-1, metavar="[SESSION]...")
@click.option("--all-of", "name", metavar="NAME", help="Every session of this user.")
@remote
def user_end(
    sessions: Sequence[str], name: str | None, home_path: Path | None, url: str | None, token: str | None
) -> None:
    """End sessions; what they have open ends within seconds. Tokens stay: edge-fleet token revoke."""
    if not sessions and name is None:
        raise click.UsageError("which one? give a SESSION of edge-fleet user sessions, or --all-of NAME")
    client = connect(home_path, url, token)
    for session in sessions:
        client.post(f"{API}/sessions/{session}/end")
        click.echo(f"ended {session}")
    if name is not None:
        click.echo(f"ended {client.post(f'{API}/users/{name}/logout')['ended']} of {name}")


@user.command("login")
@click.argument("name")
@click.option("--server", "url", metavar="URL", help="Another server than the local one.")
@home_option
def user_login(name: str, url: str | None, home_path: Path | None) -> None:
    """Print a token for a working day; use it as $EDGE_FLEET_TOKEN."""
    client = connect(home_path, url, "")
    answer = client.post(f"{API}/login", {"name": name, "password": _password("Password")})
    click.echo(answer["token"])


def _new_password() -> str:
    return _password("New password", confirm=True)


def _password(prompt: str, confirm: bool = False) -> str:
    if sys.stdin.isatty():
        return str(click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True))
    return sys.stdin.readline().rstrip("\r\n")
