"""`edge-agent trust`: whose bundles this device installs, and statements that change it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from edge_agent.device.home import Home, default_home
from edge_agent.errors import HomeLocked
from edge_contracts.errors import KeyInvalid

_HOME = click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the agent [default: $EDGE_AGENT_HOME or ~/.edgefleet/agent].",
)
_FILE = click.Path(path_type=Path)


class _OrKey(click.Group):
    """`trust FILE` means `trust add FILE`, as it did before there were others."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        first = next((arg for arg in args if not arg.startswith("-")), None)
        if first is not None and first not in self.commands:
            args = ["add", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_OrKey)
def trust() -> None:
    """Whose bundles this device installs: `trust add KEY.pem` (or just `trust KEY.pem`), `trust list`.

    \b
    add KEY.pem       trust a publisher from now on; a person has the last word
    revoke KEY        trust one no longer: its file, or its id from `trust list`
    apply FILE.keys   follow a signed statement (edge-convert keys change)
    list              who is trusted, retired and revoked
    """


@trust.command()
@click.argument("public_key", type=_FILE)
@_HOME
def add(public_key: Path, home: Path | None) -> None:
    """Trust a publisher's public key on this device."""
    from edge_agent.device import config
    from edge_agent.updates import orders
    from edge_contracts.keys import read_public

    key, place = read_public(public_key), _place(home)
    try:
        with place.locked():
            config.trust(place, key)
    except HomeLocked:
        orders.give(place, "trust", keys=(key.base64,))
    click.echo(f"publisher {key.key_id} is trusted")


@trust.command()
@click.argument("key")
@_HOME
def revoke(key: str, home: Path | None) -> None:
    """Trust a publisher no longer: nothing of it is installed, tried or gone back to.

    A bundle of it that answers now gives way to the last good one; with nothing else here it goes on, and
    says so.
    """
    from edge_agent.device import config
    from edge_agent.updates import orders
    from edge_contracts.keys import read_public

    place = _place(home)
    trusted = config.trusted_publishers(place, config.read_config(place)).ever.keys
    if key in trusted:
        found = trusted[key]
    elif Path(key).exists():
        found = read_public(Path(key))
    else:
        known = ", ".join(sorted(trusted)) or "none"
        raise KeyInvalid(f"{key!r:.80} is neither a file nor the id of a publisher here (known: {known})")
    try:
        with place.locked():
            config.distrust(place, found)
    except HomeLocked:
        orders.give(place, "distrust", keys=(found.base64,))
    click.echo(f"publisher {found.key_id} is trusted no longer")


@trust.command()
@click.argument("statement", type=_FILE)
@_HOME
def apply(statement: Path, home: Path | None) -> None:
    """Follow a signed statement about keys; one that is known already does no harm."""
    from edge_agent.device import config
    from edge_agent.updates import orders

    place = _place(home)
    try:
        content = statement.read_bytes()
    except OSError as error:
        raise KeyInvalid(f"cannot read {statement}: {error.strerror}") from None
    try:
        with place.locked():
            followed = config.follow(place, config.read_config(place), content)
            click.echo("known already" if followed is None else "followed")
    except HomeLocked:
        click.echo(orders.give(place, "follow", statement=content.decode(errors="replace")))


@trust.command("list")
@_HOME
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def list_keys(home: Path | None, as_json: bool) -> None:
    """Who is trusted, retired and revoked on this device."""
    shown = listed(_place(home))
    if as_json:
        click.echo(json.dumps(shown))
        return
    for one in shown["publishers"]:
        click.echo(f"publisher {one['key_id']}  {one['standing']:<8} {one['public_key']}")
    if shown["director"]:
        click.echo(f"director  {shown['director']['key_id']}  trusted  {shown['director']['public_key']}")
    if not shown["publishers"]:
        click.echo("nobody is trusted; trust a publisher with: edge-agent trust add KEY.pem")


def listed(place: Home) -> dict[str, Any]:
    """Everybody, for a program."""
    from edge_agent.device import config

    found = config.read_config(place)
    keys = config.trusted_publishers(place, found)
    standings = (("trusted", keys.keys), ("retired", keys.retired), ("revoked", keys.revoked))
    return {
        "publishers": [
            {"key_id": name, "standing": standing, "public_key": key.base64}
            for standing, group in standings
            for name, key in sorted(group.items())
        ],
        "director": {"key_id": found.director.key_id, "public_key": found.director_key} if found else None,
    }


def _place(home: Path | None) -> Home:
    return Home(home) if home is not None else default_home()
