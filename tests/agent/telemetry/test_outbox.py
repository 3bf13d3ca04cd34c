"""The outbox: numbered, chained, signed, bounded, and emptied by nothing but a true ack."""

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

from edge_agent.errors import OutboxUnwritable
from edge_agent.telemetry import outbox_file
from edge_agent.telemetry.outbox import Identity, Limits, Outbox
from edge_agent.telemetry.outbox_file import Durability
from edge_contracts import topics
from edge_contracts.keys import PrivateKey
from edge_contracts.messages import Ack, Event, Gap, Record, Telemetry, Window, seal, unseal

DEVICE_KEY = PrivateKey.generate()
DIRECTOR = PrivateKey.generate()
ME = Identity("plant", "cam-1", DEVICE_KEY, DIRECTOR.public)
TELEMETRY = topics.topic("plant", "cam-1", topics.Channel.TELEMETRY)
ACK = topics.topic("plant", "cam-1", topics.Channel.ACK)
ZEROS = bytes(16)


def window(n: int = 0) -> Window:
    return Window(
        bundle="sha256:" + "0" * 64,
        artifact="int8",
        runtime="litert 2",
        start_ms=n,
        end_ms=n + 1,
        duration_ms=1,
        inferences=n,
    )


def lonely(n: int) -> Window:
    """A window that cannot be added to another: it is a day long already."""
    return window(n).model_copy(update={"duration_ms": 24 * 3600 * 1000})


def event(name: str = "started") -> Event:
    return Event(name=name, time_ms=1)


def alarm(name: str) -> Event:
    return Event(name=name, time_ms=2, code="crash")


def opened(envelopes: list[tuple[int, bytes]]) -> list[Telemetry]:
    return [unseal(Telemetry, envelope, TELEMETRY, DEVICE_KEY.public) for _, envelope in envelopes]


def ack(outbox: Outbox, high: int, envelope: bytes | None, **changes: object) -> bytes:
    chain = hashlib.sha256(envelope).digest()[:16] if envelope is not None else ZEROS
    fields = {"device": "cam-1", "epoch": outbox.epoch, "high": high, "chain": chain, **changes}
    return seal(Ack.model_validate(fields), ACK, DIRECTOR)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


def everything(outbox: Outbox) -> list[tuple[int, bytes]]:
    return outbox.waiting(10_000, ())


def put_apart(outbox: Outbox, *records: Record) -> None:
    """Each record in an envelope of its own, as when there is always room on the way."""
    for record in records:
        outbox.put([record])
        everything(outbox)


def filled(outbox: Outbox, count: int) -> None:
    put_apart(outbox, *(window(n) for n in range(count)))


def boundary(outbox: Outbox) -> sqlite3.Connection:
    """The outbox's own connection: SQLite's limit of pages is the same error as a full disk."""
    return outbox._file.db


def test_envelopes_are_numbered_from_zero_and_each_names_the_one_before(path: Path) -> None:
    outbox = Outbox(path, ME)
    filled(outbox, 4)
    sent = everything(outbox)
    messages = opened(sent)
    assert [m.seq for m in messages] == [0, 1, 2, 3]
    assert {m.epoch for m in messages} == {outbox.epoch}
    hashes = [hashlib.sha256(envelope).digest()[:16] for _, envelope in sent]
    assert [m.prev for m in messages] == [ZEROS, *hashes[:-1]]


def test_the_chain_and_the_bytes_survive_a_restart(path: Path) -> None:
    first = Outbox(path, ME)
    first.put([window()])
    before = everything(first)
    first.close()
    second = Outbox(path, ME)
    second.put([event()])
    after = everything(second)
    assert after[0] == before[0]
    assert opened(after)[1].prev == hashlib.sha256(before[0][1]).digest()[:16]
    assert second.epoch == first.epoch


def test_an_ack_empties_the_outbox_up_to_its_number_and_numbers_go_on(path: Path) -> None:
    outbox = Outbox(path, ME)
    filled(outbox, 3)
    sent = everything(outbox)
    assert outbox.acknowledge(ack(outbox, 1, sent[1][1])) == "advanced"
    assert [seq for seq, _ in everything(outbox)] == [2]
    assert outbox.acknowledge(ack(outbox, 2, sent[2][1])) == "advanced"
    assert len(outbox) == 0
    outbox.put([window()])
    assert [seq for seq, _ in everything(outbox)] == [3]


def test_an_ack_of_an_empty_server_and_an_old_ack_change_nothing(path: Path) -> None:
    outbox = Outbox(path, ME)
    filled(outbox, 2)
    sent = everything(outbox)
    assert outbox.acknowledge(ack(outbox, -1, None)) == "nothing-new"
    outbox.acknowledge(ack(outbox, 1, sent[1][1]))
    assert outbox.acknowledge(ack(outbox, 0, sent[0][1])) == "nothing-new"
    assert outbox.acknowledge(ack(outbox, 1, sent[1][1])) == "nothing-new"


