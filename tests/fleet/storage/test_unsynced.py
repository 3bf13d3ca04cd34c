"""A commit that failed its sync is seen by the next server: what that one tells devices is on the disk."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from fault_disk import Disk, read_log, write_tree
from fault_harness import build_shim, compiler

pytestmark = pytest.mark.skipif(compiler() is None, reason="needs a C compiler")

PREPARED = """
store = open_store(url)
with store.write() as connection:
    connection.execute(insert(meta), [dict(key=f"row-{n}", value="v" * 500) for n in range(40)])
store.close()
"""
SERVED = """
store = open_store(url)
with store.write() as connection:
    connection.execute(update(meta).where(meta.c.key == "row-2").values(value="w" * 500))
fault.touch()
with suppress(DBAPIError), store.write() as connection:
    connection.execute(delete(meta).where(meta.c.key.like("row-1%")))
    connection.execute(insert(meta), [dict(key=f"row-2-{n}", value="v" * 500) for n in range(40)])
fault.unlink()
"""
SERVED_AGAIN = """
store = open_store(url)
with store.read() as connection:
    told = connection.execute(select(meta.c.key)).scalars().all()
assert "row-2-1" in told, "SQLite did not keep the commit that failed"
with store.write() as connection:
    connection.execute(insert(meta).values(key="row-3-1", value="v"))
Path(os.environ["FAULT_MARK"]).write_text("told")
"""
BEGIN = """
import os, sys
from contextlib import suppress
from pathlib import Path
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import DBAPIError
from edge_fleet.schema import meta
from edge_fleet.store import open_store
url, fault = sys.argv[1], Path(os.environ["FAULT_SYNC"])
"""
END = "os.kill(os.getpid(), 9)"


def test_what_the_next_server_reads_survives_a_power_cut(tmp_path: Path) -> None:
    root, log = tmp_path / "root", tmp_path / "log"
    root.mkdir()
    environment = {
        **os.environ,
        "FAULT_ROOT": str(root),
        "FAULT_LOG": str(log),
        "FAULT_MARK": str(tmp_path / "mark"),
        "FAULT_SYNC": str(tmp_path / "no-sync"),
        "LD_PRELOAD": str(build_shim(tmp_path)),
    }
    for program in (PREPARED, SERVED, SERVED_AGAIN):
        line = [sys.executable, "-c", BEGIN + program + END, f"sqlite:///{root}/fleet.db"]
        done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == -9, done.stderr

    disk, failed, told = Disk({}), False, False
    for number, operation in enumerate(read_log(log, root)):
        disk.apply(operation)
        failed, told = failed or operation.kind == "unsynced", told or operation.kind == "mark"
        if failed:
            folder = tmp_path / f"cut-{number}"
            write_tree(disk.safe(), folder)
            with closing(sqlite3.connect(folder / "fleet.db")) as db:
                assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                keys = {key for (key,) in db.execute("SELECT key FROM meta")}
            assert "row-2" in keys
            assert not told or keys >= {"row-2-1", "row-3-1"}
    assert failed and told
