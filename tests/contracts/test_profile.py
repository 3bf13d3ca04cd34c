"""Device profiles: every one loads; a fault is named with the nearest right key."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_contracts.errors import FormatTooNew, ProfileInvalid, ProfileUnknown
from edge_contracts.profile import builtin_names, lineage, load_profile

RUNTIMES = Path(__file__).parents[2] / "agent" / "edge_agent" / "runtimes"


@pytest.mark.parametrize("name", builtin_names())
def test_every_profile_loads_and_is_named_as_its_file(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert profile.source, "a profile says where its figures come from"
    assert profile.artifact_bytes <= profile.memory_bytes


@pytest.mark.parametrize("name", builtin_names())
def test_every_runtime_of_a_profile_is_a_file_of_the_agent(name: str) -> None:
    for runtime in load_profile(name).runtimes:
        assert (RUNTIMES / f"{runtime}.py").is_file()


def test_the_profiles_that_users_were_promised_are_there() -> None:
    assert set(builtin_names()) >= {
        "arm-cpu", "raspberry-pi-4", "raspberry-pi-5", "intel-npu", "intel-npu-meteor-lake",
        "intel-npu-lunar-lake", "coral-tpu", "coral-usb", "coral-dev-board", "x86-cpu",
    }  # fmt: skip


def test_a_profile_inherits_what_it_does_not_state() -> None:
    assert lineage("raspberry-pi-4") == ("raspberry-pi-4", "arm-cpu")
    pi, arm = load_profile("raspberry-pi-4"), load_profile("arm-cpu")
    assert pi.precisions == arm.precisions
    assert pi.latency_p95_ms < arm.latency_p95_ms


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ProfileUnknown, match="did you mean 'coral-tpu'"):
        load_profile("corral-tpu")


def write(folder: Path, name: str, text: str) -> str:
    path = folder / f"{name}.toml"
    path.write_text(text)
    return str(path)


def test_a_profile_file_of_ones_own_extends_a_builtin(tmp_path: Path) -> None:
    own = 'format = "edgefleet.profile/1"\nname = "kiosk"\ntitle = "Kiosk"\nextends = "raspberry-pi-5"\n'
    path = write(tmp_path, "kiosk", own)
    assert lineage(path) == ("kiosk", "raspberry-pi-5", "arm-cpu")
    assert load_profile(path).memory_bytes == load_profile("raspberry-pi-5").memory_bytes


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        ("latency_p59_ms = 3.0", "unknown key 'latency_p59_ms'; did you mean 'latency_p95_ms'"),
        ("memory_bytes = -1", "memory_bytes: .*found -1"),
        ("precisions = ['int4']", "precisions.0"),
        ("[accelerator]\nkind = 'edge-tpu'\nmemory_byte = 8", "did you mean 'memory_bytes'"),
        ("memory_bytes = ", "not TOML"),
        ("extends = 3", "not TOML|must be the name"),
    ],
)
def test_a_fault_is_named_on_one_line(tmp_path: Path, extra: str, text: str) -> None:
    own = 'format = "edgefleet.profile/1"\nname = "kiosk"\ntitle = "Kiosk"\nextends = "arm-cpu"\n'
    with pytest.raises(ProfileInvalid, match=text) as refusal:
        load_profile(write(tmp_path, "kiosk", own + extra))
    assert "\n" not in str(refusal.value)


def test_a_circle_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a", 'name = "a"\nextends = "b"\n')
    write(tmp_path, "b", 'name = "b"\nextends = "a"\n')
    with pytest.raises(ProfileInvalid, match="extends itself through a -> b -> a"):
        load_profile(str(tmp_path / "a.toml"))


def test_a_newer_format_says_so(tmp_path: Path) -> None:
    with pytest.raises(FormatTooNew, match="update edgefleet"):
        load_profile(write(tmp_path, "a", 'format = "edgefleet.profile/2"\nname = "a"\n'))
