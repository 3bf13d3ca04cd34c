"""Recall: figures worked by hand, and the envelopes that prove them."""

from __future__ import annotations

import pytest
from fleet_rows import FleetRows, digest
from sqlalchemy import delete, insert, select, update

from edge_contracts.digest import digest_of
from edge_fleet.lineage.overview import overview, page
from edge_fleet.lineage.recall import recall
from edge_fleet.lineage.runs import Range, Run
from edge_fleet.lineage.targets import Target, targets_of
from edge_fleet.schema import devices, gaps, windows
from edge_fleet.storage.rollups import roll_up
from edge_fleet.store import Store

OLD, NEW = digest("1"), digest("2")
EPOCH = "0" * 16


@pytest.fixture
def fleet(store: Store) -> FleetRows:
    rows = FleetRows(store, lambda: 9_000)
    rows.enrol("d1", "d2", "d3")
    rows.publish("1")
    rows.publish("2")
    return rows


def runs(store: Store, what: str) -> list[Run]:
    """All of them; what is summed up for a page must say the same."""
    with store.read() as connection:
        targets = targets_of(connection, what)
        found = recall(connection, targets)
        seen = overview(connection, targets)
        pages = [page(connection, targets, seen, 1)]
        while (after := pages[-1].next) is not None:
            pages.append(page(connection, targets, seen, 1, after))
    assert (seen.runs, seen.devices, seen.predictions, seen.running) == (
        len(found),
        len({run.device for run in found}),
        sum(run.predictions for run in found),
        sum(run.running for run in found),
    )
    assert [run for one in pages for run in one.runs] == found
    assert all(len({run.device for run in one.runs}) <= 1 for one in pages)
    return found


def test_each_device_is_told_with_its_time_its_predictions_and_its_envelopes(fleet: FleetRows) -> None:
    for seq, start in ((0, 100), (1, 200), (3, 400)):
        fleet.report("d1", OLD, inferences=10, errors=1, seq=seq, start_ms=start, end_ms=start + 50)
    fleet.report("d1", NEW, inferences=7, seq=2, start_ms=300, end_ms=350)
    fleet.report("d2", OLD, inferences=5, seq=8, start_ms=1000, end_ms=1100)
    one, two = runs(fleet.store, "digits@1")
    assert (one.device, one.since_ms, one.until_ms) == ("d1", 100, 450)
    assert (one.windows, one.predictions, one.errors) == (3, 30, 3)
    assert one.proof == (Range(EPOCH, 0, 1), Range(EPOCH, 3, 3)), "2 proves another bundle"
    assert (two.device, two.predictions, two.proof) == ("d2", 5, (Range(EPOCH, 8, 8),))


def test_a_device_that_runs_it_now_by_its_own_word_is_told_apart(fleet: FleetRows) -> None:
    fleet.report("d1", OLD)
    fleet.report("d2", OLD)
    with fleet.store.write() as connection:
        state = {"active": {"bundle": OLD, "artifact": "int8"}}
        connection.execute(update(devices).where(devices.c.id == "d1").values(state=state))
    assert {run.device: run.running for run in runs(fleet.store, OLD)} == {"d1": True, "d2": False}


def test_what_a_device_lost_is_said_so_that_the_figures_are_at_least(fleet: FleetRows) -> None:
    fleet.report("d1", OLD)
    gap = {"device": "d1", "first_seq": 1, "last_seq": 2, "records": 12, "reason": "full", "received_ms": 1}
    with fleet.store.write() as connection:
        connection.execute(insert(gaps).values(epoch=EPOCH, **gap))
        connection.execute(insert(gaps).values(epoch="f" * 16, **gap))  # of another stream
    assert [run.lost for run in runs(fleet.store, OLD)] == [12]


def test_an_artifact_is_recalled_without_its_neighbours(fleet: FleetRows) -> None:
    fleet.report("d1", OLD, artifact="int8", inferences=3)
    fleet.report("d1", OLD, artifact="float32", inferences=4)
    with fleet.store.read() as connection:
        found = recall(connection, [Target(OLD, "int8")])
    assert [(run.artifact, run.predictions) for run in found] == [("int8", 3)]


def test_a_bundle_that_was_never_published_here_is_recalled_from_what_devices_say(fleet: FleetRows) -> None:
    stranger = digest_of(b"put there by hand")
    fleet.report("d3", stranger, inferences=2)
    assert [(run.device, run.predictions) for run in runs(fleet.store, stranger)] == [("d3", 2)]


def test_windows_that_were_deleted_are_told_from_their_sums_without_proof(fleet: FleetRows) -> None:
    for seq in range(3):
        fleet.report("d1", OLD, inferences=10 + seq, errors=seq, seq=seq)
    fleet.report("d2", OLD, inferences=4)
    with fleet.store.write() as connection:
        assert roll_up(connection) == 4
        first = connection.execute(select(windows.c.id).order_by(windows.c.id).limit(2)).scalars().all()
    fleet.report("d1", OLD, inferences=100, seq=3)  # is in no sum yet
    assert [(run.artifact, run.predictions) for run in runs(fleet.store, OLD)] == [("int8", 133), ("int8", 4)]
    with fleet.store.write() as connection:
        connection.execute(delete(windows).where(windows.c.id.in_(first)))
    found = {(run.device, run.artifact): run for run in runs(fleet.store, OLD)}
    gone = found["d1", ""]
    assert (gone.windows, gone.predictions, gone.errors, gone.proof) == (2, 21, 1, ())
    assert found["d1", "int8"].predictions == 112 and found["d1", "int8"].proof == (Range(EPOCH, 2, 3),)
    assert ("d2", "") not in found
    with fleet.store.write() as connection:
        connection.execute(delete(windows))
    assert sum(run.predictions for run in runs(fleet.store, "digits@1")) == 37, "what was summed is not lost"


def test_an_artifact_that_lies_in_a_thousand_bundles_is_recalled_by_the_statements_for_two(
    fleet: FleetRows,
) -> None:
    fleet.report("d1", OLD, inferences=3)
    fleet.report("d2", NEW, inferences=4)

    def asked(others: int) -> tuple[list[str], int]:
        targets = [Target(OLD, "int8"), *(Target(digest(str(n), "none"), "int8") for n in range(others))]
        with fleet.store.read() as connection:
            seen = overview(connection, targets)
            found = page(connection, targets, seen, 10)
            kept = connection.engine._compiled_cache
            assert kept is not None and seen.runs == len(found.runs)
            return [run.device for run in found.runs], len(kept)

    assert asked(1) == asked(1_500)
    assert asked(2)[0] == ["d1"]
