from __future__ import annotations

from typing import Any

import pytest
from fleet_device import SOME_BUNDLE, Outbox, event, window
from fleet_streams import Device
from msgspec.structs import replace
from sqlalchemy import select

from edge_contracts.envelope import seal
from edge_contracts.lineup import LineupCounts
from edge_contracts.messages import CHAIN_START, Gap, Phase, Progress, ScalarCounts, Telemetry
from edge_contracts.sketch import QuantileSketch
from edge_fleet import orders, schema
from edge_fleet.assignment import State
from edge_fleet.intake import Outcome
from edge_fleet.store import Store
from edge_fleet.stream import Position

# what gates and alerts need of a window besides its counts; fields that came after the first release
LATER: dict[str, Any] = {
    "lineup": LineupCounts(sure=3, uncertain=2).model_dump(mode="json"),
    "merged": 3,
    "epsilon": 0.5,
    "clock_step_ms": -4_000,
    "software": {"agent": "0.1.0"},
    "child_rss_bytes": 5,
    "drifting": ["data-drift"],
}


@pytest.fixture
def device(store: Store) -> Device:
    device = Device(store)
    device.take(device.state())
    return device


def count(store: Store, table: Any) -> int:
    with store.read() as connection:
        return len(connection.execute(select(table)).all())


def reasons(outcome: Outcome) -> list[str]:
    return [refused.reason for refused in outcome.refused]


def test_envelopes_are_stored_with_their_records_and_acknowledged(device: Device) -> None:
    reasons: dict[str, Any] = {
        "errors": {"oom": 2, "nan": 1},
        "refused": {"shape": 4},
        "unserved": {"late": 9},
    }
    faulty = window(inferences=7, **reasons, **LATER)
    device.outbox.add(faulty, event("started"))
    device.outbox.add(window())
    outcome = device.take(device.telemetry(0), device.telemetry(1))
    assert device.position(outcome) == Position(1, device.chain(1))
    assert (outcome.envelopes, outcome.records, outcome.refused) == (2, 3, [])
    with device.store.read() as connection:
        row = connection.execute(select(schema.windows).order_by(schema.windows.c.id)).first()
        told = connection.execute(select(schema.events)).one()
    assert row is not None
    assert (row.device, row.bundle, row.inferences, row.errors, row.refused) == ("d1", SOME_BUNDLE, 7, 3, 4)
    assert row.reasons == reasons | {"flagged": {}}
    assert {name: getattr(row, name) for name in LATER} == LATER
    assert (told.name, told.seq, told.received_ms) == ("started", 0, 6_000)


def test_sketches_and_counts_come_back_as_they_were_sent(device: Device) -> None:
    sketch = QuantileSketch(bins={-3: 2, 40: 1})
    scalars = (ScalarCounts(name="input:x:mean", counts=(1, 0, 5)),)
    device.outbox.add(window(latency_ms=sketch, scalars=scalars))
    device.take(device.telemetry(0))
    with device.store.read() as connection:
        row = connection.execute(select(schema.windows)).one()
    assert {int(index): n for index, n in row.latency.items()} == {-3: 2, 40: 1}
    assert row.scalars == {"input:x:mean": [1, 0, 5]}


def test_an_envelope_that_comes_again_is_acknowledged_again_and_stored_once(device: Device) -> None:
    device.fill(2)
    device.take(device.telemetry(0), device.telemetry(1))
    outcome = device.take(device.telemetry(0), device.telemetry(0))
    assert device.position(outcome) == Position(1, device.chain(1))
    assert (outcome.envelopes, outcome.refused) == (0, [])
    assert count(device.store, schema.windows) == 2


def test_an_envelope_twice_in_one_batch_is_stored_once(device: Device) -> None:
    device.fill(1)
    assert device.take(device.telemetry(0), device.telemetry(0)).envelopes == 1
    assert count(device.store, schema.envelopes) == 1


def test_envelopes_out_of_order_are_kept_but_only_the_unbroken_run_is_acknowledged(device: Device) -> None:
    device.fill(5)
    for seq in (0, 3, 4, 2):
        assert device.position(device.take(device.telemetry(seq))) == Position(0, device.chain(0))
    assert device.position(device.take(device.telemetry(1))) == Position(4, device.chain(4))


def test_a_batch_in_reverse_order_is_a_whole_stream(device: Device) -> None:
    device.fill(20)
    outcome = device.take(*(device.telemetry(seq) for seq in reversed(range(20))))
    assert device.position(outcome) == Position(19, device.chain(19))


def test_a_hole_of_thousands_is_closed_when_its_last_envelope_comes(device: Device) -> None:
    device.fill(1_200)
    device.take(*(device.telemetry(seq) for seq in range(1_200) if seq != 5))
    assert device.position(device.take(device.telemetry(5))).high == 1_199


