"""Evidence that grows look by look is what it would be if everything were laid out at once."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from arriving import Arriving
from fleet_rows import digest
from hypothesis import given, settings
from hypothesis import strategies as st
from recount import recount
from rollout_fleet import Fleet, file
from sqlalchemy import Connection, event, func, select

from edge_contracts.sketch import Baseline, QuantileSketch, ScalarBaseline
from edge_fleet.assignment import State
from edge_fleet.evidence import BundleFacts, Group, Laid, Member, StageEvidence
from edge_fleet.gates import GATES
from edge_fleet.gates.verdict import GateLimit, Verdict
from edge_fleet.gathering import Gathering
from edge_fleet.panel import Panel
from edge_fleet.reading import Reading
from edge_fleet.rollouts.looking import evidence_of, look
from edge_fleet.rollouts.readings import WINDOWS_AT_ONCE as READ_AT_ONCE
from edge_fleet.rollouts.readings import SeenReadings, Since, read, want
from edge_fleet.schema import windows
from edge_fleet.tally import COUNTED, HISTOGRAMS

BASELINE = Baseline(
    samples=400, scalars=(ScalarBaseline(name="x", edges=(0.0, 1.0), counts=(100, 200, 100)),)
)
FACTS = {name: BundleFacts(name, "arm-cpu", BASELINE, 50.0) for name in ("new", "old", "other", "older")}
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


def _laid(panel: Panel, counts: slice, histograms: slice) -> list[object]:
    """Everything that a panel knows at some of its columns, as values that compare."""
    if not panel.devices:
        return [panel.noisy]
    shares = [np.nan_to_num(panel.counts[name], nan=-1)[:, counts].tolist() for name in COUNTED]
    found: list[object] = [panel.noisy, panel.devices, shares]
    for name in HISTOGRAMS:
        histogram = panel.histogram(name)
        at = np.nan_to_num(histogram.counts, nan=-1)[:, histograms]
        found.append((histogram.bins.tolist(), at.tolist() if len(histogram.bins) else None))
    return found


EVERY, NOW = slice(None), slice(-1, None)


def _panels(group: Group) -> list[object]:
    laid = group.laid
    with_marks = [_laid(panel, EVERY, EVERY) for panel in (laid.panel, laid.shadow, *laid.by_stage)]
    # no gate asks what devices of before were at their marks, nor for a control group's histograms there
    return [with_marks, _laid(laid.before, NOW, NOW), [_laid(panel, EVERY, NOW) for panel in laid.beside]]


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
    _laid_alike(one, other)
    for ours_, theirs_ in zip(_verdicts(one), _verdicts(other), strict=True):
        assert (ours_.gate, ours_.outcome, ours_.reason) == (theirs_.gate, theirs_.outcome, theirs_.reason)
        for row, expected in zip(ours_.evidence, theirs_.evidence, strict=True):
            assert row.keys() == expected.keys()
            assert all(_nearly(row[name], expected[name]) for name in row), (row, expected)


def _laid_alike(one: StageEvidence, other: StageEvidence) -> None:
    assert (one.stage, one.members, one.bundles) == (other.stage, other.members, other.bundles)
    assert set(one.reporting) == set(other.reporting)
    assert set(one.comparing) == set(other.comparing)
    for ours, theirs in zip(one.groups, other.groups, strict=True):
        assert (ours.bundle, ours.members, ours.attempts) == (theirs.bundle, theirs.members, theirs.attempts)
        assert (ours.drifts, ours.control) == (theirs.drifts, theirs.control)
        assert ours.laid.per_device == theirs.laid.per_device
        assert _panels(ours) == _panels(theirs)


@settings(max_examples=25, deadline=None)
@given(readings=readings_of_anybody, cuts=st.lists(st.integers(0, 40), max_size=3), reached=st.integers(1, 3))
def test_look_by_look_is_as_good_as_all_at_once(
    readings: Sequence[Reading], cuts: Sequence[int], reached: int
) -> None:
    """Devices are reached on the way too: a control becomes a member. Every gate says the same."""
    gathering, windows, seen = Gathering(), Arriving(), 0
    for number, upto in enumerate([*sorted(cuts), len(readings)]):
        windows.arrive(readings[seen:upto])
        seen = max(seen, upto)
        members = MEMBERS[: min(len(MEMBERS), reached + number)]
        again = gathering.look(members, windows, FACTS, 1, 90.0, 1)
        _alike(again, recount(members, windows.every, FACTS, 1, 90.0, 1))


# devices that are reached, leave, are tried again, get another bundle, and had another before, in any order
reached_somehow = st.dictionaries(
    st.sampled_from("abcd"),
    st.tuples(
        st.integers(0, 1),
        st.sampled_from(["new", "new", "other"]),
        st.sampled_from(["old", "old", "older", None]),
        st.sampled_from([0.0, 100.0, 150.0, 200.0, 301.0]),
    ),
    max_size=4,
).map(
    lambda found: [Member(name, *found[name][:3], State.CONFIRMED, found[name][3]) for name in sorted(found)]
)


@settings(max_examples=60, deadline=None)
@given(
    looks=st.lists(st.tuples(readings_of_anybody, reached_somehow), min_size=2, max_size=5),
    in_order=st.booleans(),
)
def test_whatever_becomes_of_devices_meanwhile_their_sums_are_those_of_their_windows(
    looks: Sequence[tuple[list[Reading], list[Member]]], in_order: bool
) -> None:
    gathering, windows = Gathering(), Arriving()
    if in_order:  # as clocks go: nothing is late, and only what was reached is taken again
        every = iter(sorted((r for found, _ in looks for r in found), key=lambda r: r.received_s))
        looks = [([next(every) for _ in found], members) for found, members in looks]
    for found, members in looks:
        windows.arrive(found)
        again = gathering.look(members, windows, FACTS, 1, 90.0, 1)
        _laid_alike(again, recount(members, windows.every, FACTS, 1, 90.0, 1))


def test_only_devices_that_reported_are_looked_at_again() -> None:
    names = [f"d{n}" for n in range(50)]
    members = [Member(name, 0, "new", "old", State.CONFIRMED, 100.0) for name in names]
    gathering, windows, laid = Gathering(), Arriving(), list[int]()

    def ask(*found: Reading) -> list[int]:
        laid.clear()
        windows.arrive(found)
        (group,) = gathering.look(members, windows, FACTS, 0, 90.0, 1).groups

        def counted(found: Laid) -> dict[str, float]:
            laid.append(len(found.panel.devices))
            return {"attempts": found.new.attempts}

        assert group.sums.sum("here", counted)["attempts"] == sum(r.inferences for r in windows.every)
        return laid

    assert ask(*(Reading(name, "new", 250.0, 10) for name in names)) == [50]
    assert ask(Reading("d7", "new", 260.0, 10)) == [1, 1], "as it was, and as it is"
    assert ask() == []
    assert windows.asked == []


def test_a_device_that_is_reached_is_not_counted_again_but_for_what_arrived_since() -> None:
    gathering, windows = Gathering(), Arriving()
    windows.arrive([Reading(name, "old", 100.0 + n, 10) for name in "ab" for n in range(20)])
    gathering.look([], windows, FACTS, 0, 90.0, 1)
    first = [Member("c", 0, "new", "old", State.CONFIRMED, 95.0)]
    windows.arrive([])
    gathering.look(first, windows, FACTS, 0, 90.0, 1)
    windows.asked.clear()
    windows.arrive([])
    late, soon = (
        Member("a", 1, "new", "old", State.CONFIRMED, 130.0),
        Member("b", 2, "new", "old", State.CONFIRMED, 115.0),
    )
    found = gathering.look([*first, late, soon], windows, FACTS, 2, 90.0, 1)
    _alike(found, recount([*first, late, soon], windows.every, FACTS, 2, 90.0, 1))
    # 115 s is when the last stage began as well, and four windows of each device are from after that
    assert sorted(windows.asked) == [("b", 115.0)]


def _old(device: str, *received_s: float) -> list[Reading]:
    return [Reading(device, "old", at, 10, errors=1, scalars={"x": (1, 2, 3)}) for at in received_s]


# what becomes of a device whose windows were taken, and from when on they are taken again
MOVES: dict[str, tuple[list[Member], list[Member], float]] = {
    "reached at a time that windows are from after, beside another group": (
        [Member("x", 0, "other", "old", State.CONFIRMED, 95.0)],
        [
            Member("x", 0, "other", "old", State.CONFIRMED, 95.0),
            Member("a", 0, "new", "old", State.CONFIRMED, 130.0),
        ],
        -math.inf,
    ),
    "left": (
        [
            Member("x", 0, "new", "old", State.CONFIRMED, 100.0),
            Member("a", 0, "new", "old", State.CONFIRMED, 120.0),
        ],
        [Member("x", 0, "new", "old", State.CONFIRMED, 100.0)],
        -math.inf,
    ),
    "tried again": (
        [Member("a", 0, "new", "old", State.CONFIRMED, 120.0)],
        [Member("a", 0, "new", "old", State.CONFIRMED, 130.0)],
        130.0,
    ),
    "tried again, beside another group": (
        [
            Member("x", 0, "other", "old", State.CONFIRMED, 95.0),
            Member("a", 0, "new", "old", State.CONFIRMED, 120.0),
        ],
        [
            Member("x", 0, "other", "old", State.CONFIRMED, 95.0),
            Member("a", 0, "new", "old", State.CONFIRMED, 500.0),
        ],
        -math.inf,
    ),
    "a stage that begins later": (
        [Member("x", 0, "new", "old", State.CONFIRMED, 110.0)],
        [Member("x", 0, "new", "old", State.CONFIRMED, 130.0)],
        130.0,
    ),
    "another bundle before": (
        [Member("x", 0, "new", None, State.CONFIRMED, 110.0)],
        [
            Member("x", 0, "new", None, State.CONFIRMED, 110.0),
            Member("y", 0, "new", "old", State.CONFIRMED, 111.0),
        ],
        -math.inf,
    ),
}


@pytest.mark.parametrize("name", MOVES)
def test_what_a_device_is_counted_for_changes(name: str) -> None:
    before, after, since_s = MOVES[name]
    gathering, windows = Gathering(), Arriving()
    windows.arrive(_old("a", *(90.0 + 5 * n for n in range(12))))
    gathering.look(before, windows, FACTS, 0, 90.0, 1)
    assert windows.asked == []
    windows.arrive([*_old("a", 600.0), Reading("a", "new", 601.0, 10)])
    found = gathering.look(after, windows, FACTS, 0, 90.0, 1)
    _alike(found, recount(after, windows.every, FACTS, 0, 90.0, 1))
    assert windows.asked == [("a", since_s)]


def test_a_window_that_is_late_is_counted_in_its_place() -> None:
    gathering, windows = Gathering(), Arriving()
    for received_s in (150.0, 140.0, 160.0):
        windows.arrive([Reading("a", "new", received_s, 10, errors=int(received_s) % 7)])
        _alike(
            gathering.look(MEMBERS[:1], windows, FACTS, 0, 90.0, 1),
            recount(MEMBERS[:1], windows.every, FACTS, 0, 90.0, 1),
        )
    assert windows.asked == [("a", -math.inf)]


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    built = Fleet(file(tmp_path / "fleet.db"))
    built.publish("1")
    built.publish("2")
    built.enrol("a", "b")
    return built


def _in_order(readings: Iterable[Reading]) -> list[Reading]:
    return sorted(readings, key=lambda r: (r.device, r.bundle, r.received_s, r.inferences))


def _loaded(connection: Connection, members: Sequence[Member], started_ms: int) -> list[Reading]:
    wanted, newest = want(connection, members, started_ms), connection.scalar(select(func.max(windows.c.id)))
    return _in_order(r for _, found in read(connection, wanted, newest or 0) for r in found)


def test_a_look_reads_what_arrived_since_the_last_one_and_misses_nothing(fleet: Fleet) -> None:
    new = Member("a", 0, digest("2"), digest("1"), State.CONFIRMED, 0.0)
    seen, started_ms = SeenReadings(), fleet.now_ms
    asked: list[bool] = []
    taken: list[Reading] = []

    def take(connection: Connection, members: Sequence[Member]) -> list[Reading]:
        with seen.look(connection, members, started_ms) as since:
            return [r for _, found in since.fresh() for r in found]

    for number in range(4):
        fleet.report("a", digest("2"), inferences=number)
        fleet.report("b", digest("1"), inferences=number)
        fleet.now_ms += 1
        with fleet.store.read() as connection:
            taken += take(connection, [new])
            assert _in_order(taken) == _loaded(connection, [new], started_ms)
    assert len(taken) == 8

    @event.listens_for(fleet.store._readers, "after_cursor_execute")
    def counted(_c: object, cursor: object, statement: str, *_: object) -> None:
        asked.append("windows.id >" in statement)

    with fleet.store.read() as connection:
        assert take(connection, [new]) == []
        other = dataclasses.replace(new, bundle=digest("1"), previous=None)
        assert asked.count(True) == 1
        anew = take(connection, [other])  # of other bundles everything is new
        assert len(anew) == 4
        assert _in_order(anew) == _loaded(connection, [other], started_ms)
        assert asked.count(True) == 1
    fleet.store.close()


def test_a_look_that_breaks_off_leaves_nothing_that_was_half_taken_in(fleet: Fleet) -> None:
    members = [Member(name, 0, digest("2"), digest("1"), State.CONFIRMED, 0.0) for name in "ab"]
    seen, started_ms = SeenReadings(), fleet.now_ms
    facts = {digest(n): BundleFacts(digest(n), "arm-cpu", BASELINE, 50.0) for n in "12"}

    def gathered(connection: Connection, breaks: bool = False) -> StageEvidence:
        with seen.look(connection, members, started_ms) as since:
            windows = Breaking(since) if breaks else since
            return seen.gathering.look(members, windows, facts, 0, started_ms / 1000, 1)

    for number in range(3):
        for name in "ab":
            fleet.report(name, digest("2"), inferences=10 + number)
        with fleet.store.read() as connection:
            if number:
                with pytest.raises(ConnectionResetError):
                    gathered(connection, breaks=True)
            found = gathered(connection)
            expected = _loaded(connection, members, started_ms)
        assert len(expected) == 2 * (number + 1)
        _laid_alike(found, recount(members, expected, facts, 0, started_ms / 1000, 1))
    fleet.store.close()


class Breaking:
    """A database that goes away when the first device was read."""

    def __init__(self, since: Since) -> None:
        self._since = since

    def fresh(self) -> Iterator[tuple[str, Sequence[Reading]]]:
        yield next(iter(self._since.fresh()))
        raise ConnectionResetError

    def again(self, since_s: Mapping[str, float], fresh: bool) -> Iterable[tuple[str, Sequence[Reading]]]:
        return self._since.again(since_s, fresh)


@pytest.mark.parametrize("before_ms", [0, 5000])
def test_windows_are_read_again_from_when_they_are_asked_for(fleet: Fleet, before_ms: int) -> None:
    members = [Member("a", 0, digest("2"), digest("1"), State.CONFIRMED, 0.0)]
    for _ in range(READ_AT_ONCE + 3):  # more than a portion
        fleet.report("a", digest("2"))
        fleet.report("b", digest("1"))
        fleet.now_ms += 10
    since_ms = fleet.now_ms - 20 - before_ms
    fleet.report("a", digest("2"), inferences=7)
    with fleet.store.read() as connection:
        every = _loaded(connection, members, 0)
        with SeenReadings().look(connection, members, 0) as since:
            read_again = [r for _, found in since.again({"a": since_ms / 1000}, True) for r in found]
    assert read_again == [r for r in every if r.device == "a" and r.received_s >= since_ms / 1000]
    assert len(read_again) == (3 if not before_ms else READ_AT_ONCE + 3)
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
