"""Builds with an NPU compiler: a stand-in that gives estimates, for Intel's is not here in most places."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fit_files import digits_options

from edge_contracts.bundle import open_bundle
from edge_contracts.profile import load_profile
from edge_convert.build import build
from edge_convert.device import npu
from edge_convert.device.npu_choice import compiler_for, platforms_of
from edge_convert.errors import CompilerMissing

# $2 is the platform, $3 the precision, $4 where the blob goes
ESTIMATES = """#!/bin/sh
echo "compiler wonder 3.1"
case "$3" in {cases} esac
printf blob > "$4"
"""


def built(folder: Path, monkeypatch: pytest.MonkeyPatch, cases: str, profile: str) -> dict[str, Any]:
    """The report of a build with a compiler that says so; the bundle's manifest with it."""
    program = folder / "npu-compile"
    program.write_text(ESTIMATES.format(cases=cases))
    program.chmod(0o755)
    monkeypatch.setenv(npu.VARIABLE, str(program))
    options = digits_options(folder, profiles=[profile])
    result = build(options, lambda text: None)
    assert result.passed
    (report,) = json.loads((options.output / "report.json").read_text(encoding="utf-8"))["profiles"]
    manifest = open_bundle(options.output / report["bundle"]).manifest
    (artifact,) = manifest.artifacts
    return {**report, "precision": artifact.precision, "not_compiled": artifact.not_compiled}


METEOR_LAKE = "intel-npu-meteor-lake"


def test_the_faster_form_by_the_compilers_estimate_is_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = "int8) echo 'estimate_us 35.6';; float16) echo 'estimate_us 23.4';;"
    found = built(tmp_path, monkeypatch, cases, METEOR_LAKE)
    assert found["precision"] == "float16"
    assert "the NPU compiler's choice: int8 35.6 us, float16 23.4 us" in found["summary"]
    assert "NPU 3720 takes it, about 23.4 us by its own estimate" in found["not_compiled"]
    by_precision = {one["precision"]: one for one in found["npu_compilations"]}
    assert by_precision["int8"]["estimate_us"] == 35.6
    assert by_precision["float16"] == {
        "precision": "float16",
        "platform": "3720",
        "compiler": "wonder 3.1",
        "compiled": True,
        "estimate_us": 23.4,
        "blob_bytes": 4,
        "refusal": "",
    }
    chosen = [t for t in found["candidates"] if t["state"] == "chosen"]
    assert [t["precision"] for t in chosen] == ["float16"]


def test_a_form_that_the_compiler_refuses_is_not_shipped_when_another_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = "int8) echo 'no such layer'; exit 1;; float16) echo 'estimate_us 23.4';;"
    found = built(tmp_path, monkeypatch, cases, "intel-npu")
    assert found["precision"] == "float16"
    assert {one["platform"] for one in found["npu_compilations"]} == {"3720", "4000"}
    refused = [one for one in found["npu_compilations"] if not one["compiled"]]
    assert {one["refusal"] for one in refused} == {"no such layer"}


def test_when_everything_is_refused_the_order_of_the_profile_stands_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = built(tmp_path, monkeypatch, "*) echo 'no such layer'; exit 1;;", METEOR_LAKE)
    assert found["precision"] == "int8"
    assert "NPU 3720 refuses it: no such layer" in found["not_compiled"]


def test_a_compiler_that_was_named_and_is_gone_refuses_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(npu.VARIABLE, "/nowhere/npu-compile")
    with pytest.raises(CompilerMissing, match="/nowhere/npu-compile"):
        build(digits_options(tmp_path, profiles=[METEOR_LAKE]), lambda text: None)


def test_other_devices_ask_no_npu_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(npu.VARIABLE, "/nowhere/npu-compile")
    assert compiler_for(load_profile("arm-cpu")) is None
    assert compiler_for(load_profile("coral-usb")) is None
    assert platforms_of(load_profile("intel-npu-lunar-lake")) == ("4000",)
