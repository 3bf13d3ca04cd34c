"""`edge-convert arm-userland` and `verify-arm`: an emulated ARM CPU on this host, and bundles on it."""

from __future__ import annotations

from pathlib import Path

import click

from edge_convert.options import PATH, json_option, print_json
from edge_convert.terminal import progress, table


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
    from edge_convert.device import arm

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


@click.command("verify-arm")
@click.argument("bundle", type=PATH)
@click.option("--userland", type=PATH, help="Folder of arm-userland; $EDGEFLEET_ARM or the cache otherwise.")
@json_option
def verify_arm(bundle: Path, userland: Path | None, as_json: bool) -> int:
    """Run BUNDLE's golden inputs on an emulated Cortex-A76 and A72, and count instructions.

    The answers must be those of this host: at most one code apart, every class the same. The count is
    of instructions per inference, one thread: no time, but the same on every host.

    \b
    Example:
      edge-convert verify-arm out/digits-1-raspberry-pi-5.bundle
    """
    from edge_contracts.bundle import open_bundle
    from edge_convert.device import arm, arm_check

    found = arm.find(userland)
    with progress("running on emulated CPUs") as step:
        step(f"running {bundle.name} on {' and '.join(arm.CPUS)}")
        opened = open_bundle(bundle)
        checks = arm_check.of_files(opened.manifest, opened.contents, found)
    if as_json:
        print_json([one.fields() for one in checks])
    else:
        rows = [
            (
                one.artifact,
                one.cpu,
                str(one.samples),
                "-" if one.worst_lsb is None else str(one.worst_lsb),
                "-" if one.same_class is None else f"{one.same_class:.1%}",
                "-" if one.instructions is None else str(one.instructions),
                "as here" if one.passed else one.reason,
            )
            for one in checks
        ]
        head = ("artifact", "cpu", "inputs", "codes apart", "same class", "instructions", "answers")
        click.echo(table(head, rows))
    return 0 if all(one.passed for one in checks) else 1
