"""Commands about the database itself, for the machine that it is served from: database upgrade, status."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from edge_fleet.home import Home, default_home, load_home, locked
from edge_fleet.remote import home_option

_database = click.option("--database", metavar="URL", help="Another one than the home's; sqlite: its file.")


@click.group()
def database() -> None:
    """The server's database: its schema. `serve` upgrades it by itself."""


@database.command()
@home_option
@_database
def upgrade(home_path: Path | None, database: str | None) -> None:
    """Bring the database to this release's schema, all of it or nothing; the server must not run."""
    from edge_fleet.migrations.upgrade import upgrade as run
    from edge_fleet.store import opened

    home, url = _where(home_path, database)
    with locked(home), opened(url) as engine:
        found, newest = run(engine)
    if found == newest:
        click.echo(f"the database has revision {newest} already; nothing was changed")
    else:
        click.echo(f"the database has revision {newest} now; before: {found or 'empty'}")


@database.command()
@home_option
@_database
def status(home_path: Path | None, database: str | None) -> None:
    """Say which schema the database has, and which this release wants; changes nothing."""
    from edge_fleet.migrations.upgrade import found_revision, heads
    from edge_fleet.store import opened

    _, url = _where(home_path, database)
    with opened(url) as engine, closing(engine.connect()) as connection:
        found = found_revision(connection)
        click.echo(f"database      {engine.url.render_as_string()}")
    click.echo(f"revision      {found or 'none: it is empty'}")
    click.echo(f"this release  {heads()[0]}")


def _where(home_path: Path | None, database: str | None) -> tuple[Home, str]:
    home = Home(home_path or default_home())
    config = load_home(home)
    return home, home.database_url(config, database)
