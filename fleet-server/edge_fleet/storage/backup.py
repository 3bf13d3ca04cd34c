"""Writing a backup while the server runs: one moment of the database, the keys, and the published bundles.

Files of the home are read first: the end of the audit log that is signed there must not be younger than the
rows. Archives never change once they are published, and are read last, by what the rows name.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO, cast

import cbor2
from sqlalchemy import Column, Connection, MetaData, Table, select

from edge_contracts.model import canonical_json
from edge_contracts.on_disk import sync_folder
from edge_fleet import schema
from edge_fleet.errors import BackupInvalid, HomeInvalid
from edge_fleet.home import Home
from edge_fleet.keys import DIRECTORS
from edge_fleet.migrations.upgrade import found_revision
from edge_fleet.registry import archive_path
from edge_fleet.storage.backup_format import (
    ARCHIVES,
    DATABASE,
    HOME,
    MANIFEST,
    NOT_OF_THE_HOME,
    BackupManifest,
    TableContent,
    is_name,
)
from edge_fleet.storage.sealed_file import SealedWriter
from edge_fleet.store import Store, opened

CHUNK_BYTES = 8 << 20
ROWS_AT_ONCE = 1_000


def back_up(
    home: Home, url: str, fleet: str, target: Path, now_ms: int, passphrase: str | None = None
) -> BackupManifest:
    """Write a backup of a home and its database to a new file, whole or not at all.

    Raises:
        BackupInvalid: The file is there already, or cannot be written.
        HomeInvalid: An archive that the database names is missing.
        DatabaseUnreachable: See `store.opened`.
    """
    if target.exists():
        raise BackupInvalid(f"{target} is there already; backups are not overwritten")
    if not target.parent.is_dir():
        raise BackupInvalid(f"there is no folder {target.parent} to back up into; make it first")
    part = target.with_name(target.name + ".part")
    try:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        raise BackupInvalid(f"cannot write {part}: {error.strerror}") from None
    try:
        with os.fdopen(handle, "wb") as stream:
            sealed = SealedWriter(stream, passphrase) if passphrase else None
            with opened(url) as engine:
                manifest = _write(sealed or stream, home, Store(engine), fleet, now_ms)
            if sealed:
                sealed.finish()
            stream.flush()
            os.fsync(stream.fileno())
        part.rename(target)
    except OSError as error:
        raise BackupInvalid(f"cannot write {target}: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)
    sync_folder(target.parent)
    return manifest


def _write(
    stream: BinaryIO | SealedWriter, home: Home, store: Store, fleet: str, now_ms: int
) -> BackupManifest:
    digests: dict[str, str] = {}
    tables: dict[str, TableContent] = {}
    with tarfile.open(mode="w|", fileobj=cast("BinaryIO", stream)) as tar:

        def add(name: str, content: bytes) -> None:
            digests[name] = hashlib.sha256(content).hexdigest()
            _add(tar, name, content)

        for path in _home_files(home):
            add(HOME + path.relative_to(home.root).as_posix(), path.read_bytes())
        with store.read() as connection:
            revision = found_revision(connection)
            if revision is None:
                raise BackupInvalid("the database is empty: there is nothing to back up")
            for table in _tables(connection):
                rows = 0
                for number, (count, chunk) in enumerate(_chunks(connection, table)):
                    add(f"{DATABASE}{table.name}/{number:06}.cbor", chunk)
                    rows += count
                tables[table.name] = TableContent(
                    columns=tuple(column.name for column in columns_of(table)), rows=rows
                )
            named = connection.execute(select(schema.bundles.c.archive)).scalars().all()
        for path in _home_files(home):  # keys that the rows name and that were made meanwhile
            name = HOME + path.relative_to(home.root).as_posix()
            if name not in digests and path.parent.name == DIRECTORS:
                add(name, path.read_bytes())
        for digest in sorted(named):
            path = archive_path(home.archives, digest)
            if not path.is_file():
                raise HomeInvalid(f"{path} is missing: the database names it as published")
            digests[ARCHIVES + path.name] = _add_file(tar, ARCHIVES + path.name, path)
        manifest = BackupManifest(
            edgefleet=version("edgefleet"),
            created_ms=now_ms,
            fleet=fleet,
            revision=revision,
            tables=tables,
            members=digests,
        )
        _add(tar, MANIFEST, canonical_json(manifest))
    return manifest


def _home_files(home: Home) -> list[Path]:
    found = []
    for path in sorted(home.root.rglob("*")):
        name = path.relative_to(home.root).as_posix()
        if path.is_file() and not NOT_OF_THE_HOME.match(name) and is_name(HOME + name):
            found.append(path)
    return found


def _tables(connection: Connection) -> Sequence[Table]:
    """Our tables as they are there, which may be those of an older schema; the referred to come first."""
    found = MetaData()
    found.reflect(connection, only=lambda name, _: name in schema.metadata.tables)
    return found.sorted_tables


def columns_of(table: Table) -> list[Column[Any]]:
    """The columns that are written down: what the database works out by itself is not."""
    return [column for column in table.c if column.computed is None]


def _chunks(connection: Connection, table: Table) -> Iterator[tuple[int, bytes]]:
    chunk, count = io.BytesIO(), 0
    order = [table.c[column.name] for column in table.primary_key]
    result = connection.execution_options(stream_results=True, yield_per=ROWS_AT_ONCE).execute(
        select(*columns_of(table)).order_by(*order)
    )
    for row in result:
        chunk.write(cbor2.dumps(list(row)))
        count += 1
        if chunk.tell() >= CHUNK_BYTES:
            yield count, chunk.getvalue()
            chunk, count = io.BytesIO(), 0
    if count:
        yield count, chunk.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o600
    tar.addfile(member, io.BytesIO(content))


def _add_file(tar: tarfile.TarFile, name: str, path: Path) -> str:
    member = tarfile.TarInfo(name)
    with path.open("rb") as stream:
        reader = _Hashing(stream)
        member.size, member.mode = os.fstat(stream.fileno()).st_size, 0o600
        tar.addfile(member, cast("BinaryIO", reader))
    return reader.hash.hexdigest()


class _Hashing:
    """A reader that keeps the digest of what was read."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self.hash = stream, hashlib.sha256()

    def read(self, count: int = -1) -> bytes:
        content = self._stream.read(count)
        self.hash.update(content)
        return content


def values_of(row: Any, count: int) -> list[Any]:
    """A row as it was written, checked for its shape.

    Raises:
        BackupInvalid: It is not a row of so many columns.
    """
    if not isinstance(row, list) or len(row) != count:
        raise BackupInvalid("a row of the backup does not have its table's columns")
    return row
