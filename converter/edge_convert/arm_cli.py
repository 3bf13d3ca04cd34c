"""`edge-convert arm-userland`: an emulated ARM CPU on this host."""

from __future__ import annotations

from pathlib import Path

import click

from edge_convert.options import PATH, json_option, print_json
from edge_convert.terminal import progress


@click.command("arm-userland")
@click.option("--output", type=PATH, help="Folder to make it in; the user's cache when not given.")
@json_option
def arm_userland(output: Path | None, as_json: bool) -> None:
    """Make an aarch64 Python in emulation: qemu, LiteRT, and a counter of instructions.

    Needs an x86-64 Debian or Ubuntu and its package mirror; nothing is installed, no root is needed.
    About 20 seconds, 80 MB to download, 250 MB on the disk. Remove the folder to be rid of it.

    \b
    Examples:
      edge-convert arm-userland
      edge-convert arm-userland --output .arm && export EDGEFLEET_ARM=$PWD/.arm
    """
    from edge_convert import arm

    folder = output or arm.default_folder()
    with progress("making an aarch64 userland") as step:
        step(f"making an aarch64 userland in {folder}")
        said = arm.make(folder)
    userland = arm.find(folder)
    if as_json:
        print_json({"folder": str(userland.folder), "counts_instructions": userland.counts})
        return
    click.echo("\n".join(line for line in said.splitlines() if not line.startswith("WARNING")))
    click.echo(f"userland: {userland.folder}")