def forged(outbox: Outbox, envelope: bytes) -> dict[str, bytes]:
    good = Ack(device="cam-1", epoch=outbox.epoch, high=0, chain=hashlib.sha256(envelope).digest()[:16])
    flipped = bytearray(seal(good, ACK, DIRECTOR))
    flipped[-1] ^= 1
    return {
        "by another key": seal(good, ACK, PrivateKey.generate()),
        "by the device itself": seal(good, ACK, DEVICE_KEY),
        "on another topic": seal(good, TELEMETRY, DIRECTOR),
        "with one bit changed": bytes(flipped),
        "for another device": ack(outbox, 0, envelope, device="cam-2"),
        "for another epoch": ack(outbox, 0, envelope, epoch="0" * 16),
        "for another history": ack(outbox, 0, envelope + b"x"),
        "that is not an envelope": b"ack",
    }


@pytest.mark.parametrize(
    "what",
    [
        "by another key",
        "by the device itself",
        "on another topic",
        "with one bit changed",
        "for another device",
        "for another epoch",
        "for another history",
        "that is not an envelope",
    ],
)
def test_an_ack_is_refused(path: Path, what: str) -> None:
    outbox = Outbox(path, ME)
    outbox.put([window()])
    sent = everything(outbox)
    assert outbox.acknowledge(forged(outbox, sent[0][1])[what]) == "refused"
    assert everything(outbox) == sent


def test_what_is_on_its_way_is_not_given_out_again(path: Path) -> None:
    outbox = Outbox(path, ME)
    filled(outbox, 5)
    assert [seq for seq, _ in outbox.waiting(2, {0, 2})] == [1, 3]


def test_what_waits_together_leaves_in_one_envelope_alarms_first(path: Path) -> None:
    outbox = Outbox(path, ME)
    outbox.put([window(1), event("started")])
    outbox.put([alarm("golden-mismatch")])
    (message,) = opened(everything(outbox))
    assert message.recs == (alarm("golden-mismatch"), event("started"), window(1))
    assert len(outbox) == 1


def test_a_backlog_leaves_in_envelopes_of_a_hundred_records_or_64_kilobytes(path: Path) -> None:
    outbox = Outbox(path, ME)
    outbox.put([event("e") for _ in range(250)])
    assert [len(m.recs) for m in opened(everything(outbox))] == [100, 100, 50]
    outbox.put([Event(name="e", time_ms=1, detail="x" * 500) for _ in range(300)])
    sent = everything(outbox)[3:]
    assert sum(len(m.recs) for m in opened(sent)) == 300
    assert max(len(envelope) for _, envelope in sent) < 66_000


def test_places_on_the_way_are_kept_for_alarms(path: Path) -> None:
    outbox = Outbox(path, ME)
    outbox.put([event("e") for _ in range(1000)])
    assert [seq for seq, _ in outbox.waiting(5, (), reserve=2)] == [0, 1, 2]
    assert outbox.waiting(2, {0, 1, 2}, reserve=2) == []
    outbox.put([alarm("crash")])
    (urgent,) = opened(outbox.waiting(2, {0, 1, 2}, reserve=2))
    assert urgent.recs[0] == alarm("crash")


def test_what_is_sent_again_has_the_same_bytes_whatever_was_put_meanwhile(path: Path) -> None:
    outbox = Outbox(path, ME)
    outbox.put([window(1)])
    (first,) = everything(outbox)
    outbox.put([alarm("crash"), window(2)])
    assert everything(outbox)[0] == first


def test_a_full_outbox_adds_up_windows_before_it_drops_anything(path: Path) -> None:
    outbox = Outbox(path, ME, Limits(records=10))
    for n in range(1, 31):
        outbox.put([window(n)])
    outbox.put([event("first")])
    assert len(outbox) <= 10
    messages = opened(everything(outbox))
    records = [record for message in messages for record in message.recs]
    windows = [record for record in records if isinstance(record, Window)]
    assert sum(one.merged for one in windows) == 30
    assert sum(one.inferences for one in windows) == sum(range(1, 31))
    assert min(one.start_ms for one in windows) == 1
    assert max(one.merged for one in windows) > 1
    assert not any(isinstance(record, Gap) for record in records)
    assert outbox.dropped_records == 0


def test_windows_of_several_models_are_not_mixed(path: Path) -> None:
    outbox = Outbox(path, ME, Limits(records=10))
    other = "sha256:" + "1" * 64
    for _ in range(30):
        outbox.put([window(1), window(100).model_copy(update={"bundle": other})])
    records = [record for message in opened(everything(outbox)) for record in message.recs]
    windows = [record for record in records if isinstance(record, Window)]
    assert {one.inferences / one.merged for one in windows} == {1, 100}
    assert sum(one.merged for one in windows) == 60


