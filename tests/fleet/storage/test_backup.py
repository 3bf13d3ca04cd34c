from __future__ import annotations

import hashlib
import io
import json
import sqlite3
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from fleet_streams import Device
from postgres_server import Postgres
from sqlalchemy import Connection, insert, select, text

from edge_fleet import numbers, schema
from edge_fleet.cli import _add_groups, cli
from edge_fleet.config import ServerConfig
from edge_fleet.errors import (
    BackupInvalid,
    DatabaseMixed,
    DatabaseTooNew,
    DatabaseUnreachable,
    HomeInvalid,
)
from edge_fleet.home import Home, load_home
from edge_fleet.migrations.upgrade import heads
from edge_fleet.registry import archive_path
from edge_fleet.serve import initialise
from edge_fleet.storage.backup import back_up
from edge_fleet.storage.restore import restore
from edge_fleet.store import open_store

GOLDEN = Path(__file__).parents[2] / "golden/v1/fleet/database.sqlite.sql"
DIGEST = "sha256:" + "ab" * 32
ARCHIVE = b"a published bundle"
NOW_MS = 1_800_000_000_000


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with telemetry and a published bundle, its database in it."""
    return _home(tmp_path, "")


@pytest.fixture
def either_home(tmp_path: Path, database_url: str) -> Home:
    """The same with a database of each kind."""
    return _home(tmp_path, database_url)


def _home(tmp_path: Path, database: str) -> Home:
    made = Home(tmp_path / "old" / "home")
    initialise(made, ServerConfig(database=database))
    store = open_store(made.database_url(load_home(made)))
    device = Device(store)
    device.take(device.state())
    device.fill(3)
    device.take(*(device.telemetry(n) for n in range(3)))
    archive = "sha256:" + hashlib.sha256(ARCHIVE).hexdigest()
    archive_path(made.archives, archive).write_bytes(ARCHIVE)
    with store.write() as connection:
        _publish(connection, archive)
    store.close()
    return made


def _publish(connection: Connection, archive: str) -> None:
    connection.execute(insert(schema.releases).values(counter=1, name="m", version="1", created_ms=1))
    connection.execute(
        insert(schema.bundles).values(
            digest=DIGEST,
            counter=1,
            profile="x86-cpu",
            archive=archive,
            archive_bytes=1,
            manifest="{}",
            key_id="k",
        )
    )


def _url(home: Home) -> str:
    return home.database_url(load_home(home))


def _back_up(home: Home, target: Path, passphrase: str | None = None) -> Path:
    back_up(home, _url(home), "main", target, 1, passphrase)
    return target


def _content(url: str) -> dict[str, list[tuple[object, ...]]]:
    store = open_store(url)
    with store.read() as connection:
        found = {
            name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))]
            for name, table in schema.metadata.tables.items()
        }
    store.close()
    return found


def _restored(content: dict[str, list[tuple[object, ...]]]) -> dict[str, list[tuple[object, ...]]]:
    """With what a restore adds: NOW_MS, and a thousand releases above the one that is there."""
    return content | {"meta": sorted([*content["meta"], (numbers.LEAP_KEY, "1800000000 1001")], key=str)}


@pytest.fixture
def backup(home: Home, tmp_path: Path) -> Path:
    return _back_up(home, tmp_path / "fleet.backup")


@pytest.mark.parametrize("into", ["sqlite", "postgresql"])
def test_a_backup_restores_into_either_database_with_every_row_key_and_archive(
    either_home: Home, tmp_path: Path, into: str, request: pytest.FixtureRequest
) -> None:
    home, backup = either_home, _back_up(either_home, tmp_path / "fleet.backup")
    there = Home(tmp_path / "new" / "home")
    server: Postgres | None = request.getfixturevalue("postgres") if into == "postgresql" else None
    database = server.fresh() if server else f"sqlite:///{tmp_path / 'restored.db'}"
    restore(backup, there, NOW_MS, database)
    assert load_home(there).database == database
    assert _content(_url(there)) == _restored(_content(_url(home)))
    for name in ("keys/director.pem", "keys/broker.secret", "admin.token"):
        assert (there.root / name).read_bytes() == (home.root / name).read_bytes()
        assert (there.root / name).stat().st_mode & 0o077 == 0
    (archive,) = there.archives.iterdir()
    assert archive.read_bytes() == ARCHIVE
    store = open_store(database)  # and it goes on: a row gets a number that is free
    device = Device(store, "d2")
    device.take(device.state())
    device.fill(1)
    assert device.take(device.telemetry(0)).envelopes == 1
    store.close()


def test_what_was_kept_in_postgresql_restores_into_a_file_in_the_home(
    postgres: Postgres, tmp_path: Path
) -> None:
    home = _home(tmp_path, postgres.fresh())
    backup = _back_up(home, tmp_path / "fleet.backup")
    there = Home(tmp_path / "new")
    restore(backup, there, NOW_MS, "sqlite")
    assert load_home(there).database == "" and (there.root / "fleet.db").exists()
    assert _content(there.database_url(load_home(there))) == _restored(_content(_url(home)))
    # and a command may ask for that file by the same word
    assert there.database_url(load_home(home), "sqlite") == f"sqlite:///{there.root / 'fleet.db'}"


def test_a_database_in_memory_is_not_restored_into(backup: Path, tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnreachable, match="does not name a file"):
        restore(backup, Home(tmp_path / "new"), NOW_MS, "sqlite:///")
    assert _nothing_left(tmp_path)


def test_a_backup_is_one_moment_although_rows_are_written_meanwhile(
    either_home: Home, tmp_path: Path
) -> None:
    home = either_home
    store = open_store(_url(home))
    with store.read() as connection:
        before = len(connection.execute(select(schema.envelopes)).all())
    device = Device(store, "d2")
    device.take(device.state())
    device.fill(1)
    with store.write() as connection:
        connection.execute(insert(schema.meta).values(key="not", value="committed"))
        manifest = back_up(home, _url(home), "main", tmp_path / "b", 1)  # while a writer is at work
    assert manifest.tables["envelopes"].rows == before
    assert manifest.tables["devices"].rows == 2
    store.close()


def test_a_sealed_backup_opens_with_its_passphrase_only(home: Home, tmp_path: Path) -> None:
    sealed = _back_up(home, tmp_path / "sealed", "correct horse")
    assert b"home/keys" not in sealed.read_bytes()
    place = Home(tmp_path / "new")
    target = f"sqlite:///{tmp_path / 'restored.db'}"
    for wrong in (None, "wrong"):
        with pytest.raises(BackupInvalid, match="passphrase"):
            restore(sealed, place, NOW_MS, target, wrong)
    content = sealed.read_bytes()
    sealed.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(BackupInvalid, match="does not open"):
        restore(sealed, place, NOW_MS, target, "correct horse")
    assert _nothing_left(tmp_path)
    sealed.write_bytes(content)
    restore(sealed, place, NOW_MS, target, "correct horse")
    assert _content(target) == _restored(_content(_url(home)))


def _nothing_left(tmp_path: Path) -> bool:
    """Neither a home nor a database nor anything half done."""
    return not [path.name for path in tmp_path.rglob("*") if "restor" in path.name or path.name == "new"]


def _rewritten(backup: Path, change: Callable[[str, bytes], list[tuple[str, bytes]]]) -> None:
    out = io.BytesIO()
    with tarfile.open(backup) as tar, tarfile.open(mode="w", fileobj=out) as new:
        for member in tar:
            stream = tar.extractfile(member)
            assert stream is not None
            for name, content in change(member.name, stream.read()):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                new.addfile(info, io.BytesIO(content))
    backup.write_bytes(out.getvalue())


def _flip(name: str, content: bytes) -> list[tuple[str, bytes]]:
    touched = name.startswith("database/envelopes/")
    return [(name, content[:-1] + bytes([content[-1] ^ 1]) if touched else content)]


def _without_row(name: str, content: bytes) -> list[tuple[str, bytes]]:
    if name != "manifest.json":
        return [(name, content)]
    raw = json.loads(content)
    raw["tables"]["envelopes"]["rows"] += 1
    return [(name, json.dumps(raw).encode())]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_flip, "database/envelopes/000000.cbor is missing or not as it was written"),
        (lambda n, c: [] if n == "home/keys/director.pem" else [(n, c)], "director.pem is missing"),
        (lambda n, c: [] if n == "manifest.json" else [(n, c)], "it was cut off"),
        (lambda n, c: [(n, c), ("home/more", b"")] if n == "home/config.json" else [(n, c)], "home/more"),
        (lambda n, c: [("home/../../etc", b""), (n, c)], "which no backup has"),
        (lambda n, c: [("/etc/passwd", b""), (n, c)], "which no backup has"),
        (_without_row, "its manifest says 4"),
    ],
)
def test_a_changed_backup_is_refused_and_leaves_nothing(
    backup: Path, tmp_path: Path, change: Callable[[str, bytes], list[tuple[str, bytes]]], said: str
) -> None:
    _rewritten(backup, change)
    with pytest.raises(BackupInvalid, match=said):
        restore(backup, Home(tmp_path / "new"), NOW_MS, f"sqlite:///{tmp_path / 'restored.db'}")
    (tmp_path / "restored.db").unlink(missing_ok=True)
    assert _nothing_left(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_backup_that_was_cut_off_is_refused(backup: Path, tmp_path: Path, share: float) -> None:
    content = backup.read_bytes()
    whole = len(content.rstrip(b"\0"))  # tar fills its last block up
    backup.write_bytes(content[: int(whole * share)])
    with pytest.raises(BackupInvalid):
        restore(backup, Home(tmp_path / "new"), NOW_MS)
    assert _nothing_left(tmp_path)


def test_a_database_that_has_a_fleet_is_not_restored_into(home: Home, backup: Path, tmp_path: Path) -> None:
    before = _content(_url(home))
    with pytest.raises(DatabaseMixed, match="it has a fleet already; give an empty one by --database"):
        restore(backup, Home(tmp_path / "new"), NOW_MS, _url(home))
    assert _content(_url(home)) == before and _nothing_left(tmp_path)


def test_a_folder_that_has_something_is_not_restored_into(backup: Path, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "photo").touch()
    with pytest.raises(HomeInvalid, match="is not empty"):
        restore(backup, Home(tmp_path / "new"), NOW_MS)


def test_a_backup_is_not_overwritten_and_one_that_lacks_an_archive_is_not_made(
    home: Home, backup: Path, tmp_path: Path
) -> None:
    with pytest.raises(BackupInvalid, match="is there already"):
        _back_up(home, backup)
    next(home.archives.iterdir()).unlink()
    with pytest.raises(HomeInvalid, match="is missing: the database names it"):
        _back_up(home, tmp_path / "other")
    assert not list(tmp_path.glob("other*"))


def test_a_backup_into_a_folder_that_is_not_there_names_the_folder(home: Home, tmp_path: Path) -> None:
    missing = tmp_path / "backups"
    with pytest.raises(BackupInvalid, match=f"there is no folder {missing} to back up into; make it first"):
        _back_up(home, missing / "fleet")
    assert not missing.exists()


def test_a_backup_of_the_first_schema_restores_as_the_newest(tmp_path: Path) -> None:
    home = Home(tmp_path / "old")
    initialise(home, ServerConfig())
    (home.root / "fleet.db").unlink()
    connection = sqlite3.connect(home.root / "fleet.db")
    connection.executescript(GOLDEN.read_text())
    connection.execute("DELETE FROM assignments")
    connection.execute("DELETE FROM rollout_members")
    connection.execute("DELETE FROM bundles")  # its archive is not in the golden file
    connection.commit()
    connection.close()
    backup = _back_up(home, tmp_path / "backup")
    restored = Home(tmp_path / "new")
    assert restore(backup, restored, NOW_MS).revision == "0001"
    store = open_store(_url(restored))
    with store.read() as reader:
        assert reader.execute(text("SELECT version_num FROM alembic_version")).scalar() == heads()[0]
        assert len(reader.execute(select(schema.envelopes)).all()) == 4
    store.close()


def test_a_backup_of_a_later_release_is_refused(backup: Path, tmp_path: Path) -> None:
    def later(name: str, content: bytes) -> list[tuple[str, bytes]]:
        newest = f'"revision":"{heads()[0]}"'.encode()
        return [(name, content.replace(newest, b'"revision":"9999"'))]

    _rewritten(backup, later)
    with pytest.raises(DatabaseTooNew, match="9999"):
        restore(backup, Home(tmp_path / "new"), NOW_MS, f"sqlite:///{tmp_path / 'restored.db'}")
    (tmp_path / "restored.db").unlink(missing_ok=True)
    assert _nothing_left(tmp_path)


def test_the_commands_say_what_they_did(home: Home, tmp_path: Path) -> None:
    _add_groups()
    run = CliRunner().invoke
    (tmp_path / "secret").write_text("correct horse\n")
    words = ["backup", str(tmp_path / "b"), "--home", str(home.root)]
    words += ["--passphrase-file", str(tmp_path / "secret")]
    made = run(cli, words, catch_exceptions=False)
    assert f"schema {heads()[0]}" in made.output and "in the clear" not in made.output
    words = [
        "restore",
        str(tmp_path / "b"),
        str(tmp_path / "new"),
        "--database",
        f"sqlite:///{tmp_path / 'r.db'}",
    ]
    done = run(cli, words, env={"EDGE_FLEET_BACKUP_PASSPHRASE": "correct horse"}, catch_exceptions=False)
    assert f"edge-fleet serve --home {tmp_path / 'new'}\n" in done.output
    assert "fleet main" in done.output and load_home(Home(tmp_path / "new")).fleet == "main"
