"""An outbox is emptied by nothing but a true acknowledgement."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from outbox_records import (
    ACK,
    DEVICE_KEY,
    DIRECTOR,
    ME,
    TELEMETRY,
    ZEROS,
    ack,
    alarm,
    everything,
    filled,
    lonely,
    opened,
    put_apart,
    window,
)

from edge_agent.telemetry.outbox import Limits, Outbox
from edge_contracts.envelope import seal
from edge_contracts.keys import PrivateKey
from edge_contracts.messages import Ack


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "outbox.db"


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


def test_an_ack_of_an_empty_server_and_one_that_says_less_than_before_change_nothing(path: Path) -> None:
    outbox = Outbox(path, ME)
    filled(outbox, 2)
    sent = everything(outbox)
    assert outbox.acknowledge(ack(outbox, -1, None)) == "nothing-new"
    outbox.acknowledge(ack(outbox, 1, sent[1][1]))
    assert outbox.acknowledge(ack(outbox, 0, sent[0][1])) == "forgotten"
    assert (outbox.remembered, outbox.acked) == (0, 1)
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
        "that is not an envelope",
    ],
)
def test_an_ack_is_refused(path: Path, what: str) -> None:
    outbox = Outbox(path, ME)
    outbox.put([window()])
    sent = everything(outbox)
    assert outbox.acknowledge(forged(outbox, sent[0][1])[what]) == "refused"
    assert everything(outbox) == sent


def test_an_ack_for_a_number_that_went_with_a_loss_is_of_another_history(path: Path) -> None:
    outbox = Outbox(path, ME, Limits(records=20))
    for n in range(40):
        outbox.put([lonely(n)])
    sent = everything(outbox)
    assert [seq for seq, _ in sent] == [1]
    assert outbox.acknowledge(ack(outbox, 0, sent[0][1])) == "forked"
    assert everything(outbox) == sent


@pytest.mark.parametrize("acked", [False, True])
def test_an_ack_for_another_history_forgets_nothing_and_the_outbox_begins_again(
    path: Path, acked: bool
) -> None:
    """A device whose disk was set back by seconds gives numbers out twice: those never count."""
    outbox = Outbox(path, ME)
    put_apart(outbox, window(7), window(8))
    if acked:
        sent = everything(outbox)
        assert outbox.acknowledge(ack(outbox, 0, sent[0][1])) == "advanced"
    waits = everything(outbox)
    assert outbox.acknowledge(ack(outbox, 0 if acked else 1, b"of the other copy")) == "forked"
    assert everything(outbox) == waits
    epoch = outbox.epoch
    outbox.begin_again()
    (message,) = opened(everything(outbox))
    assert (outbox.epoch != epoch, message.seq, message.prev) == (True, 0, ZEROS)
    assert message.recs == ((window(8),) if acked else (window(7), window(8)))


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
