from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_server import with_driver
from sqlalchemy import Connection, Engine, create_engine, inspect, select, text

from edge_fleet import schema
from edge_fleet.errors import DatabaseMixed, DatabaseTooNew, DatabaseUnreachable, FleetError, MigrationFailed
from edge_fleet.migrations import upgrade as migrations
from edge_fleet.migrations.upgrade import config_for, differences, found_revision, heads
from edge_fleet.store import open_store
from edge_fleet.telemetry import page

GOLDEN = Path(__file__).parents[1] / "golden/v1/fleet"
NEWEST = heads()[0]


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """A plain engine on the database, without any of the store's settings."""
    made = create_engine(with_driver(database_url))
    yield made
    made.dispose()


@pytest.fixture
def first(engine: Engine) -> Engine:
    """A database as the first release left it, with rows in every table."""
    script = (GOLDEN / f"database.{engine.dialect.name}.sql").read_text()
    own = engine.raw_connection()
    if engine.dialect.name == "sqlite":
        own.driver_connection.executescript(script)  # type: ignore[union-attr]
    else:
        own.driver_connection.execute(script)  # type: ignore[union-attr]
    own.commit()
    own.close()
    return engine


def _rows(connection: Connection) -> dict[str, int]:
    names = inspect(connection).get_table_names()
    return {name: connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one() for name in names}


def test_a_database_of_the_first_schema_keeps_its_rows_and_becomes_the_newest(
    first: Engine, database_url: str
) -> None:
    with first.connect() as connection:
        before = _rows(connection)
        assert before.keys() >= {"envelopes", "windows", "forks", "rollouts", "audit"}
        assert all(before.values()), "every table has a row"
    store = open_store(database_url)
    with store.read() as connection:
        after = _rows(connection)
        assert {name: after[name] for name in before} == before
        assert found_revision(connection) == NEWEST
        assert differences(connection) == []
        rows = page(connection, 0)  # and they mean what they meant
        assert [row["records"][0]["kind"] for row in rows] == ["window", "window", "event", "gap"]
        window = connection.execute(select(schema.windows)).first()
        assert window is not None
        assert (window.merged, window.epsilon, window.clock_step_ms) == (1, None, 0)
        assert (window.lineup, window.software, window.drifting) == (None, {}, [])
    store.close()


@pytest.mark.parametrize("step", ["opened", "start"])
def test_a_rollout_that_was_open_has_passed_after_an_upgrade_too(
    first: Engine, database_url: str, step: str
) -> None:
    """Whoever paused it before must not see it taken back by its deadline afterwards."""
    with first.begin() as connection:
        connection.execute(text("UPDATE rollout_steps SET event = :step"), {"step": step})
        connection.execute(text("UPDATE rollouts SET phase = 'paused'"))
    open_store(database_url).close()
    with first.connect() as connection:
        assert connection.execute(select(schema.rollouts.c.opened)).scalar_one() is (step == "opened")


def test_a_fresh_database_and_one_made_by_every_revision_have_the_tables_of_the_schema(
    engine: Engine, database_url: str
) -> None:
    from alembic import command

    with engine.begin() as connection:
        command.upgrade(config_for(connection), "head")
        assert differences(connection) == []
        schema.metadata.drop_all(connection)
        connection.execute(text("DROP TABLE alembic_version"))
    open_store(database_url).close()
    with engine.connect() as connection:
        assert found_revision(connection) == NEWEST
        assert differences(connection) == []


def test_revisions_form_one_line_from_the_first() -> None:
    assert len(heads()) == 1
    numbers = sorted(migrations.revisions())
    assert numbers == [f"{n:04}" for n in range(1, len(numbers) + 1)]


def test_opening_again_changes_nothing(first: Engine, database_url: str) -> None:
    open_store(database_url).close()
    with first.connect() as connection:
        before = _rows(connection)
    open_store(database_url).close()
    with first.connect() as connection:
        assert _rows(connection) == before


def test_a_revision_of_a_later_release_is_refused_in_one_line(engine: Engine, database_url: str) -> None:
    open_store(database_url).close()
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseTooNew, match=f"revision 9999, this release knows {NEWEST}") as refusal:
        open_store(database_url)
    assert "\n" not in str(refusal.value)


def test_the_first_release_refuses_a_database_with_revisions(first: Engine, database_url: str) -> None:
    """It knows the number 1 only and compares with what `meta` says."""
    open_store(database_url).close()
    with first.connect() as connection:
        number = connection.execute(text("SELECT value FROM meta WHERE key = 'schema_version'")).scalar_one()
    assert int(number) > 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("DROP TABLE gaps", "cannot upgrade|there is no table 'gaps'"),
        ("ALTER TABLE events DROP COLUMN detail", "'events' has no column 'detail'"),
        ("DROP INDEX windows_by_bundle", "windows_by_bundle"),
    ],
)
@pytest.mark.parametrize("revision", ["first", "newest"])
def test_a_mix_of_schemas_is_refused_and_left_as_it_is(
    first: Engine, database_url: str, change: str, said: str, revision: str
) -> None:
    if revision == "newest":
        open_store(database_url).close()
    with first.begin() as connection:
        connection.execute(text(change))
        before = _rows(connection)
        found = found_revision(connection)
    with pytest.raises(FleetError, match=said) as refusal:
        open_store(database_url)
    assert isinstance(refusal.value, DatabaseMixed) and "\n" not in str(refusal.value)
    with first.connect() as connection:
        assert _rows(connection) == before
        assert found_revision(connection) == found


