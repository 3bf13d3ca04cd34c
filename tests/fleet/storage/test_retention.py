from __future__ import annotations

import threading

import pytest
from fleet_device import window
from fleet_streams import Device
from sqlalchemy import insert, select

from edge_contracts.envelope import chain_value, seal
from edge_contracts.messages import CHAIN_START, Gap, Telemetry
from edge_fleet import schema
from edge_fleet.errors import RequestInvalid
from edge_fleet.storage.housekeeping import Housekeeper, parse_age
from edge_fleet.storage.retention import FIRST, prune_envelopes, prune_windows
from edge_fleet.storage.rollups import DAY_S, roll_up, series
from edge_fleet.store import Store
from edge_fleet.stream import Position
from edge_fleet.telemetry import last_id

OLD_MS, LIMIT_MS, YOUNG_MS = 1_000, 5_000, 9_000


@pytest.fixture
def device(store: Store) -> Device:
    """Six envelopes: four from before the limit, two after."""
    made = Device(store)
    made.take(made.state())
    made.fill(6)
    made.take(*(made.telemetry(n, OLD_MS if n < 4 else YOUNG_MS) for n in range(6)))
    return made


def _seqs(store: Store, device: str = "d1") -> list[int]:
    own = schema.envelopes.c
    with store.read() as connection:
        return list(
            connection.execute(select(own.seq).where(own.device == device).order_by(own.seq)).scalars()
        )


def _prune(store: Store, most: int = 100) -> int:
    with store.write() as connection:
        return prune_envelopes(connection, LIMIT_MS, FIRST, most).envelopes


def test_what_goes_leaves_the_value_that_the_rest_follows_from(store: Store, device: Device) -> None:
    assert _prune(store) == 4 and _seqs(store) == [4, 5]
    with store.read() as connection:
        stream = connection.execute(select(schema.streams)).one()
        first = connection.execute(select(schema.envelopes).order_by(schema.envelopes.c.seq)).first()
    assert first is not None
    assert (stream.pruned_to, first.seq, first.prev) == (3, 4, device.chain(3))
    chain = CHAIN_START  # an export of what went leads to the value that stayed
    for seq in range(4):
        raw = device.outbox.sealed[seq]
        assert device.verified(raw).message.prev == chain  # type: ignore[union-attr]
        chain = chain_value(raw)
    assert chain == first.prev


def test_small_steps_go_on_where_the_last_one_ended(store: Store, device: Device) -> None:
    assert [_prune(store, 3), _prune(store, 3), _prune(store, 3)] == [3, 1, 0]


def test_a_stream_goes_on_after_its_beginning_went(store: Store, device: Device) -> None:
    _prune(store)
    device.fill(1)
    outcome = device.take(device.telemetry(6))
    assert device.position(outcome) == Position(6, device.chain(6))


def test_even_when_all_is_old_the_end_that_the_next_follows_from_stays(store: Store, device: Device) -> None:
    with store.write() as connection:
        assert prune_envelopes(connection, YOUNG_MS + 1).envelopes == 5
    device.fill(1)
    assert device.position(device.take(device.telemetry(6))) == Position(6, device.chain(6))


def test_an_envelope_that_went_and_comes_again_is_acknowledged_and_not_stored(
    store: Store, device: Device
) -> None:
    _prune(store)
    outcome = device.take(device.telemetry(1))
    assert (outcome.envelopes, outcome.refused) == (0, [])
    assert device.position(outcome) == Position(5, device.chain(5))
    assert _seqs(store) == [4, 5]


def test_both_halves_of_a_fork_stay(store: Store, device: Device) -> None:
    other = Telemetry(
        epoch=device.outbox.epoch,
        seq=2,
        prev=chain_value(device.outbox.sealed[1]),
        recs=(window(inferences=99),),
    )
    forged = device.verified(seal(other, device.outbox.topic, device.key))
    assert [refused.reason for refused in device.take(forged).refused] == ["fork"]
    _prune(store)
    assert _seqs(store) == [2, 4, 5]
    with store.read() as connection:
        assert len(connection.execute(select(schema.forks)).all()) == 1


def test_what_is_beyond_a_hole_stays(store: Store) -> None:
    device = Device(store, "d2")
    device.take(device.state())
    device.fill(5)
    device.take(*(device.telemetry(n, OLD_MS) for n in (0, 1, 3, 4)))
    assert _prune(store) == 1 and _seqs(store, "d2") == [1, 3, 4]
    outcome = device.take(device.telemetry(2))
    assert device.position(outcome) == Position(4, device.chain(4))