def test_losses_that_the_device_owns_up_to_close_a_hole(device: Device) -> None:
    device.fill(6)  # 1 to 4 were dropped on the device
    device.outbox.add(Gap(first_seq=1, last_seq=4, records=9, reason="outbox full"))
    assert device.position(device.take(device.telemetry(0), device.telemetry(5))).high == 0
    assert device.position(device.take(device.telemetry(6))) == Position(6, device.chain(6))
    with device.store.read() as connection:
        row = connection.execute(select(schema.gaps)).one()
    assert (row.first_seq, row.last_seq, row.records, row.reason) == (1, 4, 9, "outbox full")


def test_fields_that_have_no_column_are_kept_in_the_envelope(device: Device) -> None:
    device.fill(2)
    device.outbox.add(
        Gap(first_seq=1, last_seq=1, records=2, reason="outbox full", kinds={"window": 2}, first_ms=5),
        window(merged=4, epsilon=0.5),
    )
    device.take(device.telemetry(0))
    outcome = device.take(device.telemetry(2))
    assert (device.position(outcome).high, outcome.records, reasons(outcome)) == (2, 2, [])


def test_a_gap_may_come_before_the_envelopes_around_it(device: Device) -> None:
    device.fill(3)
    device.outbox.add(Gap(first_seq=1, last_seq=1, records=1, reason="outbox full"))
    device.take(device.telemetry(3))
    device.take(device.telemetry(0))
    assert device.position(device.take(device.telemetry(2))) == Position(3, device.chain(3))


def test_a_gap_cannot_excuse_what_has_not_been_numbered_yet(device: Device) -> None:
    device.outbox.add(Gap(first_seq=0, last_seq=50, records=1, reason="outbox full"))
    device.fill(3)
    device.take(device.telemetry(0))
    assert device.position(device.take(device.telemetry(3))) == Position(0, device.chain(0))


def test_a_second_envelope_under_one_number_is_refused_and_kept_as_evidence(device: Device) -> None:
    device.fill(2)
    device.take(device.telemetry(0), device.telemetry(1))
    other = Telemetry(epoch=device.outbox.epoch, seq=1, prev=device.chain(0), recs=(window(inferences=99),))
    forged = seal(other, device.outbox.topic, device.key)
    outcome = device.take(device.verified(forged), device.verified(forged))
    assert reasons(outcome) == ["fork", "fork"]
    assert device.position(outcome) == Position(1, device.chain(1)), "who was set back learns it by this"
    with device.store.read() as connection:
        assert connection.execute(select(schema.forks.c.raw)).scalars().all() == [forged]
    assert count(device.store, schema.windows) == 2


def test_an_envelope_that_does_not_follow_from_its_predecessor_is_refused(device: Device) -> None:
    device.fill(1)
    device.take(device.telemetry(0))
    other = Telemetry(epoch=device.outbox.epoch, seq=1, prev=b"x" * 16, recs=(window(),))
    arrived = replace(device.verified(seal(other, device.outbox.topic, device.key)), topic="its own")
    outcome = device.take(arrived)
    assert reasons(outcome) == ["chain-broken"]
    assert outcome.refused[0].topic == "its own", "whose signature it carries is asked for that topic"
    assert device.position(outcome).high == 0
    assert count(device.store, schema.envelopes) == 1


def test_a_forgery_ahead_of_a_hole_does_not_survive_its_closing(device: Device) -> None:
    """Envelope 2 was stored before 1; a 1 that does not lead to it is refused."""
    device.fill(3)
    device.take(device.telemetry(0), device.telemetry(2))
    other = Telemetry(epoch=device.outbox.epoch, seq=1, prev=device.chain(0), recs=(window(inferences=99),))
    forged = device.verified(seal(other, device.outbox.topic, device.key))
    assert reasons(device.take(forged)) == ["chain-broken"]
    assert device.position(device.take(device.telemetry(1))).high == 2


def test_an_epoch_that_no_hello_announced_is_refused(store: Store) -> None:
    device = Device(store)
    device.fill(1)
    outcome = device.take(device.telemetry(0))
    assert reasons(outcome) == ["epoch-unannounced"]
    assert outcome.acks == {}
    assert count(store, schema.envelopes) == 0


def test_a_hello_in_the_same_batch_announces_the_epoch_even_when_it_comes_later(store: Store) -> None:
    device = Device(store)
    device.fill(1)
    assert device.position(device.take(device.telemetry(0), device.state())).high == 0


def test_a_status_does_not_announce_an_epoch(store: Store) -> None:
    device = Device(store)
    device.fill(1)
    assert reasons(device.take(device.state("status"), device.telemetry(0))) == ["epoch-unannounced"]


