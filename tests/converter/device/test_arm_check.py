"""Answers on ARM against those here: the rule by hand, and bundles in the real emulation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fit_files import digits_options

from edge_contracts.bundle import open_bundle
from edge_contracts.profile import load_profile
from edge_convert import cli
from edge_convert.build import build
from edge_convert.device import arm, arm_check
from edge_convert.device.arm import Userland
from edge_convert.device.arm_check import ArmCheck, compare, finding
from edge_convert.errors import DoesNotFit, EmulationMissing
from edge_convert.gates import Verdict

HERE = np.array([[-128, 10, 90], [50, 40, 0]], np.int8)


def judged(there: object, here: object = HERE, task: str = "classification") -> ArmCheck:
    ours, theirs = np.asarray(here), np.asarray(there)
    return compare("int8", "cortex-a76", {"y": ours}, {"y": theirs}, task, 1000)  # type: ignore[arg-type]


def test_one_code_apart_is_the_same_answer() -> None:
    one_off = HERE.copy()
    one_off[0, 1] += 1
    check = judged(one_off)
    assert (check.worst_lsb, check.same_class, check.passed) == (1, 1.0, True)
    assert finding([check]).verdict is Verdict.PASS
    assert "cortex-a76 1000 instructions" in finding([check]).reason


def test_two_codes_apart_are_refused() -> None:
    two_off = HERE.copy()
    two_off[0, 1] += 2
    assert judged(two_off).reason == "answers differ by 2 codes, 1 allowed"


def test_codes_do_not_wrap_around() -> None:
    assert judged(np.array([[127]], np.int8), np.array([[-128]], np.int8), "other").worst_lsb == 255


def test_a_class_that_changes_by_one_code_is_refused() -> None:
    here = np.array([[10, 11, 0]], np.int8)
    there = np.array([[11, 11, 0]], np.int8)
    assert judged(there, here).worst_lsb == 1
    assert judged(there, here).reason == "100.0% of the golden inputs change their class"
    assert judged(there, here, "reconstruction").passed


def test_float_answers_are_held_to_what_two_runtimes_differ_by() -> None:
    here = np.array([[1.0, 2.0, 3.0]], np.float32)
    assert judged(here * np.float32(1 + 1e-6), here).passed
    worse = judged(here * np.float32(1.01), here)  # a hundredth is 40 dB
    assert worse.reason == "answers differ by 40.0 dB, at least 60 asked for"
    assert finding([worse]).verdict is Verdict.FAIL


def test_artifacts_for_arm_are_verified_and_others_are_not() -> None:
    named = ("arm-cpu", "raspberry-pi-4", "coral-usb", "x86-cpu", "intel-npu")
    assert [arm_check.concerns(load_profile(name)) for name in named] == [True, True, True, False, False]


def test_a_build_that_shall_verify_needs_the_userland_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(arm.VARIABLE, str(tmp_path / "nothing"))
    options = digits_options(tmp_path, verify_arm=True)
    with pytest.raises(EmulationMissing, match="edge-convert arm-userland"):
        build(options)
    assert not options.output.exists()


def test_a_build_and_a_bundle_are_verified_in_emulation(
    arm_userland: Userland,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(arm.VARIABLE, str(arm_userland.folder))
    options = digits_options(tmp_path, recipe="wi8_ai8_minmax_bc", verify_arm=True)
    assert build(options).passed
    (report,) = json.loads((options.output / "report.json").read_text(encoding="utf-8"))["profiles"]
    assert [(c["cpu"], c["passed"], c["same_class"]) for c in report["arm_checks"]] == [
        ("cortex-a76", True, 1.0),
        ("cortex-a72", True, 1.0),
    ]
    assert any(f["gate"] == "arm" and f["verdict"] == "pass" for f in report["findings"])
    bundle = options.output / report["bundle"]
    assert cli.run(["verify-arm", str(bundle), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    for first, second in zip(report["arm_checks"], again, strict=True):
        assert second["worst_lsb"] == first["worst_lsb"] <= 1
        if arm_userland.counts:
            assert second["instructions"] == pytest.approx(first["instructions"], rel=0.05)


def test_a_bundle_without_anything_for_a_cpu_is_refused(arm_userland: Userland, tmp_path: Path) -> None:
    options = digits_options(tmp_path, profiles=["intel-npu"], recipe="wi8_ai8_minmax_bc")
    (outcome,) = build(options).outcomes
    bundle = open_bundle(options.output / outcome.bundle)
    with pytest.raises(DoesNotFit, match="has no LiteRT artifact"):
        arm_check.of_files(bundle.manifest, bundle.contents, arm_userland)
