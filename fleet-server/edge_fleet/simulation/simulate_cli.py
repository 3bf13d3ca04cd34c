"""`edge-fleet simulate`: a fleet of simulated devices, honest and broken, against a running server."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from urllib.parse import urlsplit

import click

from edge_fleet.errors import FleetError
from edge_fleet.finite import Finite
from edge_fleet.home import Home, default_home, find_running
from edge_fleet.remote import as_json, connect, remote


class HonestHarmed(FleetError):
    """The server refused devices that did nothing wrong."""

    code = "honest-harmed"


class _Command(click.Command):
    """Help with the kinds as they are registered."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from edge_fleet.simulation.kinds import KINDS

        with formatter.section("Kinds (--broken KIND:COUNT)"):
            formatter.write_dl(
                [(one.name, f"{one.what}. The server: {one.answer}.") for one in KINDS.values()]
            )
        with formatter.section("Examples"):
            formatter.write_text("edge-fleet simulate --devices 50 --every 5")
            formatter.write_text("edge-fleet simulate --devices 40 --broken all:1 --for 120")
            formatter.write_text("edge-fleet simulate --devices 200 --broken drifts:50,silent:5,forged:1")


@click.command(cls=_Command)
@click.option("--devices", type=click.IntRange(1, 200_000), help="In all; those not broken are honest.  [10]")
@click.option("--broken", multiple=True, metavar="KIND:COUNT,...", help="How many are broken, and how.")
@click.option(
    "--mix",
    "mix_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="devices, every, profiles, broken and inferences as YAML or TOML; options are stronger.",
)
@click.option(
    "--every",
    type=Finite(0.05, 86_400, min_open=True),
    metavar="SECONDS",
    help="Between two windows of a device.  [10]",
)
@click.option("--profile", "profiles", multiple=True, help="Device profile; several are given out in turns.")
@click.option("--for", "for_s", type=Finite(0, min_open=True), metavar="SECONDS", help="Stop by itself.")
@click.option(
    "--hello",
    "hello_s",
    type=Finite(0.1),
    default=60.0,
    metavar="SECONDS",
    help="Between two hellos, on average.  [60]",
)
@click.option(
    "--state",
    "state",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Keys and memory of the devices.  [simulated/ in the server's home]",
)
@click.option("--processes", type=click.IntRange(0, 200), default=0, help="For the devices; one for 5,000.")
@remote
@as_json
def simulate(
    devices: int | None,
    broken: tuple[str, ...],
    mix_path: Path | None,
    every: float | None,
    profiles: tuple[str, ...],
    for_s: float | None,
    hello_s: float,
    state: Path | None,
    processes: int,
    home_path: Path | None,
    url: str | None,
    token: str | None,
    as_json: bool,
) -> None:
    """Drive a running server with simulated devices, honest ones and each kind of broken one.

    They enrol over HTTP with tokens that are made for them, connect to the server's broker, say hello, send
    signed windows, take acknowledgements and assignments, and install releases in simulated time: all that an
    agent does on the wire, and no model. Roll something out to them (each has its kind as the label
    "simulated"), watch them in the console, and see at the end, after Ctrl-C or --for, what the server made
    of each kind. The same devices go on at the next run with the same --state. Exit code 1 when devices that
    did nothing wrong were refused. Do not do this to a server in use: devices cannot be
    deleted, only revoked.
    """  # fmt: skip
    from edge_fleet.rendering import table
    from edge_fleet.simulation.memory import StateFolder
    from edge_fleet.simulation.mix import parse_broken, read_mix
    from edge_fleet.simulation.run import run
    from edge_fleet.simulation.verdicts import Verdict, lines

    mix = read_mix(
        mix_path, devices=devices, every=every, profiles=profiles or None, broken=parse_broken(broken)
    )
    mix.kinds()
    home = Home(home_path or default_home())
    client = connect(home_path, url, token)
    host = urlsplit(url or find_running(home) or "").hostname or "127.0.0.1"
    folder = StateFolder(state or home.root / "simulated")
    ran = run(client, host, folder, mix, for_s, _tell, processes, hello_s)
    if sys.stderr.isatty():
        click.echo(err=True)
    if as_json:
        click.echo(json.dumps(ran.as_dict()))
    else:
        header, *cells = lines(ran.rows)
        table(header, cells)
    if harmed := [row for row in ran.rows if row.verdict is Verdict.HARMED]:
        raise HonestHarmed(f"{harmed[0].kind} devices did nothing wrong: {harmed[0].why}")


def _tell(line: str) -> None:
    """How it goes, to stderr: a line that changes at a terminal, else one after the other."""
    if not sys.stderr.isatty():
        click.echo(line, err=True)
        return
    width = shutil.get_terminal_size().columns - 1
    click.echo("\r" + line[:width].ljust(width), nl=False, err=True)
