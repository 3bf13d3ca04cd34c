"""What is kept of windows does not grow with their number, nor does what taking one in costs."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable
from types import FrameType, FunctionType, ModuleType

import numpy as np
import pytest
from arriving import Arriving

from edge_contracts.sketch import Baseline, QuantileSketch, ScalarBaseline
from edge_fleet.assignment import State
from edge_fleet.evidence import BundleFacts, Member
from edge_fleet.gates import GATES
from edge_fleet.gates.verdict import GateLimit
from edge_fleet.gathering import Gathering
from edge_fleet.reading import Reading

BASELINE = Baseline(
    samples=400, scalars=(ScalarBaseline(name="x", edges=(0.0, 1.0), counts=(100, 200, 100)),)
)
FACTS = {name: BundleFacts(name, "arm-cpu", BASELINE, 50.0) for name in ("new", "old")}
# one that was reached, one that is a control, and two stages
MEMBERS = [Member(name, n, "new", "old", State.CONFIRMED, 100.0) for n, name in enumerate(("a", "gone"))]
FEW, MANY = 64, 1024  # marks: 7 and 11
ASKED = [
    (name, GateLimit(limit=1.5 if gate.lowest >= 1 else 0.02, against=against, min_inferences=1))
    for name, gate in sorted(GATES.items())
    for against in gate.against
]


def _windows(first: int, upto: int) -> Iterable[Reading]:
    for n in range(first, upto):
        for device, bundle in (("a", "new"), ("a", "old"), ("control", "old")):
            yield Reading(
                device,
                bundle,
                100.0 + n,
                100,
                errors=n % 2,
                latency_ms=QuantileSketch(bins={50 + n % 7: 60, 51 + n % 7: 40}),
                scalars={"x": (n % 3, 50, 20)},
                shadow="old" if bundle == "new" else "new",
                compared=n % 5,
                rss_bytes=10**8,
                temperature_c=40.0 + n % 4,
            )


class Watched:
    """A gathering that is asked everything at each look."""

    def __init__(self) -> None:
        self.gathering, self.windows, self.seen = Gathering(), Arriving(), 0

    def take(self, upto: int) -> None:
        self.windows.arrive(list(_windows(self.seen, upto)))
        self.seen = upto
        found = self.gathering.look(MEMBERS, self.windows, FACTS, 1, 90.0, 1)
        for name, limit in ASKED:
            GATES[name].judge(found, limit)

    def calls(self, upto: int) -> int:
        """How many functions are called for some more windows."""
        called = 0

        def count(_frame: FrameType, event: str, _what: object) -> None:
            nonlocal called
            called += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            self.take(upto)
        finally:
            sys.setprofile(None)
        return called


def _kept(root: object) -> int:
    """How many objects, and numbers in arrays, are held on to."""
    found: dict[int, object] = {}
    waiting = [root]
    while waiting:
        one = waiting.pop()
        if id(one) not in found and not isinstance(one, type | ModuleType | FunctionType):
            found[id(one)] = one
            waiting += gc.get_referents(one)
    return len(found) + sum(one.size for one in found.values() if isinstance(one, np.ndarray))


@pytest.fixture(scope="module")
def grown() -> tuple[Watched, Watched]:
    """After few windows, and after many more: in portions, and then one by one."""
    both = Watched(), Watched()
    for watched, upto in zip(both, (FEW, MANY), strict=True):
        for portion in range(32, upto, 128):
            watched.take(portion)
        for one in range(upto - 5, upto + 1):
            watched.take(one)
    return both


def test_what_is_kept_of_a_device_grows_by_its_marks_and_not_by_its_windows(
    grown: tuple[Watched, Watched],
) -> None:
    few, many = (_kept(watched.gathering) for watched in grown)
    assert 500 < few <= many < few * 12 / 7
    # the same measure of one who keeps windows
    assert _kept(grown[1].windows.every) > 12 * _kept(grown[0].windows.every)


def test_taking_a_window_in_costs_what_the_window_costs(grown: tuple[Watched, Watched]) -> None:
    few, many = (watched.calls(watched.seen + 1) for watched in grown)
    assert few > 500
    assert many < few * 12 / 7
