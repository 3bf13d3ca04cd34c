"""Making a home and a database from a backup: all of it, checked, or nothing.

Everything is unpacked beside the place where the home will be and compared with the manifest before the
database is touched; the rows go in and up to this release's schema in one transaction; the last step is one
rename. Whatever goes wrong before leaves neither a home nor a table.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import cbor2
from sqlalchemy import JSON, Connection, MetaData, func, insert, select, text

from edge_contracts.errors import ContractError
from edge_contracts.on_disk import sync_folder
from edge_fleet.config import config_bytes
from edge_fleet.errors import BackupInvalid, HomeInvalid
from edge_fleet.home import OWN_SQLITE, Home, load_home
from edge_fleet.keys import write_secret
from edge_fleet.migrations.upgrade import fill_empty
from edge_fleet.model import parse_json
from edge_fleet.numbers import leap
from edge_fleet.storage.backup import ROWS_AT_ONCE, columns_of, values_of
from edge_fleet.storage.backup_format import (
    FORMAT,
    MANIFEST,
    BackupManifest,
    is_name,
)
from edge_fleet.storage.sealed_file import MAGIC, SealedReader
from edge_fleet.store import opened

_PIECE = 1 << 20
_MANIFEST_BYTES = 64 << 20


def restore(
    source: Path, home: Home, now_ms: int, database: str = "", passphrase: str | None = None
) -> BackupManifest:
    """Make `home` from a backup.

    Args:
        now_ms: What is given out later is numbered above it (`numbers.leap`).
        database: Where the rows go, and the new home's setting; "sqlite" for the home's own file; "" for
            what the backup says, which is that file when it says nothing.

    Raises:
        BackupInvalid: It is not a backup, or not as it was written, or needs a passphrase.
        HomeInvalid: The place is taken, or cannot be written.
        DatabaseTooNew: A later release wrote it.
        DatabaseMixed, DatabaseUnreachable: The database is not empty, or does not answer.
        MigrationFailed: See `migrations/upgrade.py`.
    """
    if home.root.exists() and any(home.root.iterdir()):
        raise HomeInvalid(f"{home.root} is not empty; a backup is restored into a new folder")
    try:
        home.root.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=f".{home.root.name}.restoring-", dir=home.root.parent))
    except OSError as error:
        raise HomeInvalid(f"cannot make a home at {home.root}: {error.strerror}") from None
    try:
        manifest = _unpack(source, place, passphrase)
        made = Home(place / "home")
        for name in ("archives", "database"):  # a fleet without releases has no archives
            (place / name).mkdir(exist_ok=True)
        (place / "archives").rename(made.archives)
        config = load_home(made)
        if database:
            own = "" if database == OWN_SQLITE else database
            config = config.model_copy(update={"database": own})
            write_secret(made.config, config_bytes(config))
        with opened(made.database_url(config)) as engine:
            fill_empty(
                engine, manifest.revision, lambda rows: _fill(rows, place / "database", manifest, now_ms)
            )
        if home.root.exists():
            home.root.rmdir()
        made.root.rename(home.root)
        sync_folder(home.root.parent)
    except OSError as error:
        raise HomeInvalid(f"cannot restore to {home.root}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return manifest


def _unpack(source: Path, place: Path, passphrase: str | None) -> BackupManifest:
    """Write a backup's files and compare them with its manifest."""
    digests: dict[str, str] = {}
    manifest: BackupManifest | None = None
    try:
        with source.open("rb") as stream, tarfile.open(mode="r|", fileobj=_opened(stream, passphrase)) as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isfile() else None
                if manifest is not None or content is None:
                    raise BackupInvalid(f"{source} has something after its end, or that is not a file")
                if member.name == MANIFEST:
                    manifest = parse_json(BackupManifest, content.read(_MANIFEST_BYTES), MANIFEST, FORMAT)
                elif is_name(member.name):
                    digests[member.name] = _write(place / member.name, cast("BinaryIO", content))
                else:
                    raise BackupInvalid(f"{source} has a file {member.name!r:.100}, which no backup has")
    except tarfile.TarError as error:
        raise BackupInvalid(f"{source} is not a backup, or was cut off: {error}") from None
    except FileNotFoundError:
        raise BackupInvalid(f"there is no file {source}") from None
    except ContractError as error:
        raise BackupInvalid(f"{source}: {error}") from None
    if manifest is None:
        raise BackupInvalid(f"{source} has no manifest at its end: it was cut off")
    wrong = sorted(
        name for name in {*digests, *manifest.members} if digests.get(name) != manifest.members.get(name)
    )
    if wrong:
        raise BackupInvalid(f"{source}: {wrong[0]} is missing or not as it was written")
    return manifest


