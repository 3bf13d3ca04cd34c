"""What counts as evidence for a release, and what does not."""

from __future__ import annotations

import dataclasses

from edge_contracts.sketch import Baseline, QuantileSketch, ScalarBaseline
from edge_fleet.assignment import State
from edge_fleet.drifts import drifts_of
from edge_fleet.evidence import BundleFacts, Group, Member
from edge_fleet.gathering import gather
from edge_fleet.reading import Reading, sum_up

NEW, OLD, OTHER = "sha256:new", "sha256:old", "sha256:other"
BASELINE = Baseline(
    samples=400, scalars=(ScalarBaseline(name="input:x:mean", edges=(0.0, 1.0), counts=(100, 200, 100)),)
)
FACTS = {digest: BundleFacts(digest, "arm-cpu", BASELINE, 50.0) for digest in (NEW, OLD, OTHER)}
CAM_1 = Member("cam-1", 0, NEW, OLD, State.CONFIRMED, assigned_s=100.0)


def reading(device: str, bundle: str, received_s: float, inferences: int = 10) -> Reading:
    return Reading(device, bundle, received_s, inferences, latency_ms=QuantileSketch(bins={1: inferences}))


def _before(group: Group) -> int:
    """Inferences under the release before."""
    return group.laid.earlier.inferences + group.laid.others.inferences


def test_windows_before_the_assignment_do_not_speak_for_the_release() -> None:
    readings = [reading("cam-1", NEW, 99.9, 7), reading("cam-1", NEW, 100.0, 30)]
    evidence = gather([CAM_1], readings, FACTS, 0, started_s=90.0)
    assert evidence.groups[0].laid.new.inferences == 30


def test_windows_of_another_bundle_do_not_speak_for_the_release() -> None:
    evidence = gather([CAM_1], [reading("cam-1", OTHER, 150.0)], FACTS, 0, started_s=90.0)
    assert evidence.groups[0].laid.new.inferences == 0
    assert evidence.reporting == set()


def test_a_device_that_was_not_reached_does_not_speak_for_the_release() -> None:
    evidence = gather([CAM_1], [reading("cam-9", NEW, 150.0)], FACTS, 0, started_s=90.0)
    assert evidence.groups[0].laid.new.inferences == 0


def test_an_idle_window_is_no_report() -> None:
    assert gather([CAM_1], [reading("cam-1", NEW, 150.0, 0)], FACTS, 0, 90.0).reporting == set()
    assert gather([CAM_1], [reading("cam-1", NEW, 150.0, 1)], FACTS, 0, 90.0).reporting == {"cam-1"}


def test_the_release_before_is_these_devices_earlier_and_others_meanwhile() -> None:
    readings = [
        reading("cam-1", OLD, 50.0, 1),  # earlier, on the same device
        reading("cam-2", OLD, 120.0, 20),  # meanwhile, on a device not reached
        reading("cam-2", OLD, 80.0, 300),  # before the rollout: the world may have been another
        reading("cam-3", OTHER, 120.0, 4000),  # not what these devices had
    ]
    evidence = gather([CAM_1], readings, FACTS, 0, started_s=90.0)
    assert _before(evidence.groups[0]) == 21


def test_a_device_reached_later_is_a_control_until_then() -> None:
    coral = Member("cam-2", 1, OTHER, OLD, State.TRIAL, assigned_s=130.0)
    readings = [reading("cam-2", OLD, 129.0, 20), reading("cam-2", OLD, 131.0, 300)]
    evidence = gather([CAM_1, coral], readings, FACTS, 1, started_s=90.0)
    assert _before(next(g for g in evidence.groups if g.bundle == NEW)) == 20


def test_each_bundle_is_a_group_of_its_own() -> None:
    other = Member("cam-2", 0, OTHER, None, State.CONFIRMED, assigned_s=100.0)
    readings = [reading("cam-1", NEW, 110.0, 1), reading("cam-2", OTHER, 110.0, 20)]
    groups = gather([CAM_1, other], readings, FACTS, 0, 90.0).groups
    assert {group.bundle: group.laid.new.inferences for group in groups} == {NEW: 1, OTHER: 20}


def test_the_order_of_arrival_changes_nothing() -> None:
    readings = [reading("cam-1", NEW, 100.0 + i, i) for i in range(1, 20)]
    forward = gather([CAM_1], readings, FACTS, 0, 90.0)
    backward = gather([CAM_1], readings[::-1], FACTS, 0, 90.0)
    assert forward.reporting == backward.reporting
    (one,), (other,) = forward.groups, backward.groups
    assert one.laid.new == other.laid.new and one.drifts == other.drifts
    forth, back = (each.laid.panel.share("failed", "attempts") for each in (one, other))
    assert forth.total.tolist() == back.total.tolist() == [[1, 3, 10, 36, 136, 190]]


def test_sums_are_those_of_the_windows() -> None:
    one = Reading("a", NEW, 0.0, 5, errors=1, refused=2, golden_total=10, golden_agree=9)
    total = sum_up([one, dataclasses.replace(one, inferences=7)])
    assert (total.windows, total.inferences, total.errors, total.refused) == (2, 12, 2, 4)
    assert (total.golden_total, total.golden_agree, total.attempts) == (20, 18, 18)


def test_counts_that_do_not_fit_the_baseline_are_no_evidence() -> None:
    wrong_bins = Reading("cam-1", NEW, 1.0, 500, scalars={"input:x:mean": (0, 0, 0, 500)})
    unknown = Reading("cam-1", NEW, 1.0, 500, scalars={"input:y:mean": (500, 0, 0)})
    assert drifts_of(BASELINE, [wrong_bins, unknown]) == ()


def test_drift_is_of_the_pooled_counts() -> None:
    # half of the windows all low, half all high: together 50 % in the outer bins, none between
    low = Reading("cam-1", NEW, 1.0, 200, scalars={"input:x:mean": (200, 0, 0)})
    high = Reading("cam-1", NEW, 2.0, 200, scalars={"input:x:mean": (0, 0, 200)})
    (drift,) = drifts_of(BASELINE, [low, high])
    assert drift.samples == 400
    assert drift.distance == 0.5  # |1/4-1/2| + |1/2-0| + |1/4-1/2|, halved
    assert drift.drifted


def test_members_are_counted_by_where_they_stand() -> None:
    members = [
        CAM_1,
        dataclasses.replace(CAM_1, device="cam-2", stage=1, state=State.TRIAL),
        dataclasses.replace(CAM_1, device="cam-3", stage=1, state=State.UNREACHABLE),
        dataclasses.replace(CAM_1, device="cam-4", stage=1, state=State.REFUSED),
    ]
    evidence = gather(members, [], FACTS, 1, 90.0)
    assert [member.device for member in evidence.of_stage] == ["cam-2", "cam-3", "cam-4"]
    assert [member.device for member in evidence.unsettled] == ["cam-2"]
    assert [member.device for member in evidence.failed] == ["cam-4"]
