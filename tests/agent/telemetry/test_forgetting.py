"""A server that was restored from a backup, and a device that was: each learns it from acks, and goes on."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from enrolled_device import device_config
from outbox_records import DEVICE_KEY, DIRECTOR, TELEMETRY, ack, event, lonely

from edge_agent.device.home import Home
from edge_agent.telemetry.flight import RESERVE, WINDOW
from edge_agent.telemetry.forgetting import REASON, SURE_S, Forgetting, forgotten
from edge_agent.telemetry.mqtt import Link
from edge_agent.telemetry.outbox import Outbox
from edge_agent.telemetry.reporter import Reporter
from edge_contracts.envelope import unseal
from edge_contracts.messages import DeviceState, Gap, Telemetry
from edge_contracts.topics import Channel, topic


class Heard(Link):
    """A connection that is up and keeps what it is given."""

    said: list[tuple[Channel, bytes]]

    @property
    def is_up(self) -> bool:
        return True

    def publish(self, channel: Channel, payload: bytes) -> bool:
        self.said.append((channel, payload))
        return True


CONFIG = device_config(public_key=DEVICE_KEY.public.base64, director_key=DIRECTOR.public.base64)


def _state(kind: str, outbox: Outbox) -> DeviceState:
    return DeviceState(
        type="hello" if kind == "hello" else "status",
        device="cam-1",
        n=1,
        epoch=outbox.epoch,
        next_seq=outbox.next_seq,
        agent="0.1.0",
        profile=CONFIG.lineage,
        counter=0,
        time_ms=1,
    )


@pytest.fixture
def heard() -> Heard:
    link = Heard(CONFIG, lambda happening: None, Random(1))
    link.said = []
    return link


@pytest.fixture
def reporter(tmp_path: Path, heard: Heard) -> Reporter:
    """One whose first three envelopes have been acknowledged by a server that was not restored yet."""
    home = Home(tmp_path / "home")
    home.make()
    made = Reporter(home, CONFIG, DEVICE_KEY, heard, _state, Random(1))
    for n in range(3):
        made.keep([event(f"n{n}")])
        made.send(0.0)
    made.acknowledged(ack(made.outbox, 2, _sent(heard)[2]), 0.0)
    assert made.outbox.acked == 2
    return made


def _sent(heard: Heard) -> list[bytes]:
    return [payload for channel, payload in heard.said if channel is Channel.TELEMETRY]


def _gaps(heard: Heard) -> list[tuple[int, Gap]]:
    messages = [unseal(Telemetry, one, TELEMETRY, DEVICE_KEY.public) for one in _sent(heard)]
    return [(one.seq, record) for one in messages for record in one.recs if isinstance(record, Gap)]


def test_one_lower_ack_may_be_an_old_one_and_a_second_after_a_while_is_not() -> None:
    memory = Forgetting()
    assert not memory.said_less(100.0)
    assert not memory.said_less(100.0 + SURE_S - 0.1)
    assert memory.said_less(100.0 + SURE_S)
    assert not memory.said_less(1000.0), "owned up to once"


def test_a_server_that_remembers_after_all_begins_the_wait_anew() -> None:
    memory = Forgetting()
    memory.said_less(100.0)
    memory.remembers()
    assert not memory.said_less(100.0 + SURE_S)
    assert memory.said_less(100.0 + 2 * SURE_S)
    memory.remembers()  # and when it has forgotten again, later, that is owned up to again
    memory.said_less(200.0)
    assert memory.said_less(200.0 + SURE_S)


def test_the_gap_names_what_the_server_does_not_know_any_more() -> None:
    assert forgotten(-1, 11) == Gap(first_seq=0, last_seq=11, records=0, reason=REASON)


def test_a_device_owns_up_once_to_what_a_restored_server_can_never_get(
    reporter: Reporter, heard: Heard
) -> None:
    before = ack(reporter.outbox, 0, _sent(heard)[0])
    reporter.acknowledged(before, 10.0)
    assert _gaps(heard) == [], "it may be an old ack that was late"
    for now_s in (10.0 + SURE_S, 30.0, 60.0):
        reporter.acknowledged(before, now_s)
    assert _gaps(heard) == [(3, Gap(first_seq=1, last_seq=2, records=0, reason=REASON))]
    reporter.acknowledged(ack(reporter.outbox, 3, _sent(heard)[-1]), 61.0)
    assert reporter.outbox.acked == 3 and len(reporter.outbox) == 0


def test_the_gap_leaves_although_windows_have_taken_all_their_places_on_the_way(
    reporter: Reporter, heard: Heard
) -> None:
    before = ack(reporter.outbox, 0, _sent(heard)[0])
    for n in range(2 * WINDOW):
        reporter.keep([lonely(n)])
        reporter.send(9.0)
    assert len(_sent(heard)) == 3 + WINDOW - RESERVE
    reporter.acknowledged(before, 10.0)
    reporter.acknowledged(before, 20.0)
    assert [gap.last_seq for _, gap in _gaps(heard)] == [2]


def test_a_device_that_was_set_back_announces_a_new_epoch_and_sends_under_it_what_waits(
    reporter: Reporter, heard: Heard
) -> None:
    reporter.keep([event("waits")])
    reporter.send(1.0)
    before = reporter.outbox.epoch
    heard.said.clear()
    reporter.acknowledged(ack(reporter.outbox, 3, b"what its other copy said"), 2.0)
    (_, hello), *_ = heard.said
    where = topic("plant", "cam-1", Channel.HELLO)
    announced = unseal(DeviceState, hello, where, DEVICE_KEY.public).epoch
    [message] = [unseal(Telemetry, one, TELEMETRY, DEVICE_KEY.public) for one in _sent(heard)]
    assert announced == message.epoch != before
    assert (message.seq, message.recs) == (0, (event("waits"),))
