"""The outbox: numbered, chained, signed, bounded, and emptied by nothing but a true ack."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.errors import OutboxUnwritable
from edge_agent.telemetry.outbox import Identity, Limits, Outbox
from edge_contracts import topics
from edge_contracts.keys import PrivateKey
from edge_contracts.messages import Ack, Event, Gap, Telemetry, Window, seal, unseal

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


def event(name: str = "started") -> Event:
    return Event(name=name, time_ms=1)


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


def test_envelopes_are_numbered_from_zero_and_each_names_the_one_before(path: Path) -> None:
    outbox = Outbox(path, ME)
    for n in range(4):
        outbox.put([window(n)])
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
    for n in range(3):
        outbox.put([window(n)])
    sent = everything(outbox)
    assert outbox.acknowledge(ack(outbox, 1, sent[1][1])) == "advanced"
    assert [seq for seq, _ in everything(outbox)] == [2]
    assert outbox.acknowledge(ack(outbox, 2, sent[2][1])) == "advanced"
    assert len(outbox) == 0
    assert outbox.put([window()]).last_seq == 3


def test_an_ack_of_an_empty_server_and_an_old_ack_change_nothing(path: Path) -> None:
    outbox = Outbox(path, ME)
    outbox.put([window()])
    outbox.put([window()])
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
    for n in range(5):
        outbox.put([window(n)])
    assert [seq for seq, _ in outbox.waiting(2, {0, 2})] == [1, 3]


def test_a_full_outbox_drops_the_oldest_windows_and_owns_up_to_it(path: Path) -> None:
    outbox = Outbox(path, ME, Limits(envelopes=10))
    outbox.put([event("first")])
    dropped: set[int] = set()
    for n in range(30):
        dropped |= set(outbox.put([window(n)]).dropped)
    messages = opened(everything(outbox))
    assert len(messages) <= 11
    kept = [m.seq for m in messages]
    assert 0 in kept, "an event went before the windows"
    gaps = [r for m in messages for r in m.recs if isinstance(r, Gap)]
    owned = {seq for gap in gaps for seq in range(gap.first_seq, gap.last_seq + 1)}
    assert owned == set(range(outbox.next_seq)) - set(kept) == dropped
    windows_kept = sum(isinstance(r, Window) for m in messages for r in m.recs)
    assert sum(gap.records for gap in gaps) == 30 - windows_kept
    assert outbox.dropped_records == 30 - windows_kept


def test_gaps_are_sent_before_anything_else(path: Path) -> None:
    outbox = Outbox(path, ME, Limits(envelopes=10))
    for n in range(12):
        outbox.put([window(n)])
    first = opened(outbox.waiting(1, ()))[0]
    assert isinstance(first.recs[0], Gap)


def test_gaps_that_must_go_themselves_are_owned_up_to_by_the_next(path: Path) -> None:
    outbox = Outbox(path, ME, Limits(envelopes=4))
    for n in range(200):
        outbox.put([event(f"e{n}")])
    messages = opened(everything(outbox))
    kept = {m.seq for m in messages}
    gaps = [r for m in messages for r in m.recs if isinstance(r, Gap)]
    owned = {seq for gap in gaps for seq in range(gap.first_seq, gap.last_seq + 1)}
    assert owned | kept == set(range(outbox.next_seq))
    assert len(messages) <= 5
    events_kept = sum(isinstance(r, Event) for m in messages for r in m.recs)
    assert sum(gap.records for gap in gaps) == 200 - events_kept


def test_the_outbox_is_bounded_by_bytes_too(path: Path) -> None:
    outbox = Outbox(path, ME, Limits(size_bytes=20_000))
    for n in range(200):
        outbox.put([window(n)])
    assert outbox.size_bytes <= 20_000
    assert outbox.size_bytes == sum(len(envelope) for _, envelope in everything(outbox))


def test_an_ack_over_a_hole_is_believed_when_it_names_an_envelope_that_is_there(path: Path) -> None:
    outbox = Outbox(path, ME, Limits(envelopes=10))
    for n in range(12):
        outbox.put([window(n)])
    seq, envelope = max(everything(outbox))
    assert outbox.acknowledge(ack(outbox, seq, envelope)) == "advanced"
    assert len(outbox) == 0


def test_an_ack_for_numbers_not_given_out_yet_shows_an_old_copy_which_begins_again(path: Path) -> None:
    outbox = Outbox(path, ME)
    outbox.put([window(7)])
    outbox.put([event()])
    assert outbox.acknowledge(ack(outbox, 99, b"")) == "behind"
    epoch = outbox.epoch
    outbox.begin_again()
    messages = opened(everything(outbox))
    assert outbox.epoch != epoch
    assert [m.seq for m in messages] == [0, 1]
    assert [m.prev == ZEROS for m in messages] == [True, False]
    assert messages[0].recs == (window(7),)


def test_more_records_than_an_envelope_carries_are_spread_over_several(path: Path) -> None:
    outbox = Outbox(path, ME)
    outbox.put([event("e") for _ in range(2500)])
    assert [len(m.recs) for m in opened(everything(outbox))] == [1000, 1000, 500]
    outbox.put([Event(name="e", time_ms=1, detail="x" * 500) for _ in range(999)])
    messages = opened(everything(outbox))[3:]
    assert sum(len(m.recs) for m in messages) == 999
    assert len(messages) == 4  # half a megabyte, halved until each part is under 256 KiB


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


def test_a_full_disk_uses_no_number_and_keeps_what_was_there(path: Path) -> None:
    outbox = Outbox(path, ME)
    outbox.put([window()])
    limiter = outbox._db  # SQLite's own limit of pages is the same error as a full disk
    pages = limiter.execute("PRAGMA page_count").fetchone()[0]
    limiter.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(OutboxUnwritable, match="full"):
        outbox.put([Event(name="e", time_ms=1, detail="x" * 500) for _ in range(200)])
    assert outbox.next_seq == 1
    assert len(outbox) == 1
    limiter.execute("PRAGMA max_page_count = 100000")
    assert outbox.put([event()]).last_seq == 1


def test_an_outbox_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutboxUnwritable, match="cannot open"):
        Outbox(tmp_path / "nowhere" / "outbox.db", ME)


def test_the_file_is_for_the_owner_only(path: Path) -> None:
    Outbox(path, ME)
    assert path.stat().st_mode & 0o077 == 0


PUTTER = """
import sys
from pathlib import Path
from edge_agent.telemetry.outbox import Identity, Outbox
from edge_contracts.keys import PublicKey, read_private
from edge_contracts.messages import Event
folder = Path(sys.argv[1])
key = read_private(folder / "device.key")
outbox = Outbox(folder / "outbox.db", Identity("plant", "cam-1", key, key.public))
while True:
    n = outbox.next_seq
    outbox.put([Event(name=f"n{n}", time_ms=n)])
    print(n, flush=True)