def test_what_was_owned_up_to_as_lost_does_not_stop_it(store: Store) -> None:
    device = Device(store, "d2")
    device.take(device.state())
    device.fill(2)
    device.outbox.add(Gap(first_seq=1, last_seq=1, records=1, reason="full"))
    device.fill(1)
    device.take(*(device.telemetry(n, OLD_MS) for n in (0, 2, 3)))
    assert _prune(store) == 2 and _seqs(store, "d2") == [3]


def test_windows_go_when_they_are_in_the_sums_and_the_sums_stay(store: Store, device: Device) -> None:
    with store.write() as connection:
        assert prune_windows(connection, LIMIT_MS) == 0, "nothing is in the sums yet"
        roll_up(connection, 2)
        assert prune_windows(connection, LIMIT_MS) == 1, "the last that was summed stays"
        roll_up(connection)
        assert prune_windows(connection, LIMIT_MS) == 3, "two are young"
        assert roll_up(connection) == 0
        assert [row.inferences for row in series(connection, DAY_S, 0)] == [60]


def test_windows_that_come_after_all_others_were_past_their_time_are_summed(store: Store) -> None:
    """SQLite numbers rows from 1 again in a table that is empty: a weekend without devices, and 36h."""
    device = Device(store, "d2")
    device.take(device.state())
    device.fill(3)
    device.take(*(device.telemetry(n, OLD_MS) for n in range(3)))
    with store.write() as connection:
        roll_up(connection)
        prune_windows(connection, LIMIT_MS)
    device.fill(2)
    device.take(*(device.telemetry(n, YOUNG_MS) for n in (3, 4)))
    with store.write() as connection:
        assert roll_up(connection) == 2
        assert [row.inferences for row in series(connection, DAY_S, 0)] == [50]


def test_a_database_whose_windows_had_all_gone_sums_up_what_came_since(store: Store, device: Device) -> None:
    """Releases of before deleted the last one that was summed too."""
    with store.write() as connection:
        roll_up(connection)
        connection.execute(schema.windows.delete())
    device.fill(1)
    device.take(device.telemetry(6, YOUNG_MS))
    with store.write() as connection:
        connection.execute(schema.windows.update().values(id=1))  # as SQLite numbers it
        assert roll_up(connection) == 1 and roll_up(connection) == 0
        assert [row.inferences for row in series(connection, DAY_S, 0)] == [70]


def test_the_newest_envelope_stays_so_that_its_number_is_not_given_again(store: Store) -> None:
    """Whoever follows what is stored by its number (verified telemetry) would pass the next one over."""
    device = Device(store, "d2")
    device.take(device.state())
    device.fill(3)
    device.take(device.telemetry(0, OLD_MS), device.telemetry(2, OLD_MS))
    device.take(device.telemetry(1, OLD_MS))  # it fills the hole, and is the last to come
    with store.write() as connection:
        before = last_id(connection)
        prune_envelopes(connection, LIMIT_MS)
    device.fill(1)
    device.take(device.telemetry(3))
    with store.read() as connection:
        assert last_id(connection) > before


def test_a_rollout_at_work_keeps_the_windows_that_it_judges_by(store: Store, device: Device) -> None:
    """It looks back a day from its start; here it began just after the day."""
    day_ms = 86_400_000
    keeper = Housekeeper(store, 1_000, lambda: day_ms + LIMIT_MS + 1_000)
    with store.write() as connection:
        roll_up(connection)
        connection.execute(insert(schema.releases).values(counter=1, name="m", version="1", created_ms=1))
        connection.execute(
            insert(schema.rollouts).values(
                id="r",
                plan={},
                counter=1,
                phase="running",
                stage=0,
                since_ms=1,
                started_ms=day_ms + OLD_MS,
                created_ms=1,
                created_by="local",
            )
        )
    keeper.prune(threading.Event())
    assert _seqs(store) == [0, 1, 2, 3, 4, 5]
    with store.write() as connection:
        connection.execute(schema.rollouts.update().values(phase="completed"))
    keeper.prune(threading.Event())
    assert _seqs(store) == [5]


@pytest.mark.parametrize(("text", "hours"), [("36h", 36), ("30d", 720), ("8w", 1344)])
def test_ages_are_hours_days_or_weeks(text: str, hours: int) -> None:
    assert parse_age(text, "--keep-raw") == hours * 3_600_000


@pytest.mark.parametrize("text", ["", "0d", "30", "d", "-1d", "1.5d", "30 d", "1m", "9999999d"])
def test_anything_else_is_not_an_age(text: str) -> None:
    with pytest.raises(RequestInvalid, match="is not an age"):
        parse_age(text, "--keep-raw")
