"""What an outbox keeps when the disk fails, the process is killed or the power goes."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from outbox_records import (
    DEVICE_KEY,
    ME,
    ack,
    alarm,
    boundary,
    event,
    everything,
    filled,
    lonely,
    opened,
    window,
)

from edge_agent.errors import OutboxUnwritable
from edge_agent.telemetry import outbox_file
from edge_agent.telemetry.outbox import Outbox
from edge_agent.telemetry.outbox_file import Durability
from edge_contracts.messages import Event, Gap


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


def test_a_damaged_file_is_set_aside_and_a_new_epoch_begun(path: Path) -> None:
    outbox = Outbox(path, ME)
    outbox.put([window()])
    epoch = outbox.epoch
    outbox.close()
    content = bytearray(path.read_bytes())
    content[0:512] = os.urandom(512)
    path.write_bytes(bytes(content))
    again = Outbox(path, ME)
    assert "damaged" in again.lost
    assert again.epoch != epoch
    assert (again.next_seq, len(again)) == (0, 0)
    assert path.with_name("outbox.db.damaged").exists()
    (message,) = opened(everything(again))
    assert isinstance(message.recs[0], Gap)
    assert "damaged" in message.recs[0].reason


def test_a_file_that_is_damaged_while_it_is_open_is_set_aside_and_owned_up_to(path: Path) -> None:
    outbox = Outbox(path, ME)
    for n in range(400):
        outbox.put([lonely(n)])
    epoch = outbox.epoch
    boundary(outbox).execute("PRAGMA wal_checkpoint(TRUNCATE)")
    boundary(outbox).execute("PRAGMA cache_size = 0")
    with path.open("r+b") as stream:
        size = path.stat().st_size
        stream.seek(4096)
        stream.write(os.urandom(size - 4096))
    outbox.put([alarm("after")])
    assert outbox.epoch != epoch
    (message,) = opened(everything(outbox))
    gap = message.recs[0]
    assert isinstance(gap, Gap)
    assert (gap.records, "damaged" in gap.reason) == (0, True)
    assert message.recs[1] == alarm("after")


def test_a_full_disk_uses_no_number_keeps_what_was_there_and_is_owned_up_to(path: Path) -> None:
    outbox = Outbox(path, ME)
    filled(outbox, 1)
    pages = boundary(outbox).execute("PRAGMA page_count").fetchone()[0]
    boundary(outbox).execute(f"PRAGMA max_page_count = {pages}")
    many = [Event(name="e", time_ms=5, detail="x" * 500) for _ in range(200)]
    for _ in range(2):
        with pytest.raises(OutboxUnwritable, match="full"):
            outbox.put(many)
    assert outbox.next_seq == 1
    assert len(outbox) == 1
    boundary(outbox).execute("PRAGMA max_page_count = 100000")
    outbox.put([event()])
    message = opened(everything(outbox))[1]
    gap = message.recs[0]
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.kinds, gap.first_ms) == ("disk full or failed", {"event": 400}, 5)
    assert message.recs[1] == event()
    assert len(opened(everything(outbox))) == 2, "it is told once"


def test_a_loss_that_could_not_be_written_down_is_told_even_if_nothing_else_is_put(path: Path) -> None:
    outbox = Outbox(path, ME)
    pages = boundary(outbox).execute("PRAGMA page_count").fetchone()[0]
    boundary(outbox).execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(OutboxUnwritable):
        outbox.put([Event(name="e", time_ms=5, detail="x" * 500) for _ in range(200)])
    boundary(outbox).execute("PRAGMA max_page_count = 100000")
    (message,) = opened(everything(outbox))
    assert [record.kind for record in message.recs] == ["gap"]


def test_without_a_disk_it_works_in_memory_and_says_so(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "nowhere" / "outbox.db", ME)
    assert "in memory only" in outbox.lost
    outbox.put([window(3)])
    (message,) = opened(everything(outbox))
    assert [record.kind for record in message.recs] == ["gap", "window"]
    outbox.close()


def test_a_database_that_must_not_be_written_to_is_read_to_the_end(path: Path) -> None:
    outbox = Outbox(path, ME)
    filled(outbox, 2)
    sent = everything(outbox)
    boundary(outbox).execute("PRAGMA query_only = ON")  # SQLite's words for it are those of a read-only disk
    with pytest.raises(OutboxUnwritable, match="readonly"):
        outbox.put([alarm("disk")])
    with pytest.raises(OutboxUnwritable, match="readonly"):
        outbox.acknowledge(ack(outbox, 1, sent[1][1]))
    assert everything(outbox) == sent
    boundary(outbox).execute("PRAGMA query_only = OFF")
    assert outbox.acknowledge(ack(outbox, 1, sent[1][1])) == "advanced"
    (message,) = opened(everything(outbox))
    assert isinstance(message.recs[0], Gap)
    assert message.recs[0].kinds == {"event": 1}


PUTTER = """
import sys
from pathlib import Path
from edge_agent.telemetry.identity import Identity
from edge_agent.telemetry.outbox import Outbox
from edge_agent.telemetry.outbox_file import Durability
from edge_contracts.keys import PublicKey, read_private
from edge_contracts.messages import Event
folder = Path(sys.argv[1])
key = read_private(folder / "device.key")
me = Identity("plant", "cam-1", key, key.public)
outbox = Outbox(folder / "outbox.db", me, durability=Durability(sys.argv[2]))
while True:
    n = outbox.next_seq
    outbox.put([Event(name=f"n{n}", time_ms=n)])
    outbox.waiting(10_000, ())
    print(n, flush=True)
