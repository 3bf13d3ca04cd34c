"""Models on an emulated ARM CPU. What needs the userland is skipped where `make arm` has not run."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from fit_files import int8_candidate
from small_nets import picture_net

from edge_convert.device import arm
from edge_convert.device.arm import Userland
from edge_convert.engine import LiteRtEngine, run
from edge_convert.errors import EmulationFailed, EmulationMissing


def test_instructions_are_what_lies_between_readings_less_the_cost_of_reading() -> None:
    # warm-up, then three runs: reading costs 10, the model 1000, once 1004
    marks = [5, 25, 9000, 9100, 9110, 10120, 10200, 10210, 11224, 11300, 11310, 12320]
    assert arm.instructions_of(marks) == 1000


def test_no_readings_are_no_count() -> None:
    assert arm.instructions_of([]) is None
    assert arm.marks_in("INFO: instructions 4 are\n") == []
    assert arm.marks_in("INFO: hello\ninstructions 12\ninstructions 15\n") == [12, 15]


def test_a_missing_userland_is_refused_with_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(EmulationMissing, match="edge-convert arm-userland"):
        arm.find(tmp_path)


def test_a_userland_is_found_through_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(arm.VARIABLE, str(tmp_path))
    with pytest.raises(EmulationMissing, match=str(tmp_path)):
        arm.find()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python-arm").touch()
    assert arm.find() == Userland(tmp_path)


def test_a_userland_without_a_counter_does_not_make_a_number_up(tmp_path: Path) -> None:
    with pytest.raises(EmulationMissing, match="cannot count"):
        arm.instructions(b"", {}, userland=Userland(tmp_path))


def test_an_emulation_that_cannot_start_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python-arm").touch()  # not executable
    with pytest.raises(EmulationFailed, match="python-arm"):
        arm.run(b"", {"x": np.zeros((1, 2), np.int8)}, userland=Userland(tmp_path))


def test_answers_and_instructions_come_from_an_emulated_cpu(arm_userland: Userland) -> None:
    content = int8_candidate(picture_net(), "coral-tpu").files[".tflite"]
    engine = LiteRtEngine(content)
    port = engine.inputs[0]
    feeds = {port.name: np.random.RandomState(0).randint(-128, 128, (3, *port.shape[1:])).astype(np.int8)}
    there = arm.run(content, feeds, "cortex-a76", arm_userland)
    here = run(engine, feeds)
    assert set(there.answers) == set(here)
    for name, codes in here.items():
        assert there.answers[name].dtype == codes.dtype
        assert np.abs(there.answers[name].astype(int) - codes.astype(int)).max() <= 1
    if arm_userland.counts:
        # of so small a model some hundred instructions are Python's, and not the same in each process
        assert there.instructions == pytest.approx(
            arm.instructions(content, feeds, "cortex-a76", arm_userland), rel=0.05
        )
        # without the dot product of the A76 the same int8 convolutions take the A72 more instructions
        assert there.instructions is not None
        assert arm.instructions(content, feeds, "cortex-a72", arm_userland) > there.instructions


def test_a_file_that_does_not_run_there_is_refused(arm_userland: Userland) -> None:
    with pytest.raises(EmulationFailed, match="does not run on an emulated cortex-a72"):
        arm.run(b"not a model", {"x": np.zeros((1, 2), np.int8)}, "cortex-a72", arm_userland)


def test_a_host_that_is_no_debian_cannot_make_a_userland(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("bash", "dirname", "mkdir"):
        (programs / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(EmulationMissing, match="needs a Debian host"):
        arm.make(tmp_path / "userland")