def _opened(stream: BinaryIO, passphrase: str | None) -> BinaryIO:
    if stream.read(len(MAGIC)) == MAGIC:
        if not passphrase:
            raise BackupInvalid("the backup is sealed; give its passphrase")
        return cast("BinaryIO", SealedReader(stream, passphrase))
    stream.seek(0)
    return stream


def _write(path: Path, content: BinaryIO) -> str:
    digest = hashlib.sha256()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        while piece := content.read(_PIECE):
            digest.update(piece)
            stream.write(piece)
        stream.flush()
        os.fsync(stream.fileno())
    return digest.hexdigest()


def _fill(connection: Connection, folder: Path, manifest: BackupManifest, now_ms: int) -> None:
    """Put the rows into tables of the backup's own schema, and begin above what was given out since."""
    found = MetaData()
    found.reflect(connection, only=lambda name, _: name in manifest.tables)
    for table in found.sorted_tables:
        columns = manifest.tables[table.name].columns
        if set(columns) != {column.name for column in columns_of(table)}:
            raise BackupInvalid(f"the backup's {table.name} does not have the columns of {manifest.revision}")
        for column in table.c:
            if isinstance(column.type, JSON):
                column.type = JSON(none_as_null=True)
        count, waiting = 0, []
        for row in _rows(folder / table.name):
            waiting.append(dict(zip(columns, values_of(row, len(columns)), strict=True)))
            if len(waiting) == ROWS_AT_ONCE:
                connection.execute(insert(table), waiting)
                count, waiting = count + len(waiting), []
        if waiting:
            connection.execute(insert(table), waiting)
        count += len(waiting)
        stated = manifest.tables[table.name].rows
        if count != stated:
            raise BackupInvalid(f"the backup has {count} rows of {table.name}, its manifest says {stated}")
        if (
            connection.dialect.name == "postgresql"
            and "id" in table.c
            and table.c["id"].autoincrement is True
        ):
            _go_on_counting(
                connection, table.name, connection.execute(select(func.max(table.c["id"]))).scalar()
            )
    missing = manifest.tables.keys() - found.tables.keys()
    if missing:
        raise BackupInvalid(f"the backup has a table {sorted(missing)[0]!r} that {manifest.revision} has not")
    leap(connection, now_ms)


def _go_on_counting(connection: Connection, table: str, largest: int | None) -> None:
    """PostgreSQL's numbers do not see rows that came with theirs."""
    if largest is not None:
        connection.execute(
            text("SELECT setval(pg_get_serial_sequence(:name, 'id'), :largest)"),
            {"name": table, "largest": largest},
        )


def _rows(folder: Path) -> Iterator[object]:
    for path in sorted(folder.glob("*.cbor")):
        content = path.read_bytes()
        stream = io.BytesIO(content)
        decoder = cbor2.CBORDecoder(stream)
        try:
            while stream.tell() < len(content):
                yield decoder.decode()
        except (cbor2.CBORDecodeError, ValueError) as error:
            raise BackupInvalid(f"rows of the backup are not CBOR: {error}") from None
