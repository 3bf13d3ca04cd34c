"""What the agent says of its own use, from the files of Linux."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil
import pytest

from edge_agent.device.resources import read_resources


def test_memory_is_what_another_reader_of_it_finds() -> None:
    ours, theirs = read_resources().rss_bytes, psutil.Process().memory_info().rss
    assert abs(ours - theirs) < 8 << 20


def test_processor_time_goes_on() -> None:
    before = read_resources().cpu_s
    deadline_s = time.process_time() + 0.02
    while time.process_time() < deadline_s:
        pass
    assert read_resources().cpu_s >= before + 0.02


def device(root: Path, **sensors: str) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/statm").write_text("90000 1234 800 1 0 500 0\n")
    for name, content in sensors.items():
        kind, number = name.split("_")
        at = root / f"sys/class/{kind}" / {"hwmon": "hwmon0", "thermal": f"thermal_zone{number}"}[kind]
        at.mkdir(parents=True, exist_ok=True)
        (at / (f"temp{number}_input" if kind == "hwmon" else "temp")).write_text(content)
    return root


def test_the_hottest_sensor_counts_of_both_kinds(tmp_path: Path) -> None:
    found = read_resources(device(tmp_path, hwmon_1="48312\n", hwmon_2="39000\n", thermal_0="51100\n"))
    assert found.temperature_c == 51.1
    assert found.rss_bytes == 1234 * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("said", ["", "N/A\n"])
def test_a_sensor_that_says_no_number_is_passed_over(said: str, tmp_path: Path) -> None:
    assert read_resources(device(tmp_path, hwmon_1=said, thermal_1="40000")).temperature_c == 40.0


def test_a_device_without_a_sensor_has_no_temperature(tmp_path: Path) -> None:
    assert read_resources(device(tmp_path)).temperature_c is None