def test_a_new_epoch_starts_at_nothing_and_the_old_one_can_still_be_finished(device: Device) -> None:
    device.fill(2)
    device.take(device.telemetry(0))
    old = device.outbox
    device.outbox = Outbox("d1", "f", device.key)
    outcome = device.take(device.state())
    assert device.position(outcome) == Position(-1, CHAIN_START)
    late = device.take(device.verified(old.sealed[1]))
    assert late.acks[("d1", old.epoch)].high == 1
    with device.store.read() as connection:
        changed = connection.execute(select(schema.audit)).one()
    assert changed.actor == "device/d1"
    assert changed.detail == {"before": old.epoch, "after": device.outbox.epoch}


def speaks(device: Device, outbox: Outbox, at_ms: int) -> Outcome:
    device.outbox = outbox
    return device.take(replace(device.state(), received_ms=at_ms))


def test_hellos_of_two_epochs_in_turns_are_taken_and_kept_as_evidence(device: Device) -> None:
    """A memory that was begun anew is never followed by the one before and then by itself: there are two."""
    own, other = device.outbox, Outbox("d1", "f", device.key)
    assert reasons(speaks(device, other, 6_000)) == []
    assert reasons(speaks(device, own, 7_000)) == []
    outcome = speaks(device, other, 8_000)
    assert (reasons(outcome), outcome.greeted) == (["two-memories"], ["d1"])
    assert other.epoch in outcome.refused[0].detail
    assert reasons(speaks(device, other, 9_000)) == []


def test_a_device_whose_disk_fails_now_and_then_is_one(device: Device) -> None:
    """It speaks from memory meanwhile, each time under an epoch of its own."""
    own = device.outbox
    for at_ms in (10_000, 20_000, 30_000):
        assert reasons(speaks(device, Outbox("d1", "f", device.key), at_ms)) == []
        assert reasons(speaks(device, own, at_ms + 5_000)) == []


def test_a_hello_is_answered_with_the_position_of_its_epoch(device: Device) -> None:
    device.fill(3)
    device.take(*(device.telemetry(seq) for seq in range(3)))
    outcome = device.take(device.state())
    assert device.position(outcome) == Position(2, device.chain(2))
    assert outcome.greeted == ["d1"]


def test_hellos_of_one_batch_are_each_answered_with_their_own_position(device: Device) -> None:
    device.fill(1)
    device.take(device.telemetry(0))
    before, old = device.state(), device.outbox.epoch
    device.outbox = Outbox("d1", "f", device.key)
    outcome = device.take(before, device.state())
    positions = {epoch: position.high for (_, epoch), position in outcome.acks.items()}
    assert positions == {old: 0, device.outbox.epoch: -1}


@pytest.mark.parametrize("number", [1, 0])
def test_a_snapshot_that_is_not_newer_is_refused_and_changes_nothing(device: Device, number: int) -> None:
    outcome = device.take(device.state(n=number, counter=77))
    assert reasons(outcome) == ["replayed"]
    assert (outcome.greeted, outcome.acks) == ([], {})
    with device.store.read() as connection:
        state = connection.execute(select(schema.devices.c.state)).scalar_one()
    assert state["counter"] == 0


def test_progress_moves_the_assignment_that_it_names(device: Device) -> None:
    with device.store.write() as connection:
        first = orders.issue(connection, "d1", None, 1)
        second = orders.issue(connection, "d1", None, 2)
    told = Progress(assignment=first, phase=Phase.REFUSED, code="no-space", detail="2 MB free, 9 needed")
    device.take(device.state("status", progress=told))
    with device.store.read() as connection:
        rows = connection.execute(select(schema.assignments).order_by(schema.assignments.c.number)).all()
    assert [(row.number, row.phase) for row in rows] == [(first, State.REFUSED), (second, State.PENDING)]
    assert (rows[0].code, rows[0].detail) == ("no-space", "2 MB free, 9 needed")


def test_a_device_cannot_take_back_a_refusal(device: Device) -> None:
    with device.store.write() as connection:
        number = orders.issue(connection, "d1", None, 1)
    for phase in (Phase.REFUSED, Phase.CONFIRMED):
        outcome = device.take(device.state("status", progress=Progress(assignment=number, phase=phase)))
        assert outcome.changed == ["d1"]
    with device.store.read() as connection:
        assert connection.execute(select(schema.assignments.c.phase)).scalar() == State.REFUSED


def test_progress_of_an_assignment_that_never_was_changes_nothing(device: Device) -> None:
    outcome = device.take(device.state("status", progress=Progress(assignment=9, phase=Phase.CONFIRMED)))
    assert outcome.refused == []
    assert count(device.store, schema.assignments) == 0


def test_many_devices_in_one_batch_do_not_mix(store: Store) -> None:
    devices = [Device(store, f"d{n}") for n in range(30)]
    batch = []
    for device in devices:
        device.fill(12)
        batch += [device.state(), *(device.telemetry(seq) for seq in range(12))]
    outcome = devices[0].take(*batch)
    assert outcome.refused == []
    for device in devices:
        assert device.position(outcome) == Position(11, device.chain(11))
    assert count(store, schema.windows) == 360