"""


def test_killed_at_any_moment_nothing_kept_is_lost_and_no_number_is_used_twice(tmp_path: Path) -> None:
    (tmp_path / "device.key").write_bytes(DEVICE_KEY.pem)
    printed = -1
    seen: dict[int, bytes] = {}
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", PUTTER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as putter:
            assert putter.stdout is not None
            for _ in range(10):
                printed = int(putter.stdout.readline())
            os.kill(putter.pid, signal.SIGKILL)
            for line in putter.stdout:
                printed = int(line)
        outbox = Outbox(tmp_path / "outbox.db", ME)
        rows = dict(everything(outbox))
        assert sorted(rows) == list(range(outbox.next_seq))
        assert outbox.next_seq in (printed + 1, printed + 2)
        assert all(rows[seq] == envelope for seq, envelope in seen.items()), "a number has other content now"
        seen = rows
        messages = opened(sorted(rows.items()))
        assert [m.recs[0].name for m in messages if isinstance(m.recs[0], Event)] == [
            f"n{n}" for n in range(outbox.next_seq)
        ]
        for before, after in zip(sorted(rows.items()), messages[1:], strict=False):
            assert after.prev == hashlib.sha256(before[1]).digest()[:16]
        outbox.close()


def test_the_database_really_syncs_each_commit(path: Path) -> None:
    outbox = Outbox(path, ME)
    assert outbox._db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert sqlite3.connect(path).execute("PRAGMA journal_mode").fetchone() == ("wal",)
