"""Commands about the audit log: audit list, export, verify, accept."""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_contracts.keys import PublicKey, read_public
from edge_fleet.errors import AuditBroken, NotFound
from edge_fleet.home import Home, default_home, load_home
from edge_fleet.keys import read_keys
from edge_fleet.remote import API, as_json, connect, home_option, remote
from edge_fleet.rendering import ago, table

if TYPE_CHECKING:
    from edge_fleet.access.audit_check import Checked


@click.group()
def audit() -> None:
    """Who did what: a log in which nothing can be changed, left out or added later without being seen."""


@audit.command("list")
@remote
@click.option("--most", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.option("--actor", default="", help="A part of who did it.")
@click.option("--action", default="", help="A part of what was done.")
@click.option("--text", default="", help="A part of the subject or of the detail.")
@as_json
def audit_list(
    home_path: Path | None,
    url: str | None,
    token: str | None,
    most: int,
    actor: str,
    action: str,
    text: str,
    as_json: bool,
) -> None:
    """Show the newest rows."""
    client = connect(home_path, url, token)
    found = client.get(f"{API}/audit", most=most, actor=actor, action=action, text=text)
    if as_json:
        click.echo(json.dumps(found))
        return
    rows = [
        (row["id"], ago(row["at_ms"]), row["actor"], row["action"], row["subject"], json.dumps(row["detail"]))
        for row in found
    ]
    table(("row", "when", "who", "did", "to", "detail"), rows)


@audit.command("export")
@remote
@click.option("--format", "form", type=click.Choice(["jsonl", "csv"]), default="jsonl", show_default=True)
def audit_export(home_path: Path | None, url: str | None, token: str | None, form: str) -> None:
    """Write all of it to standard output, with the head that the server signed as the last line."""
    for piece in connect(home_path, url, token).pieces(f"{API}/audit/export", format=form):
        sys.stdout.buffer.write(piece)


@audit.command("verify")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--key", "key_path", type=click.Path(path_type=Path), help="PEM of the director's public key.")
@click.option("--database", metavar="URL", help="Another one than the home's; sqlite: its file.")
@home_option
def audit_verify(
    file: Path | None, key_path: Path | None, database: str | None, home_path: Path | None
) -> None:
    """Check the database's log, or an exported FILE without a server; 1 when it is not as it was written."""
    home = Home(home_path or default_home())
    keys = _keys(home, key_path)
    found = _of_file(file, keys) if file else _of_database(home, database, keys)
    click.echo(f"{found.rows} rows, each as it was written; the last is {found.hash[:16]}")
    if found.head is None and file:  # whoever cut rows off would leave out the head, too
        raise AuditBroken(f"{file} has no signed head, which every export ends with: its end was cut off")
    if found.head is None:
        click.echo("no signed head: rows may have been cut off at the end")
    elif not keys:
        click.echo(
            f"head of row {found.head.row}: signature NOT checked; give --key (id {found.head.key_id})"
        )
    else:
        head = found.head
        click.echo(f"nothing is missing up to row {head.row}, signed by {head.key_id} {ago(head.at_ms)}")


@audit.command("accept")
@click.option("--why", required=True, help="Kept in the log, with the head of what was lost.")
@home_option
def audit_accept(why: str, home_path: Path | None) -> None:
    """Go on after rows were lost, as when an older backup was restored; the loss itself is written down."""
    from edge_fleet.access.audit_head import accept
    from edge_fleet.store import open_store

    home = Home(home_path or default_home())
    config = load_home(home)
    key = read_keys(home.keys).director
    with closing(open_store(home.database_url(config))) as store, store.write() as connection:
        head = accept(connection, key, home.audit_head, "local", why, time.time_ns() // 1_000_000)
    click.echo(f"accepted; row {head.row} says what was lost")


def _keys(home: Home, stated: Path | None) -> list[PublicKey]:
    """Who may have signed the head: the one that is stated, or the directors of this machine's server."""
    if stated:
        return [read_public(stated)]
    return [key.public for key in read_keys(home.keys).directors.values()] if home.exists else []


def _of_file(file: Path, keys: list[PublicKey]) -> Checked:
    from edge_fleet.access.audit_check import check_file

    try:
        with file.open(encoding="utf-8", newline="") as stream:
            return check_file(stream, *keys)
    except OSError as error:
        raise NotFound(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise NotFound(f"{file} is not text in UTF-8") from None


def _of_database(home: Home, database: str | None, keys: list[PublicKey]) -> Checked:
    from edge_fleet.access.audit_check import check
    from edge_fleet.access.audit_head import read_head
    from edge_fleet.audit import entries
    from edge_fleet.store import Store, opened

    url = home.database_url(load_home(home), database)
    head = read_head(home.audit_head)  # before the rows: they have come at least as far
    with opened(url) as engine, Store(engine).read() as connection:
        return check(entries(connection), head, *keys)
