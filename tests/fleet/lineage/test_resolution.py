"""Who gets what of a release: profile, runtime and driver range, each refused in turn."""

from __future__ import annotations

from typing import Any

import pytest
from fleet_rows import manifest

from edge_contracts.manifest import Artifact
from edge_fleet.lineage.resolution import Facts, Need, Offer, resolve, version_key

INT8 = manifest("1", "arm-cpu").artifacts[0]
NPU = Artifact.model_validate({**INT8.model_dump(), "id": "npu", "runtimes": ("openvino",)})
PLAIN = Offer("sha256:plain", "x86-cpu", (INT8,))
FAST = Offer("sha256:fast", "intel-npu", (NPU, INT8))
DRIVER = Need("openvino", "intel_vpu", "1.2", "2")


def facts(**changes: Any) -> Facts:
    stated: dict[str, Any] = {"device": "d", "profile": ("intel-npu", "x86-cpu")}
    return Facts(**(stated | changes))


def test_the_nearest_profile_with_a_bundle_wins() -> None:
    found = resolve([PLAIN, FAST], 3, facts())
    assert (found.bundle, found.profile, found.artifact) == ("sha256:fast", "intel-npu", "npu")
    assert "its profile is believed" in found.steps[-1]
    assert resolve([PLAIN], 3, facts()).bundle == "sha256:plain"


def test_without_a_bundle_for_its_lineage_it_gets_nothing_and_is_told_what_there_is() -> None:
    found = resolve([PLAIN, FAST], 3, facts(profile=("raspberry-pi-4", "arm-cpu")))
    assert found.bundle is None
    assert found.why == "nothing: no bundle for raspberry-pi-4 > arm-cpu; the release has intel-npu, x86-cpu"


@pytest.mark.parametrize(
    ("software", "artifact"),
    [
        ({"intel_vpu": "1.2.0"}, "npu"),
        ({"intel_vpu": "1.10"}, "npu"),  # numbers, not letters
        ({"intel_vpu": "1.1.9"}, "int8"),
        ({"intel_vpu": "2.0"}, "int8"),
        ({"kernel": "6.1"}, "int8"),  # it says what it has, and the driver is not among it
        (None, "npu"),  # has said nothing yet
    ],
)
def test_a_driver_outside_the_range_passes_the_artifact_over(
    software: dict[str, str] | None, artifact: str
) -> None:
    found = resolve([FAST], 3, facts(software=software), [DRIVER])
    assert found.artifact == artifact
    assert any("passed over, npu: openvino needs intel_vpu >= 1.2 and < 2" in s for s in found.steps) == (
        artifact == "int8"
    )


def test_a_device_that_can_open_no_artifact_gets_nothing_and_each_reason() -> None:
    needs = [DRIVER, Need("litert", "litert", at_least="2.3")]
    found = resolve([FAST], 3, facts(software={"intel_vpu": "1.0", "litert": "2.1.0"}), needs)
    assert found.bundle is None
    assert "litert needs litert >= 2.3, the device has 2.1.0" in found.why and "has 1.0" in found.why


def test_a_downgrade_is_refused_unless_it_is_permitted() -> None:
    ahead = facts(counter=4)
    assert "it has confirmed release 4, which is later than 3" in resolve([FAST], 3, ahead).why
    assert resolve([FAST], 3, ahead, downgrade=True).bundle == "sha256:fast"


def test_a_device_that_runs_it_already_is_told_so() -> None:
    assert resolve([FAST], 3, facts(active="sha256:fast")).why.endswith("runs it already")


def test_versions_are_compared_by_their_numbers() -> None:
    assert version_key("6.1.0-18-amd64") == (6, 1, 0, 18, 64)
    assert version_key("1.10") > version_key("1.9")
