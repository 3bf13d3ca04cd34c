"""What doctor says of the service's byte code, of files that Python's own compiler made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.device import doctor
from edge_agent.device.bytecode import examine
from edge_agent.device.finding import Grade
from edge_agent.device.home import Home


@pytest.fixture
def release(tmp_path: Path) -> Path:
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "taught.py").write_text('"""Taught."""\n')
    command = [sys.executable, "-m", "compileall", "-qq", "-o", "2", str(tmp_path / "library")]
    environment = os.environ | {"PYTHONPYCACHEPREFIX": str(tmp_path / "bytecode")}
    subprocess.run(command, check=True, env=environment, timeout=60)
    return tmp_path


def grades(release: Path) -> list[Grade]:
    return [finding.grade for finding in examine(release, [release / "library" / "taught.py"])]


def test_byte_code_of_the_sources_that_stand_there_is_good(release: Path) -> None:
    assert grades(release) == [Grade.GOOD]


def test_a_source_that_changed_is_told(release: Path) -> None:
    source = release / "library" / "taught.py"
    source.write_text('"""Taught otherwise."""\n')
    assert grades(release) == [Grade.NOTICE]


def test_a_source_of_another_time_is_told(release: Path) -> None:
    os.utime(release / "library" / "taught.py", (1e9, 1e9))
    assert grades(release) == [Grade.NOTICE]


def test_byte_code_of_another_python_is_told(release: Path) -> None:
    (compiled,) = (release / "bytecode").rglob("taught.*.pyc")  # the compiler leaves its own there, too
    compiled.write_bytes(b"\0\0\r\n" + compiled.read_bytes()[4:])
    assert grades(release) == [Grade.NOTICE]
    compiled.unlink()
    assert grades(release) == [Grade.NOTICE]


def test_nothing_is_said_where_no_installer_was(tmp_path: Path) -> None:
    assert list(examine(tmp_path)) == []


def test_doctor_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bytecode").mkdir()  # as of a Python that was replaced: nothing of it fits
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    (found,) = [one for one in doctor.examine(Home(tmp_path / "home")) if one.subject == "byte code"]
    assert found.grade is Grade.NOTICE
    assert found.advice == "run install.sh again"
