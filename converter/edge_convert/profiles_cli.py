"""`edge-convert profiles`: what the classes of device can run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge_contracts.errors import ProfileInvalid
from edge_convert.options import PATH, json_option, print_json
from edge_convert.terminal import progress, table


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
      edge-convert profiles new my-board --probe
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


@profiles.command()
@click.argument("name")
@click.option("--output", type=PATH, help="File to write; NAME.toml when not given. Never overwritten.")
@click.option("--like", default="arm-cpu", show_default=True, help="Profile to begin with, without --probe.")
@click.option("--probe", is_flag=True, help="Find out about this machine and measure it, about two seconds.")
@json_option
def new(name: str, output: Path | None, like: str, probe: bool, as_json: bool) -> None:
    """Write a commented profile NAME for a class of device; every field is explained in the file.

    With --probe it describes this machine: processor, memory, accelerators that can be seen, runtimes that
    are installed, and the multiply-accumulates per second that a small network reaches in LiteRT.

    \b
    Examples:
      edge-convert profiles new my-board --like raspberry-pi-5
      edge-convert profiles new this-gateway --probe --output profiles/this-gateway.toml
    """
    from edge_convert.device import profile_new, profile_text

    path = output or Path(f"{name}.toml")
    machine = None
    if probe:
        from edge_convert.device import probe as probing
        from edge_convert.device.probe_rate import rates

        machine = probing.machine()
        with progress("measuring") as step:
            step("timing a small network in LiteRT")
            made = profile_new.of_machine(name, machine, rates())
    else:
        made = profile_new.like(name, like)
    text = profile_text.to_toml(made, profile_new.head_of(machine))
    try:
        with path.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise ProfileInvalid(f"{path} is there already; profiles are not overwritten") from None
    if as_json:
        print_json({"file": str(path), "profile": made.model_dump(mode="json")})
        return
    click.echo(f"{path}: use it with --profile {_as_argument(path)}")


def _as_argument(path: Path) -> str:
    """A name that ends in .toml is read as a file."""
    return str(path) if path.suffix == ".toml" else f"{path} (rename it to end in .toml)"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "-" if value in (None, "") else str(value)