"""


@pytest.mark.parametrize("durability", list(Durability))
def test_killed_at_any_moment_nothing_kept_is_lost_and_no_number_is_used_twice(
    tmp_path: Path, durability: Durability
) -> None:
    (tmp_path / "device.key").write_bytes(DEVICE_KEY.pem)
    printed = -1
    seen: dict[int, bytes] = {}
    for _ in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", PUTTER, str(tmp_path), durability], stdout=subprocess.PIPE, text=True
        ) as putter:
            assert putter.stdout is not None
            for _ in range(10):
                printed = int(putter.stdout.readline())
            os.kill(putter.pid, signal.SIGKILL)
            for line in putter.stdout:
                printed = int(line)
        outbox = Outbox(tmp_path / "outbox.db", ME, durability=durability)
        assert outbox.lost == ""
        rows = dict(everything(outbox))
        assert sorted(rows) == list(range(outbox.next_seq))
        assert outbox.next_seq in (printed + 1, printed + 2)
        assert all(rows[seq] == envelope for seq, envelope in seen.items()), "a number has other content now"
        seen = rows
        messages = opened(sorted(rows.items()))
        assert [r.name for m in messages for r in m.recs if isinstance(r, Event)] == [
            f"n{n}" for n in range(outbox.next_seq)
        ]
        for before, after in zip(sorted(rows.items()), messages[1:], strict=False):
            assert after.prev == hashlib.sha256(before[1]).digest()[:16]
        outbox.close()


def commits(outbox: Outbox) -> list[str]:
    """How durable each commit was that follows."""
    everything(outbox)  # the first look at a file is a commit
    told: list[str] = []
    level = {1: "NORMAL", 2: "FULL"}[boundary(outbox).execute("PRAGMA synchronous").fetchone()[0]]

    def trace(statement: str) -> None:
        nonlocal level
        if statement.startswith("PRAGMA synchronous"):
            level = statement.split(" = ")[1]
        if statement == "COMMIT":
            told.append(level)

    boundary(outbox).set_trace_callback(trace)
    return told


@pytest.mark.parametrize(("durability", "put"), [(Durability.POWER, "FULL"), (Durability.PROCESS, "NORMAL")])
def test_a_seal_is_on_the_disk_before_it_leaves_whatever_the_durability(
    path: Path, durability: Durability, put: str
) -> None:
    outbox = Outbox(path, ME, durability=durability)
    told = commits(outbox)
    outbox.put([window(1)])
    sent = everything(outbox)
    outbox.acknowledge(ack(outbox, 0, sent[0][1]))
    assert told == [put, "FULL", "NORMAL"]
    assert sqlite3.connect(path).execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_in_mode_process_what_is_put_is_synced_now_and_then(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outbox = Outbox(path, ME, durability=Durability.PROCESS)
    told = commits(outbox)
    outbox.put([window(1)])
    outbox._synced_s -= 31
    outbox.put([window(2)])
    outbox.put([window(3)])
    assert told == ["NORMAL", "FULL", "NORMAL"]


@pytest.mark.parametrize(
    ("durability", "told"), [(Durability.PROCESS, "the power went"), (Durability.POWER, "")]
)
def test_a_power_cut_in_mode_process_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, durability: Durability, told: str
) -> None:
    boot = tmp_path / "boot_id"
    monkeypatch.setattr(outbox_file, "BOOT_ID", boot)
    boot.write_text("one")
    outbox = Outbox(path, ME, durability=durability)
    outbox.put([window(1)])
    everything(outbox)
    for copy in path.parent.glob("outbox.db*"):  # what is on the disk when the power goes
        shutil.copy(copy, tmp_path / f"cut-{copy.name}")
    boot.write_text("two")
    after = Outbox(tmp_path / "cut-outbox.db", ME, durability=durability)
    assert after.lost.startswith(told)
    assert bool(after.lost) == bool(told)
    assert everything(after)[0] == everything(outbox)[0]
    outbox.close()
    assert Outbox(path, ME, durability=durability).lost == "", "a stop in good order is no power cut"
