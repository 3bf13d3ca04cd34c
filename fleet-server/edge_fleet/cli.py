"""The command `edge-fleet`: init and serve, the groups of other modules, errors as exit codes.

0 done, 1 refused, 2 wrong usage or a missing extra. What needs the `[server]` extra is imported when
a command runs, so that a missing one is a line and not a traceback.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import click

from edge_contracts.errors import ContractError
from edge_fleet.access.audit_cli import audit
from edge_fleet.access.user_cli import user
from edge_fleet.backup_cli import backup, restore
from edge_fleet.config import DEFAULT_HTTP, DEFAULT_MQTT, ServerConfig
from edge_fleet.database_cli import database
from edge_fleet.errors import FleetError
from edge_fleet.fleet_cli import devices, refusals, token, trust
from edge_fleet.home import Home, default_home, load_home
from edge_fleet.model import parse_object
from edge_fleet.release_cli import broker, release, telemetry
from edge_fleet.remote import home_option
from edge_fleet.rollouts.cli import rollout
from edge_fleet.rollouts.plan_cli import plan, schema
from edge_fleet.rollouts.rehearse_cli import rehearse
from edge_fleet.rollouts.wait_cli import wait

DISK_REFUSES = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM})


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="edgefleet")
def cli() -> None:
    """The fleet server: enrols devices, publishes releases, rolls them out, watches them."""


def _settings(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--fleet", help="Name of the fleet, a level of every topic; kept for life."),
        click.option("--http", metavar="HOST:PORT", help=f"API and console; {DEFAULT_HTTP}."),
        click.option("--mqtt", metavar="HOST:PORT", help=f"Device port of a managed broker; {DEFAULT_MQTT}."),
        click.option("--mqtt-public", metavar="HOST:PORT", help="Where devices find it; --mqtt or the URL."),
        click.option("--broker", metavar="nats|mosquitto|URL", help="Default: nats."),
        click.option(
            "--broker-files",
            type=click.Path(),
            help="Folder where a mosquitto by URL reads accounts and certificates.",
        ),
        click.option("--database", metavar="URL", help="Default: sqlite, a file in the home."),
        click.option(
            "--verified", type=click.Choice(["on", "off"]), help="Publish verified telemetry as JSON; on."
        ),
        click.option("--keep-raw", metavar="AGE", help="Delete windows and envelopes after 36h, 30d, 8w."),
        click.option("--tls-cert", type=click.Path(), help="PEM certificate of the device port."),
        click.option("--tls-key", type=click.Path(), help="PEM key of the device port."),
        click.option("--tls-ca", type=click.Path(), help="PEM that devices check it with; the certificate."),
        click.option(
            "--client-certificates/--no-client-certificates",
            default=None,
            help="Devices need a certificate of our own authority.",
        ),
        click.option(
            "--oidc", metavar="FILE", help="How people log in at an identity provider (docs/access.md)."
        ),
        click.option(
            "--tls-host",
            "tls_hosts",
            multiple=True,
            callback=lambda _context, _option, value: value or None,
            help="A name of the device port, for the certificate that we make for it.",
        ),
        click.option(
            "--https/--no-https", default=None, help="The API speaks TLS, certified by our own authority."
        ),
        click.option("--http-cert", type=click.Path(), help="PEM certificate of the API: it speaks HTTPS."),
        click.option("--http-key", type=click.Path(), help="PEM key of the API."),
    ):
        command = option(command)
    return command


@cli.command()
@home_option
@_settings
def init(home_path: Path | None, **settings: str | None) -> None:
    """Make a server's home: keys, settings, database, and an admin token."""
    from edge_fleet.serve import initialise

    home = Home(home_path or default_home())
    initialise(home, _config(ServerConfig(), settings))
    click.echo(f"made {home.root}\nadmin token in {home.admin_token}")


@cli.command()
@home_option
@_settings
def serve(home_path: Path | None, **settings: str | None) -> None:
    """Run the server; a fresh home is made first. Options here hold for this run only."""
    from edge_fleet.log_lines import log_to_stderr
    from edge_fleet.serve import devices_at, initialise, warnings
    from edge_fleet.serve import serve as run

    home = Home(home_path or default_home())
    if not home.exists:
        initialise(home, _config(ServerConfig(), settings))
        click.echo(f"made {home.root}")
    stored = load_home(home)
    if settings["fleet"] not in (None, stored.fleet):
        raise click.UsageError(f"this home is of the fleet {stored.fleet!r}; devices keep that name for life")
    config = _config(stored, settings)
    for warning in warnings(config):
        click.echo(f"warning: {warning}", err=True)

    def ready(url: str) -> None:
        click.echo(f"edge-fleet serves {url}")
        click.echo(f"  devices      {devices_at(config)}")
        click.echo(f"  home         {home.root}")
        click.echo(f"  admin token  {home.admin_token}")
        sys.stdout.flush()

    log_to_stderr()
    run(home, config, ready)


def main() -> None:
    """The console script."""
    try:
        _add_groups()
        cli.main(prog_name="edge-fleet", standalone_mode=False)
    except click.UsageError as error:
        if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):  # from click 8.2 on
            error.show()
            sys.exit(2)
        where = error.ctx.command_path if error.ctx is not None else "edge-fleet"
        _die(2, f"{' '.join(error.format_message().split())} (see {where} --help)")
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except (FleetError, ContractError) as error:
        _die(1, str(error))
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("edge_"):
            raise
        extra = {"joserfc": "server,oidc"}.get((error.name or "").partition(".")[0], "server")
        _die(2, f"edge-fleet needs {error.name}; install it with: pip install 'edgefleet[{extra}]'")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `| head` is no error
    except OSError as error:
        if error.errno not in DISK_REFUSES:
            raise  # a fault of ours
        _die(1, f"{error.filename or 'the disk'}: {error.strerror}")


def _add_groups() -> None:
    """Commands that live in modules of their own."""
    import_module("edge_fleet.lineage.cli")  # adds to the group `release`
    import_module("edge_fleet.access.key_cli")  # adds to the group `trust`
    import_module("edge_fleet.access.two_people_cli")  # adds to the group `rollout`
    for command in (plan, schema, rehearse, wait):
        rollout.add_command(command)
    for group in (
        token,
        devices,
        refusals,
        trust,
        release,
        rollout,
        telemetry,
        broker,
        database,
        audit,
        user,
        backup,
        restore,
    ):
        cli.add_command(group)
    cli.add_command(import_module("edge_fleet.access.director_cli").key)
    cli.add_command(import_module("edge_fleet.alerts.cli").alert)
    cli.add_command(import_module("edge_fleet.datasets.cli").dataset)
    cli.add_command(import_module("edge_fleet.simulation.simulate_cli").simulate)
    cli.add_command(import_module("edge_fleet.webhooks.cli").webhook)
    cli.add_command(import_module("edge_fleet.health_cli").health)
    if find_spec("edge_fleet.demo") is not None:
        cli.add_command(import_module("edge_fleet.demo").demo)


def _die(code: int, message: str) -> NoReturn:
    click.echo(f"edge-fleet: {message}", err=True)
    sys.exit(code)


def _config(base: ServerConfig, settings: Mapping[str, str | None]) -> ServerConfig:
    """Settings with those of the command line put over them."""
    given = {name: value for name, value in settings.items() if value is not None}
    return parse_object(ServerConfig, base.model_dump() | given, "options")
