"""`edge-convert profiles`: what the classes of device can run."""

from __future__ import annotations

from typing import Any

import click

from edge_convert.options import json_option, print_json
from edge_convert.terminal import table


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def profiles(context: click.Context, as_json: bool) -> None:
    """List the device profiles, or show one: what a class of device can run.

    \b
    Examples:
      edge-convert profiles
      edge-convert profiles show coral-usb
      edge-convert profiles show ./my-board.toml
    """
    if context.invoked_subcommand is not None:
        return
    from edge_contracts.profile import builtin_names, load_profile

    loaded = [load_profile(name) for name in builtin_names()]
    if as_json:
        print_json([profile.model_dump(mode="json") for profile in loaded])
        return
    rows = [
        (p.name, p.title, p.target, ", ".join(p.precisions), p.accelerator.kind if p.accelerator else "-")
        for p in loaded
    ]
    click.echo(table(("name", "device", "target", "precisions", "accelerator"), rows))


@profiles.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show one profile by NAME, or from a file that ends in .toml, with what it inherits filled in."""
    from edge_contracts.profile import lineage, load_profile

    profile = load_profile(name)
    document = profile.model_dump(mode="json")
    if as_json:
        print_json(document)
        return
    rows = [(key, _plain(value)) for key, value in document.items() if key not in ("format", "extends")]
    rows.insert(2, ("extends", " -> ".join(lineage(name)[1:]) or "-"))
    click.echo(table(("key", "value"), rows))


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "-" if value in (None, "") else str(value)
