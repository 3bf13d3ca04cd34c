"""Commands backup and restore, for the machine that the server runs on."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

import click

from edge_fleet.errors import BackupInvalid
from edge_fleet.home import Home, default_home, load_home
from edge_fleet.remote import home_option

_passphrase = click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path),
    help="Its first line seals the backup, or opens it; $EDGE_FLEET_BACKUP_PASSPHRASE serves too.",
)
_environment = click.option("--passphrase", envvar="EDGE_FLEET_BACKUP_PASSPHRASE", hidden=True)


@click.command()
@home_option
@click.argument("target", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--database", metavar="URL", help="Another one than the home's; sqlite: its file.")
@_passphrase
@_environment
def backup(
    home_path: Path | None,
    target: Path,
    database: str | None,
    passphrase_file: Path | None,
    passphrase: str | None,
) -> None:
    """Write a home, its database as of one moment, and all published bundles to FILE; the server may run.

    The file holds the fleet's keys: keep it as you keep those, or seal it with a passphrase.
    """
    from edge_fleet.storage.backup import back_up

    home = Home(home_path or default_home())
    config = load_home(home)
    url = home.database_url(config, database)
    secret = _secret(passphrase_file, passphrase)
    manifest = back_up(home, url, config.fleet, target, time.time_ns() // 1_000_000, secret)
    rows = sum(table.rows for table in manifest.tables.values())
    size = target.stat().st_size
    click.echo(
        f"{target}: {rows} rows, {len(manifest.members)} files, {size} bytes, schema {manifest.revision}"
    )
    if secret is None:
        click.echo("it holds the fleet's keys in the clear; --passphrase-file seals it")


@click.command()
@click.argument("source", metavar="FILE", type=click.Path(path_type=Path))
@click.argument("home_path", metavar="HOME", type=click.Path(path_type=Path))
@click.option(
    "--database",
    metavar="URL",
    help="Where the rows go: an empty one, or sqlite: a file in HOME. Else as before.",
)
@_passphrase
@_environment
def restore(
    source: Path, home_path: Path, database: str | None, passphrase_file: Path | None, passphrase: str | None
) -> None:
    """Make HOME, a new folder, from a backup; nothing is left when the backup is not whole.

    The old server must not run any more: two of one fleet would give devices two truths.
    """
    from edge_fleet.storage.restore import restore as run

    secret = _secret(passphrase_file, passphrase)
    manifest = run(source, Home(home_path), int(time.time() * 1000), database or "", secret)
    rows = sum(table.rows for table in manifest.tables.values())
    click.echo(
        f"made {home_path}: fleet {manifest.fleet}, {rows} rows; serve it with "
        f"edge-fleet serve --home {shlex.quote(str(home_path))}"
    )


def _secret(path: Path | None, passphrase: str | None) -> str | None:
    if path is None:
        return passphrase or None
    try:
        line = path.read_text().partition("\n")[0]
    except (OSError, UnicodeDecodeError) as error:
        raise BackupInvalid(f"cannot read the passphrase in {path}: {error}") from None
    if not line:
        raise BackupInvalid(f"the first line of {path} is empty; it should be the passphrase")
    return line