def test_tables_of_another_program_under_our_names_are_refused(engine: Engine, database_url: str) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE devices (serial INTEGER)"))
    with pytest.raises(DatabaseMixed, match="a table 'devices' but does not say of which revision"):
        open_store(database_url)
    with engine.connect() as connection:
        assert inspect(connection).get_table_names() == ["devices"]


def test_what_somebody_added_for_themselves_is_their_own_affair(engine: Engine, database_url: str) -> None:
    open_store(database_url).close()
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE my_notes (id INTEGER)"))
        connection.execute(text("CREATE INDEX my_index ON audit (actor)"))
    open_store(database_url).close()


@pytest.mark.parametrize("fault", ["raise RuntimeError('died')", "op.execute('SELECT nothing FROM nowhere')"])
def test_an_upgrade_that_dies_half_way_leaves_the_old_state(
    first: Engine, database_url: str, fault: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The real revisions, and one more that changes tables and rows and then fails."""
    scripts = _copy_of_scripts(tmp_path)
    (scripts / "versions/r9000_dies.py").write_text(
        f"from alembic import op\nimport sqlalchemy as sa\nrevision = '9000'\ndown_revision = '{NEWEST}'\n"
        "def upgrade():\n"
        "    op.execute('DELETE FROM windows')\n"
        "    op.create_table('half', sa.Column('id', sa.Integer, primary_key=True))\n"
        "    with op.batch_alter_table('tokens') as tokens:\n"
        "        tokens.alter_column('label', new_column_name='title')\n"
        f"    {fault}\n"
    )
    with first.connect() as connection:
        before, columns = _rows(connection), _columns(connection, "windows")
    monkeypatch.setattr(migrations, "SCRIPTS", scripts)
    with pytest.raises((RuntimeError, MigrationFailed)):
        open_store(database_url)
    monkeypatch.undo()
    with first.connect() as connection:
        assert _rows(connection) == before
        assert _columns(connection, "windows") == columns
        assert found_revision(connection) == "0001"
    open_store(database_url).close()  # and the sound revisions still apply


def test_a_program_killed_in_the_middle_of_an_upgrade_leaves_the_old_state(
    first: Engine, database_url: str, tmp_path: Path
) -> None:
    scripts = _copy_of_scripts(tmp_path)
    (scripts / "versions/r9000_killed.py").write_text(
        f"import os, signal\nfrom alembic import op\nrevision = '9000'\ndown_revision = '{NEWEST}'\n"
        "def upgrade():\n    op.execute('DELETE FROM windows')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    code = (
        "import sys; from pathlib import Path; from edge_fleet.migrations import upgrade;"
        "upgrade.SCRIPTS = Path(sys.argv[1]); from edge_fleet.store import open_store;"
        "open_store(sys.argv[2])"
    )
    with first.connect() as connection:
        before = _rows(connection)
    died = subprocess.run(
        [sys.executable, "-c", code, scripts, database_url], capture_output=True, timeout=60
    )
    assert died.returncode == -9, died.stderr
    with first.connect() as connection:
        assert _rows(connection) == before
        assert found_revision(connection) == "0001"


def test_a_revision_that_copies_a_table_keeps_the_rows_that_refer_to_it(
    first: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """SQLite copies and drops the old table, which with foreign keys would take its children along."""
    scripts = _copy_of_scripts(tmp_path)
    (scripts / "versions/r9000_copies.py").write_text(
        f"from alembic import op\nimport sqlalchemy as sa\nrevision = '9000'\ndown_revision = '{NEWEST}'\n"
        "def upgrade():\n"
        "    with op.batch_alter_table('devices', recreate='auto') as devices:\n"
        "        devices.alter_column('credential', existing_type=sa.String(64), nullable=False)\n"
    )
    with first.connect() as connection:
        before = _rows(connection)
    monkeypatch.setattr(migrations, "SCRIPTS", scripts)
    open_store(database_url).close()
    with first.connect() as connection:
        after = _rows(connection)
        assert {name: after[name] for name in before} == before


def test_a_new_revision_is_begun_with_what_the_schema_has_more(tmp_path: Path) -> None:
    scripts = _copy_of_scripts(tmp_path)
    code = (
        "import sys; from pathlib import Path; import sqlalchemy as sa;"
        "from edge_fleet import schema; from edge_fleet.migrations import upgrade, __main__;"
        "upgrade.SCRIPTS = Path(sys.argv.pop(1));"
        "schema.audit.append_column(sa.Column('mood', sa.Text));"
        "__main__.main()"
    )
    run = subprocess.run([sys.executable, "-c", code, scripts, "Moods."], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    (made,) = (scripts / "versions").glob("r*_moods.py")
    assert made.name == f"r{int(NEWEST) + 1:04}_moods.py"
    assert re.search(r"add_column\(sa.Column\('mood', sa.Text\(\)", made.read_text())
    spec = importlib.util.spec_from_file_location("made", made)
    assert spec and spec.loader
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_a_database_that_nobody_answers_for_is_not_called_a_failed_upgrade() -> None:
    with pytest.raises(DatabaseUnreachable):
        open_store("postgresql://edge@127.0.0.1:1/none")


def _columns(connection: Connection, table: str) -> list[str]:
    return [column["name"] for column in inspect(connection).get_columns(table)]


def _copy_of_scripts(folder: Path) -> Path:
    scripts = folder / "migrations"
    (scripts / "versions").mkdir(parents=True)
    for name in ("env.py", "script.py.mako"):
        (scripts / name).write_bytes((migrations.SCRIPTS / name).read_bytes())
    for revision in (migrations.SCRIPTS / "versions").glob("r*.py"):
        (scripts / "versions" / revision.name).write_bytes(revision.read_bytes())
    return scripts
