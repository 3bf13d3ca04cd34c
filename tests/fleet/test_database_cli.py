from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge_fleet.cli import _add_groups, cli
from edge_fleet.config import ServerConfig
from edge_fleet.errors import DatabaseTooNew, HomeInvalid
from edge_fleet.home import Home, locked
from edge_fleet.migrations.upgrade import heads
from edge_fleet.serve import initialise

GOLDEN = Path(__file__).parents[1] / "golden/v1/fleet/database.sqlite.sql"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home whose database is as the first release left it."""
    made = Home(tmp_path / "home")
    initialise(made, ServerConfig())
    (made.root / "fleet.db").unlink()
    _sql(made, GOLDEN.read_text())
    return made


def _sql(home: Home, script: str) -> None:
    connection = sqlite3.connect(home.root / "fleet.db")
    connection.executescript(script)
    connection.close()


def _run(home: Home, *words: str) -> Result:
    _add_groups()
    return CliRunner().invoke(cli, ["database", *words, "--home", str(home.root)], catch_exceptions=False)


def test_an_old_database_is_named_and_upgraded_once(home: Home) -> None:
    assert "revision      0001\n" in _run(home, "status").output
    assert _run(home, "upgrade").output == f"the database has revision {heads()[0]} now; before: 0001\n"
    assert "nothing was changed" in _run(home, "upgrade").output
    assert f"revision      {heads()[0]}\n" in _run(home, "status").output


def test_a_database_that_is_served_is_not_upgraded_from_aside(home: Home) -> None:
    with locked(home), pytest.raises(HomeInvalid, match="another server runs"):
        _run(home, "upgrade")
    assert "revision      0001\n" in _run(home, "status").output


def test_a_newer_database_than_the_program_is_refused(home: Home) -> None:
    _run(home, "upgrade")
    _sql(home, "UPDATE alembic_version SET version_num = '9999'")
    for word in ("upgrade", "status"):
        with pytest.raises(DatabaseTooNew, match="update edgefleet"):
            _run(home, word)
