"""Versions are read without loading a library, and another one is noticed."""

from __future__ import annotations

import platform
from pathlib import Path

from edge_agent.guard.software import changes, read_software


def test_a_cpu_has_a_kernel_an_agent_and_a_runtime() -> None:
    found = read_software("litert", "CPU")
    assert found["kernel"] == platform.release()[:64]
    assert set(found) == {"kernel", "agent", "litert"}
    assert all(found.values())


def test_the_drivers_of_an_accelerator_are_told_apart_by_their_content(tmp_path: Path) -> None:
    folder = tmp_path / "usr/lib/x86_64-linux-gnu"
    folder.mkdir(parents=True)
    assert "libedgetpu" not in read_software("edgetpu", "EDGETPU", tmp_path)
    (folder / "libedgetpu.so.1.0").write_bytes(b"release 16")
    (folder / "libedgetpu.so.1").symlink_to("libedgetpu.so.1.0")
    (tmp_path / "sys/module/apex").mkdir(parents=True)
    (tmp_path / "sys/module/apex/version").write_text("1.2\n")
    before = read_software("edgetpu", "EDGETPU", tmp_path)
    assert before["libedgetpu"].startswith("libedgetpu.so.1.0 ")
    assert before["apex"] == "1.2"
    (folder / "libedgetpu.so.1.0").write_bytes(b"release 17, longer")
    after = read_software("edgetpu", "EDGETPU", tmp_path)
    assert changes(before, after) == f"libedgetpu {before['libedgetpu']} -> {after['libedgetpu']}"
    assert "apex" not in read_software("edgetpu", "CPU", tmp_path)


def test_only_what_is_known_from_before_can_have_changed() -> None:
    assert changes({}, {"kernel": "6.1"}) == ""
    assert changes({"kernel": "6.1"}, {"kernel": "6.1", "litert": "2.1"}) == ""
    assert changes({"kernel": "6.1", "litert": "2.1"}, {"kernel": "6.6", "litert": "2.1"}) == (
        "kernel 6.1 -> 6.6"
    )
    assert changes({"openvino": "2026.4"}, {"openvino": ""}) == "openvino 2026.4 -> none"