def test_what_has_been_sealed_is_neither_added_up_nor_dropped(path: Path) -> None:
    outbox = Outbox(path, ME, Limits(records=10))
    filled(outbox, 5)
    sent = everything(outbox)
    for n in range(50):
        outbox.put([window(n)])
    assert outbox.waiting(5, ()) == sent
    assert len(outbox) <= 10


def test_when_nothing_can_be_added_up_the_least_important_goes_first_and_is_owned_up_to(path: Path) -> None:
    outbox = Outbox(path, ME, Limits(records=20))
    outbox.put([alarm("crash"), event("started")])
    for n in range(1, 41):
        outbox.put([lonely(n)])
    records = [record for message in opened(everything(outbox)) for record in message.recs]
    assert alarm("crash") in records
    assert event("started") in records
    kept = [record.start_ms for record in records if isinstance(record, Window)]
    (gap,) = [record for record in records if isinstance(record, Gap)]
    assert kept == list(range(41 - len(kept), 41)), "the oldest went"
    assert (gap.reason, gap.kinds) == ("outbox full", {"window": 40 - len(kept)})
    assert (gap.first_ms, gap.last_ms) == (1, 41 - len(kept))
    assert gap.records == outbox.dropped_records == 40 - len(kept)


def test_a_loss_takes_a_number_with_it_and_is_told_before_anything_else(path: Path) -> None:
    outbox = Outbox(path, ME, Limits(records=20))
    filled(outbox, 1)
    for n in range(40):
        outbox.put([lonely(n)])
    sent = everything(outbox)
    before, after = opened(sent)
    assert (before.seq, after.seq) == (0, 2), "number 1 went with the loss"
    gap = after.recs[0]
    assert isinstance(gap, Gap)
    assert (gap.first_seq, gap.last_seq) == (1, 1)
    assert after.prev == hashlib.sha256(sent[0][1]).digest()[:16]
    assert outbox.acknowledge(ack(outbox, 2, sent[1][1])) == "advanced"
    assert len(outbox) == 0


def test_an_ack_for_a_number_that_went_with_a_loss_is_refused(path: Path) -> None:
    outbox = Outbox(path, ME, Limits(records=20))
    for n in range(40):
        outbox.put([lonely(n)])
    sent = everything(outbox)
    assert [seq for seq, _ in sent] == [1]
    assert outbox.acknowledge(ack(outbox, 0, sent[0][1])) == "refused"
    assert everything(outbox) == sent


def test_alarms_are_dropped_when_there_is_nothing_else(path: Path) -> None:
    outbox = Outbox(path, ME, Limits(records=20))
    for n in range(50):
        outbox.put([alarm(f"a{n}")])
    records = [record for message in opened(everything(outbox)) for record in message.recs]
    gaps = [record for record in records if isinstance(record, Gap)]
    assert sum(gap.records for gap in gaps) == 50 - sum(isinstance(record, Event) for record in records)
    assert gaps[0].kinds.keys() == {"event"}


def test_the_outbox_is_bounded_by_bytes_too(path: Path) -> None:
    outbox = Outbox(path, ME, Limits(size_bytes=20_000))
    for n in range(300):
        outbox.put([lonely(n)])
        if n == 30:
            everything(outbox)
    assert outbox.size_bytes <= 20_000
    size = sum(len(envelope) for _, envelope in everything(outbox))
    assert 5_000 < size < 20_000


def test_what_is_counted_is_what_is_there(path: Path) -> None:
    outbox = Outbox(path, ME, Limits(records=30))
    for n in range(100):
        outbox.put([window(n), lonely(n), alarm("a")])
        if n % 7 == 0:
            sent = everything(outbox)
        if n % 21 == 0:
            outbox.acknowledge(ack(outbox, sent[0][0], sent[0][1]))
        counted = (outbox._pending, outbox._pending_bytes, outbox._sealed, outbox._sealed_bytes)
        outbox._look()
        assert counted == (outbox._pending, outbox._pending_bytes, outbox._sealed, outbox._sealed_bytes)


def test_an_ack_for_numbers_not_given_out_yet_shows_an_old_copy_which_begins_again(path: Path) -> None:
    outbox = Outbox(path, ME)
    put_apart(outbox, window(7), alarm("crash"))
    outbox.put([window(8)])
    assert outbox.acknowledge(ack(outbox, 99, b"")) == "behind"
    epoch = outbox.epoch
    outbox.begin_again()
    (message,) = opened(everything(outbox))
    assert outbox.epoch != epoch
    assert (message.seq, message.prev) == (0, ZEROS)
    assert message.recs == (alarm("crash"), window(7), window(8))


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


def test_the_file_is_for_the_owner_only(path: Path) -> None:
    Outbox(path, ME)
    assert path.stat().st_mode & 0o077 == 0


PUTTER = """
import sys
from pathlib import Path
from edge_agent.telemetry.outbox import Identity, Outbox
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
    told: list[str] = []
    level = "?"

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
