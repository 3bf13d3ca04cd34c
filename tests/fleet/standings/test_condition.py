"""How a device is doing, in one word."""

from __future__ import annotations

from edge_contracts.sketch import Drift, QuantileSketch
from edge_fleet.assignment import State
from edge_fleet.reading import Exposure
from edge_fleet.standings.condition import SILENT_AFTER_S, Health, condition

NOW = 1_000_000.0
BUSY = Exposure(windows=1, inferences=400, latency_ms=QuantileSketch(bins={1: 400}))


def test_a_condition_names_what_is_most_urgent() -> None:
    def word(**changes: object) -> Health:
        usual: dict[str, object] = {
            "now_s": NOW,
            "last_seen_s": NOW,
            "revoked": False,
            "assignment": State.CONFIRMED,
            "recent": BUSY,
            "drifts": (),
        }
        return condition(**(usual | changes)).health  # type: ignore[arg-type]

    drifting = (Drift("input:x:mean", 0.5, 1e-9, 400),)
    assert word() is Health.OK
    assert word(revoked=True, assignment=State.REFUSED) is Health.REVOKED
    assert word(assignment=State.REFUSED, last_seen_s=None) is Health.FAILING
    assert word(recent=Exposure(inferences=50, errors=50)) is Health.FAILING
    assert word(recent=Exposure(inferences=400, errors=1)) is Health.OK
    assert word(last_seen_s=None) is Health.SILENT
    assert word(last_seen_s=NOW - SILENT_AFTER_S) is Health.OK
    assert word(last_seen_s=NOW - SILENT_AFTER_S - 1, drifts=drifting) is Health.SILENT
    assert word(drifts=drifting) is Health.DRIFTING
    assert word(drifts=(Drift("input:x:mean", 0.5, 0.01, 60),)) is Health.OK  # not certain
    assert word(told=("data-drift",)) is Health.DRIFTING
    assert word(assignment=State.TRIAL) is Health.UPDATING
    assert word(recent=Exposure()) is Health.IDLE
