"""New profiles: the file, its comments, and what is found out about a machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_contracts.errors import ProfileInvalid, ProfileUnknown
from edge_contracts.profile import Accelerator, DeviceProfile, builtin_names, load_profile
from edge_convert import cli, costs
from edge_convert import inspect as inspection
from edge_convert.device import probe, probe_rate, profile_new, profile_text
from edge_convert.device.probe import Machine

DOCUMENT = Path(__file__).parents[3] / "docs" / "profiles.md"


def test_every_field_is_described_and_no_other() -> None:
    assert list(profile_text.FIELDS) and set(profile_text.FIELDS) == set(DeviceProfile.model_fields)
    assert set(profile_text.ACCELERATOR_FIELDS) == set(Accelerator.model_fields)


def test_the_document_has_the_table_of_the_fields_as_they_are() -> None:
    assert profile_text.table_of_fields() in DOCUMENT.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", builtin_names())
def test_a_written_profile_reads_back_the_same(name: str, tmp_path: Path) -> None:
    profile = load_profile(name)
    path = tmp_path / "written.toml"
    path.write_text(profile_text.to_toml(profile), encoding="utf-8")
    assert load_profile(str(path)) == profile
    assert "# The part of the device that is not its CPU" in path.read_text(encoding="utf-8")


def test_a_new_profile_is_like_another_and_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "board.toml"
    assert cli.run(["profiles", "new", "board", "--like", "coral-usb", "--output", str(path)]) == 0
    made, base = load_profile(str(path)), load_profile("coral-usb")
    assert (made.name, made.extends) == ("board", "")
    assert made.accelerator == base.accelerator and made.macs_per_second == base.macs_per_second
    assert "edge-convert profiles show FILE" in path.read_text(encoding="utf-8")


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "board.toml"
    path.write_text("mine", encoding="utf-8")
    assert cli.run(["profiles", "new", "board", "--output", str(path)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert path.read_text(encoding="utf-8") == "mine"


def test_a_name_that_is_none_and_a_model_that_is_unknown_are_refused() -> None:
    with pytest.raises(ProfileInvalid, match="name"):
        profile_new.like("a name", "arm-cpu")
    with pytest.raises(ProfileUnknown, match="arm-cpuu"):
        profile_new.like("board", "arm-cpuu")


def test_this_machine_is_probed_and_its_profile_serves(tmp_path: Path) -> None:
    path = tmp_path / "here.toml"
    assert cli.run(["profiles", "new", "here", "--probe", "--output", str(path), "--json"]) == 0
    made = load_profile(str(path))
    found = probe.machine()
    assert found.architecture in made.architectures
    assert 0 < made.memory_bytes < found.memory_bytes
    if not found.accelerators:
        assert set(made.macs_per_second) == {"int8", "float32"}
        # a processor of this century does a hundred million and no quadrillion a second
        assert all(1e8 < rate < 1e15 for rate in made.macs_per_second.values())
    assert inspection.fit(probe_rate.network(), made).rows


def test_the_network_of_the_probe_is_mobilenets(tmp_path: Path) -> None:
    graph = probe_rate.network()
    # Howard et al., arXiv:1704.04861: 569 million at width 1 and 224 pixels; a quarter of the width and
    # 96 pixels are MLPerf Tiny's 7.5 million
    assert costs.macs(graph) == pytest.approx(7.5e6, rel=0.02)
    assert costs.macs(probe_rate.network(seed=1)) == costs.macs(graph)


# --- what is found, in folders that stand for a machine's -------------------------------------------


def laid_out(root: Path, files: dict[str, str]) -> Machine:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return probe.machine(root)


CPUINFO = "processor\t: 0\nmodel name\t: A Processor 9000\n"


def test_processor_and_memory_are_read(tmp_path: Path) -> None:
    found = laid_out(
        tmp_path, {"proc/cpuinfo": CPUINFO, "proc/meminfo": "MemTotal:        4000000 kB\nMemFree: 1 kB\n"}
    )
    assert (found.cpu, found.memory_bytes) == ("A Processor 9000", 4_096_000_000)
    assert found.accelerators == ()
    assert found.runtimes["litert"]


def test_a_boards_name_comes_from_its_device_tree(tmp_path: Path) -> None:
    files = {"proc/cpuinfo": "processor\t: 0\n", "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0"}
    assert laid_out(tmp_path, files).cpu == "Raspberry Pi 5 Model B Rev 1.0"


@pytest.mark.parametrize(("vendor", "product"), [("1a6e", "089a"), ("18d1", "9302")])
def test_an_edge_tpu_on_usb_is_seen(tmp_path: Path, vendor: str, product: str) -> None:
    usb = "sys/bus/usb/devices/1-1"
    found = laid_out(tmp_path, {f"{usb}/idVendor": f"{vendor}\n", f"{usb}/idProduct": f"{product}\n"})
    assert (found.accelerators, found.seen) == (("edge-tpu",), (f"USB {vendor}:{product}",))


def test_an_edge_tpu_on_pcie_is_seen(tmp_path: Path) -> None:
    assert laid_out(tmp_path, {"dev/apex_0": ""}).seen == ("/dev/apex_0",)


def test_another_usb_device_is_no_edge_tpu(tmp_path: Path) -> None:
    usb = "sys/bus/usb/devices/1-1"
    assert not laid_out(tmp_path, {f"{usb}/idVendor": "18d1\n", f"{usb}/idProduct": "4ee7\n"}).accelerators


@pytest.mark.parametrize(("vendor", "seen"), [("0x8086\n", ("intel-npu",)), ("0x1022\n", ())])
def test_intels_npu_is_told_from_other_makers(tmp_path: Path, vendor: str, seen: tuple[str, ...]) -> None:
    files = {"dev/accel/accel0": "", "sys/class/accel/accel0/device/vendor": vendor}
    assert laid_out(tmp_path, files).accelerators == seen


def machine(**changes: object) -> Machine:
    values: dict[str, object] = {
        "architecture": "aarch64",
        "cpu": "A board",
        "cores": 4,
        "memory_bytes": 4 << 30,
        "accelerators": (),
        "seen": (),
        "runtimes": {"litert": "2.3.0"},
    }
    return Machine(**(values | changes))  # type: ignore[arg-type]


def test_measured_rates_are_those_of_the_processor() -> None:
    made = profile_new.of_machine("board", machine(), {"int8": 1.23456e10, "float32": 5e9})
    assert made.macs_per_second == {"int8": 1.23e10, "float32": 5.0e9}
    assert (made.target, made.architectures) == ("tflite", ("aarch64", "arm64"))
    assert made.memory_bytes == 1 << 30


def test_an_accelerator_brings_its_demands_and_keeps_its_own_rates() -> None:
    found = machine(accelerators=("edge-tpu", "intel-npu"), seen=("/dev/apex_0", "/dev/accel/accel0"))
    made = profile_new.of_machine("board", found, {"int8": 1e10})
    assert made.integer_io and made.accelerator is not None and made.accelerator.kind == "edge-tpu"
    assert made.macs_per_second == load_profile("coral-usb").macs_per_second
    assert "edge-tpu seen" in made.source
    assert any("make another for: intel-npu" in line for line in profile_new.head_of(found))
    npu = profile_new.of_machine("laptop", machine(accelerators=("intel-npu",)), {})
    assert npu.target == "openvino" and npu.explicit_padding
