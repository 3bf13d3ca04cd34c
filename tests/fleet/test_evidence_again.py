"""Evidence that grows look by look is what it would be if everything were laid out at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence, Set
from pathlib import Path

import numpy as np
import pytest
from fleet_rows import digest
from hypothesis import given, settings
from hypothesis import strategies as st
from rollout_fleet import Fleet, file
from sqlalchemy import event

from edge_contracts.sketch import Baseline, QuantileSketch, ScalarBaseline
from edge_fleet.assignment import State
from edge_fleet.evidence import BundleFacts, Group, Laid, Member, StageEvidence
from edge_fleet.gates import GATES
from edge_fleet.gates.verdict import GateLimit, Verdict
from edge_fleet.gathering import Gathering, gather
from edge_fleet.panel import COUNTED, HISTOGRAMS, Panel
from edge_fleet.reading import Reading
from edge_fleet.rollouts.looking import evidence_of, look
from edge_fleet.rollouts.readings import SeenReadings, load_readings

BASELINE = Baseline(
    samples=400, scalars=(ScalarBaseline(name="x", edges=(0.0, 1.0), counts=(100, 200, 100)),)
)
FACTS = {name: BundleFacts(name, "arm-cpu", BASELINE, 50.0) for name in ("new", "old", "other")}
MEMBERS = [
    Member("a", 0, "new", "old", State.CONFIRMED, 100.0),
    Member("b", 1, "new", "old", State.CONFIRMED, 200.0),
    Member("c", 1, "other", "old", State.CONFIRMED, 200.0),
]

readings_of_anybody = st.lists(
    st.builds(
        Reading,
        device=st.sampled_from("abcde"),
        bundle=st.sampled_from(["new", "old", "other"]),
        received_s=st.floats(50, 300),
        inferences=st.integers(0, 500),
        errors=st.integers(0, 9),
        latency_ms=st.dictionaries(st.integers(50, 53), st.integers(1, 9)).map(
            lambda b: QuantileSketch(bins=b)
        ),
        scalars=st.sampled_from([{}, {"x": (1, 2, 3)}, {"x": (1, 2)}, {"y": (4, 5, 6)}]),
        merged=st.integers(1, 3),
        noisy=st.booleans(),
        confidence=st.sampled_from([(), (1, 2)]),
        shadow=st.sampled_from([None, "new", "old"]),
        compared=st.integers(0, 3),
        rss_bytes=st.sampled_from([0, 10**8]),
    ),
    max_size=40,
)


def _laid(panel: Panel) -> list[object]:
    """Everything that a panel knows, as values that compare."""
    if not panel.devices:
        return [panel.noisy]
    shares = [np.nan_to_num(panel.counts[name], nan=-1).tolist() for name in COUNTED]
    found: list[object] = [panel.noisy, panel.devices, shares]
    for name in HISTOGRAMS:
        histogram = panel.histogram(name)
        found.append((histogram.bins.tolist(), np.nan_to_num(histogram.counts, nan=-1).tolist()))
    return found


def _panels(group: Group) -> list[object]:
    laid = group.laid
    every = (laid.panel, laid.before, laid.shadow, *laid.by_stage, *laid.beside)
    return [_laid(panel) for panel in every]


# every gate, against everything that it can be held to
ASKED = [
    (name, GateLimit(limit=limit, against=against, min_inferences=1))
    for name, gate in sorted(GATES.items())
    for against in gate.against
    for limit in ([1.5] if gate.lowest >= 1 else [0.02])
]


def _verdicts(evidence: StageEvidence) -> list[Verdict]:
    return [GATES[name].judge(evidence, limit) for name, limit in ASKED]


def _nearly(one: object, other: object) -> bool:
    """Sums that were added up in another order differ in their last digits."""
    if isinstance(one, float) and isinstance(other, int | float):
        return one == pytest.approx(other, rel=1e-6, abs=1e-6)
    return one == other


def _alike(one: StageEvidence, other: StageEvidence) -> None:
    assert (one.stage, one.members, one.bundles) == (other.stage, other.members, other.bundles)
    assert set(one.reporting) == set(other.reporting)
    for ours, theirs in zip(one.groups, other.groups, strict=True):
        assert (ours.bundle, ours.members, ours.attempts) == (theirs.bundle, theirs.members, theirs.attempts)
        assert (ours.drifts, ours.control) == (theirs.drifts, theirs.control)
        assert ours.laid.per_device == theirs.laid.per_device
        assert _panels(ours) == _panels(theirs)
    for ours_, theirs_ in zip(_verdicts(one), _verdicts(other), strict=True):
        assert (ours_.gate, ours_.outcome, ours_.reason) == (theirs_.gate, theirs_.outcome, theirs_.reason)
        for row, expected in zip(ours_.evidence, theirs_.evidence, strict=True):
            assert row.keys() == expected.keys()
            assert all(_nearly(row[name], expected[name]) for name in row), (row, expected)


@settings(max_examples=25, deadline=None)
@given(readings=readings_of_anybody, cuts=st.lists(st.integers(0, 40), max_size=3), reached=st.integers(1, 3))
def test_look_by_look_is_as_good_as_all_at_once(
    readings: Sequence[Reading], cuts: Sequence[int], reached: int
) -> None:
    """Devices are reached on the way too: a control becomes a member. Every gate says the same."""
    gathering, seen = Gathering(), 0
    by_device: dict[str, list[Reading]] = {}
    for number, upto in enumerate([*sorted(cuts), len(readings)]):
        fresh = readings[seen:upto]
        for reading in fresh:
            by_device.setdefault(reading.device, []).append(reading)
        seen = max(seen, upto)
        members = MEMBERS[: min(len(MEMBERS), reached + number)]
        again = gathering.look(members, by_device, {r.device for r in fresh}, FACTS, 1, 90.0, 1)
        _alike(again, gather(members, readings[:seen], FACTS, 1, 90.0, 1))


def test_only_devices_that_reported_are_looked_at_again() -> None:
    names = [f"d{n}" for n in range(50)]
    members = [Member(name, 0, "new", "old", State.CONFIRMED, 100.0) for name in names]
    windows = {name: [Reading(name, "new", 250.0, 10)] for name in names}
    gathering, laid = Gathering(), list[int]()

    def ask(reported: Set[str]) -> list[int]:
        laid.clear()
        (group,) = gathering.look(members, windows, reported, FACTS, 0, 90.0, 1).groups

        def counted(found: Laid) -> dict[str, float]:
            laid.append(len(found.panel.devices))
            return {"attempts": found.new.attempts}

        assert group.sums.sum("here", counted)["attempts"] == sum(
            r.inferences for found in windows.values() for r in found
        )
        return laid

    assert ask(windows.keys()) == [50]
    windows["d7"].append(Reading("d7", "new", 260.0, 10))
    assert ask({"d7"}) == [1, 1], "as it was, and as it is"
    assert ask(set()) == []


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    built = Fleet(file(tmp_path / "fleet.db"))
    built.publish("1")
    built.publish("2")
    built.enrol("a", "b")
    return built


def _as_loaded(seen: SeenReadings) -> list[Reading]:
    return sorted((r for found in seen.by_device.values() for r in found), key=_order)


def _order(reading: Reading) -> tuple[object, ...]:
    return reading.device, reading.bundle, reading.received_s, reading.inferences


def test_a_look_reads_what_arrived_since_the_last_one_and_misses_nothing(fleet: Fleet) -> None:
    new = Member("a", 0, digest("2"), digest("1"), State.CONFIRMED, 0.0)
    seen, started_ms = SeenReadings(), fleet.now_ms
    read: list[int] = []
    for number in range(4):
        fleet.report("a", digest("2"), inferences=number)
        fleet.report("b", digest("1"), inferences=number)
        fleet.now_ms += 1
        with fleet.store.read() as connection:
            seen.look(connection, [new], started_ms)
            assert _as_loaded(seen) == sorted(load_readings(connection, [new], started_ms), key=_order)
    assert len(_as_loaded(seen)) == 8

    @event.listens_for(fleet.store._readers, "after_cursor_execute")
    def counted(_c: object, cursor: object, statement: str, *_: object) -> None:
        read.append("windows.id >" in statement)

    with fleet.store.read() as connection:
        seen.look(connection, [new], started_ms)
        other = dataclasses.replace(new, bundle=digest("1"), previous=None)
        assert read.count(True) == 1
        seen.look(connection, [other], started_ms)  # of other bundles everything is new
        assert _as_loaded(seen) == sorted(load_readings(connection, [other], started_ms), key=_order)
        assert read.count(True) == 1
    fleet.store.close()


def test_a_state_is_news_as_well_as_a_window(fleet: Fleet) -> None:
    fleet.complete("1")
    rollout, seen = fleet.begin("2"), SeenReadings()

    def look_again() -> StageEvidence:
        with fleet.store.read() as connection:
            found, view = look(connection, rollout, fleet.now_ms)
            return evidence_of(connection, found, [row.member for row in view.counted], seen)

    first = look_again()
    assert set(first.reporting) == set()
    fleet.report("a", digest("2"))
    assert set(look_again().reporting) == {"a"}
    fleet.say("a")
    assert look_again().members != first.members
    fleet.store.close()
